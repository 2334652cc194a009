"""Formats of secrets that are redacted without being registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Span = tuple[int, int, str]

_AWS_ID = re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])")
_FORTY = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_HEX = re.compile(r"[0-9a-fA-F]+")
_AWS_WINDOW = 300
_AWS_NAMED = re.compile(
    r"(?i)(?:aws_?secret|secret_?access_?key|session_?token|security-token)[\w\\\"' ]{0,20}"
    r"[:=][\s\\\"']*([A-Za-z0-9/+]{40,}=*)"
)
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s\\:,.\x00\"-]*?"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|(?=[^A-Za-z0-9+/=\s\\:,.\x00\"-])|\Z)"
)
_URL = re.compile(r"://[^\s/:@\"'<>]*:([^\s/@\"'<>]+)@")
_PLACEHOLDER = re.compile(r"\[redacted:|[{$<*%]|\.\.\.|…")
_AUTHORIZATION = re.compile(
    r"(?i)authorization[\\\"']*\s*[:=]\s*b?[\\\"']*\s*"
    r"((?:(?:basic|bearer|token|negotiate|digest)\s+[^\s\"',;\\]+)"
    r"|aws4-hmac-sha256[^\r\n\"'\\]+|[^\s\"',;\\\[]{16,})"
)
_BEARER = re.compile(r"(?i)\bbearer\s+([A-Za-z0-9._~+/-]{16,}=*)")
_TOKENS = (
    ("github-token", "_", r"\bgh[pousr]_[A-Za-z0-9]{30,255}|\bgithub_pat_[A-Za-z0-9_]{22,255}"),
    ("stripe-key", "_", r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{16,}"),
    ("slack-token", "xox", r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", ".slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/_-]+"),
    (
        "private-key",
        "LS0tLS1CRUdJTi",
        r"LS0tLS1CRUdJTi(?:BPUEVOU1NI|BSU0Eg|BQUklWQVRF|BFQyBQ|BFTkNSW)[A-Za-z0-9+/=\s\\]+",
    ),
    ("jwt", "eyJ", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
)

PREFIXES = (
    "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "hooks.slack.com",
    "sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_", "eyj", "-----begin", "://",
    "ls0tls1crudjti",
    "authorization", "bearer", "secret_access_key", "secretaccesskey", "session_token",
)  # fmt: skip
"""The first characters of these secrets, in lower case; a stream holds back text from there."""
LONGEST_PREFIX = max(map(len, PREFIXES))


def _aws(text: str) -> Iterator[Span]:
    for match in _AWS_ID.finditer(text):
        yield *match.span(), "aws-access-key-id"
        start = max(0, match.start() - _AWS_WINDOW)
        for near in _FORTY.finditer(text, start, match.end() + _AWS_WINDOW):
            if not _HEX.fullmatch(near.group()):
                yield *near.span(), "aws-secret-access-key"


def _groups(pattern: re.Pattern[str], name: str) -> Callable[[str], Iterator[Span]]:
    group = pattern.groups

    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            if not _PLACEHOLDER.match(match.group(group)):
                yield *match.span(group), name

    return find


Finder = Callable[[str], Iterator[Span]]
_EXACT: tuple[tuple[tuple[str, ...], Finder], ...] = (
    (("AKIA", "ASIA"), _aws),
    (("-----BEGIN",), _groups(_PEM, "private-key")),
    (("://",), _groups(_URL, "url-password")),
    *(((trigger,), _groups(re.compile(shape), name)) for name, trigger, shape in _TOKENS),
)
_IN_ANY_CASE: tuple[tuple[tuple[str, ...], Finder], ...] = (
    (("secret", "session", "security-token"), _groups(_AWS_NAMED, "aws-secret-access-key")),
    (("authorization",), _groups(_AUTHORIZATION, "authorization")),
    (("bearer",), _groups(_BEARER, "authorization")),
)


def find(text: str) -> list[Span]:
    """Return (start, end, name) of each secret in `text`.

    For speed, a regular expression is used only if one of its triggers occurs.
    """
    lowered = text.lower()
    return [
        span
        for finders, searched in ((_EXACT, text), (_IN_ANY_CASE, lowered))
        for triggers, finder in finders
        if any(trigger in searched for trigger in triggers)
        for span in finder(text)
    ]
