"""Secrets that give themselves away by their shape, though nobody registered them."""

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
    ("github-token", "gh", r"\bgh[pousr]_[A-Za-z0-9]{30,255}"),
    ("github-token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,255}"),
    ("slack-token", "xox", r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/_-]+"),
    ("stripe-key", "_live_", r"\b[srp]k_live_[A-Za-z0-9]{16,}"),
    ("stripe-key", "_test_", r"\b[srp]k_test_[A-Za-z0-9]{16,}"),
    ("stripe-key", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{16,}"),
    ("jwt", "eyj", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
)

STARTS = (
    "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "hooks.slack.com",
    "sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_", "eyj", "-----begin", "://",
    "authorization", "bearer", "secret_access_key", "secretaccesskey", "session_token",
)  # fmt: skip
"""What a shaped secret begins with, in lower case: where a stream has to hold its breath."""
LONGEST_START = max(map(len, STARTS))


def _aws(text: str) -> Iterator[Span]:
    for found in _AWS_ID.finditer(text):
        yield *found.span(), "aws-access-key-id"
        start = max(0, found.start() - _AWS_WINDOW)
        for near in _FORTY.finditer(text, start, found.end() + _AWS_WINDOW):
            if not _HEX.fullmatch(near.group()):
                yield *near.span(), "aws-secret-access-key"


def _groups(pattern: re.Pattern[str], name: str) -> Callable[[str], Iterator[Span]]:
    group = pattern.groups

    def find(text: str) -> Iterator[Span]:
        for found in pattern.finditer(text):
            if not _PLACEHOLDER.match(found.group(group)):
                yield *found.span(group), name

    return find


_FINDERS: tuple[tuple[tuple[str, ...], Callable[[str], Iterator[Span]]], ...] = (
    (("akia", "asia"), _aws),
    (("secret", "session", "security-token"), _groups(_AWS_NAMED, "aws-secret-access-key")),
    (("-----begin",), _groups(_PEM, "private-key")),
    (("://",), _groups(_URL, "url-password")),
    (("authorization",), _groups(_AUTHORIZATION, "authorization")),
    (("bearer",), _groups(_BEARER, "authorization")),
    *(((trigger,), _groups(re.compile(shape), name)) for name, trigger, shape in _TOKENS),
)


def find(text: str) -> list[Span]:
    """Return (start, end, name) of everything in `text` that has the shape of a secret.

    A regular expression runs only where its cheap trigger word occurs at all.
    """
    lowered = text.lower()
    return [
        span
        for triggers, finder in _FINDERS
        if any(trigger in lowered for trigger in triggers)
        for span in finder(text)
    ]
