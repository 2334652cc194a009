"""Secrets of a known format are redacted; similar text is not."""

from __future__ import annotations

import base64

import pytest

from daybook.record.redact import Redactor

KEY = (
    "-----BEGIN {0}PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n"
    "-----END {0}PRIVATE KEY-----"
)
SECRETS = {
    "id AKIA" + "Q3EGVXAMPLEKEY77 here": "id [redacted:aws-access-key-id] here",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY": (
        "aws_secret_access_key = [redacted:aws-secret-access-key]"
    ),
    "t ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": "t [redacted:github-token]",
    "t github_pat_" + "11ABCDEFG0abcdefghijkl_mnop": "t [redacted:github-token]",
    "t xoxb-" + "123456789012-abcdef": "t [redacted:slack-token]",
    "t sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc": "t [redacted:stripe-key]",
    "t eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.dozjgNry": "t [redacted:jwt]",
    "postgres://app:" + "s3same@db/app": "postgres://app:[redacted:url-password]@db/app",
    "Authorization: Bearer " + "abc123": "Authorization: [redacted:authorization]",
    '{"authorization": "Basic ' + 'YW5uOm9w"}': '{"authorization": "[redacted:authorization]"}',
    KEY.format("") + " end": "[redacted:private-key] end",
    KEY.format("OPENSSH ").replace("\n", "\\n"): "[redacted:private-key]",
}
ENCODED = [base64.b64encode(KEY.format(kind).encode()).decode() for kind in ("", "RSA ", "EC ")]
HARMLESS = (
    "Authorization: see the manual",
    "https://example.com/a:b@c",
    'f"https://{user}:{password}@host"',
    "commit 0db1f12aa3c1d6f0b3a4e5d6c7b8a9f0e1d2c3b4",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "plan-0123456789abcdef",
    "[redacted:url-password]",
    "postgres://app:[redacted:url-password]@db/app",
    "the bearer of this letter",
)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_of_a_known_format_is_redacted(text):
    assert Redactor().clean(text) == SECRETS[text]


@pytest.mark.parametrize("text", ENCODED)
def test_a_private_key_in_base64_is_redacted(text):
    assert Redactor().clean(f"key: {text}") == "key: [redacted:private-key]"


def test_the_secret_next_to_an_access_key_id_is_redacted():
    text = "AKIA" + "Q3EGVXAMPLEKEY77,wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY"
    assert "wJalr" not in Redactor().clean(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_unchanged(text):
    assert Redactor().clean(text) == text


@pytest.mark.parametrize("text", [text for text in SECRETS if "\n" not in text])
@pytest.mark.parametrize("cut", range(1, 50))
def test_a_secret_split_between_two_messages_is_redacted(text, cut):
    stream = Redactor().stream()
    assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == SECRETS[text]


def test_a_private_key_printed_line_by_line_is_redacted():
    stream = Redactor().stream()
    shown = [stream.feed(f"{line}\n") for line in KEY.format("EC ").splitlines()]
    assert "".join([*shown, stream.flush()]) == "[redacted:private-key]\n"
