"""environments/signers: valid lines, and one identity per person."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook import signers
from daybook.errors import SettingsError
from daybook.signers import APPROVAL, RECORD

BOTH = 'namespaces="daybook-record,daybook-approval"'


def public(number: int = 1) -> str:
    """Return a well-formed public key without a private key."""
    parts = (b"ssh-ed25519", bytes([number]) * 32)
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def parse(*lines: str) -> signers.Signers:
    return signers.parse("\n".join(lines) + "\n", "environments/signers")


def refused(*lines: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(*lines)
    assert caught.value.exit_code == 2
    return "; ".join(caught.value.details)


def test_a_line_has_name_namespaces_key_dates_and_login():
    options = f'{BOTH},valid-after="20260101",valid-before=20270101Z'
    (one,) = parse(
        "# the team", "", f"Ann@Example.com {options} {public()} laptop github:Ann-X"
    ).lines
    assert (one.line, one.name, one.namespaces) == (3, "ann@example.com", (RECORD, APPROVAL))
    assert (one.key, one.github) == (public(), "ann-x")
    assert one.fingerprint == signers.fingerprint(public())
    assert (one.valid_after.year, one.valid_before.year) == (2026, 2027)


def test_the_fingerprint_equals_that_of_ssh_keygen(tmp_path):
    file = tmp_path / "key.pub"
    file.write_text(public())
    said = subprocess.run(["ssh-keygen", "-l", "-f", file], capture_output=True, text=True)
    assert signers.fingerprint(public()) in said.stdout


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 AAAA!", "\ufffd \ufffd"])
def test_an_invalid_key_has_no_fingerprint(text):
    assert signers.fingerprint(text) == ""


def test_a_missing_file_allows_no_key(tmp_path):
    assert signers.load(tmp_path) == signers.Signers()


@pytest.mark.attack("F3", "a signers line that lets a key pass for another person")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("*@example.com {both} {key}", "a pattern instead of a name"),
        ("ann@example.co? {both} {key}", "a pattern instead of a name"),
        ("!eve@example.com {both} {key}", "a pattern instead of a name"),
        ("ann@x,bob@x {both} {key}", "several names"),
        ('"ann@x" {both} {key}', "no name such as"),
        ("\u0430nn@example.com {both} {key}", "no name such as"),
        ("ann@x cert-authority,{both} {key}", "a certificate authority"),
        ("ann@x CERT-AUTHORITY {key}", "a certificate authority"),
        ('ann@x namespaces="*" {key}', "namespaces that are empty, patterns"),
        ('ann@x namespaces="daybook-*" {key}', "namespaces that are empty, patterns"),
        ('ann@x namespaces="!file,daybook-approval" {key}', "namespaces that are empty, patterns"),
        ('ann@x namespaces="" {key}', "namespaces that are empty"),
        ("ann@x {both},{both} {key}", "namespaces is set twice"),
        ("ann@x {both},no-touch-required {key}", "an option other than"),
        ("ann@x {both} , {key}", "no supported key type"),
        ('ann@x {both},valid-before="tomorrow" {key}', "a time that is not"),
        ('ann@x {both},valid-before="20260231" {key}', "a time that does not exist"),
        ('ann@x {both},valid-after="2027",valid-before="2026" {key}', "a time that is not"),
        ('ann@x {both},valid-after="20270101",valid-before="20260101" {key}', "is never valid"),
        ('ann@x {both},valid-after="20260101",valid-before="20260101" {key}', "is never valid"),
        ("ann@example.com. {both} {key}", "no name such as"),
        ("ann@example..com {both} {key}", "no name such as"),
        ("ann@.com {both} {key}", "no name such as"),
        ('ann@x {both},valid-before="٢٠٢٦٠١٠١" {key}', "a time that is not"),
        ("ann@x {both} ssh-dss AAAA", "no supported key type"),
        ("ann@x {both} ssh-ed25519", "no key after its type"),
        ("ann@x {both} ssh-ed25519 AAAA!", "an invalid key"),
        ("ann@x {both} ssh-rsa {blob}", "a key of another type than the one before it"),
        ("{key}", "no supported key type"),
        ('ann@x namespaces="daybook-record {key}', "an unmatched quotation mark"),
        ("ann@x {both} {key}\x00", "a control character"),
        ("# a comment\rann@x\x0bbob@x {both} {key}", None),
        ("ann@x {both} {key} github:", "github: without a login"),
        ("ann@x {both} {key} github:a github:b", "several GitHub logins"),
    ],
)
def test_an_invalid_line_is_named(line, problem):
    line = line.format(both=BOTH, key=public(), blob=public().split()[1])
    if problem is None:
        assert parse(line) == signers.Signers(), "it is one comment, whatever stands in it"
        return
    said = refused(f"bob@x {BOTH} {public(2)}", line)
    assert said.startswith("environments/signers:2: ")
    assert problem in said
    assert public().split()[1] not in said


@pytest.mark.attack("F3", "one person registers as two")
def test_a_key_belongs_to_one_name():
    one, two = f"ann@x {BOTH} {public()}", f"bob@x {BOTH} {public()} again"
    assert refused(one, two) == "environments/signers:2: the key of line 1 under another name"
    logins = (f"ann@x {BOTH} {public()} github:a", f"bob@x {BOTH} {public(2)} github:A")
    assert "the GitHub login of line 1" in refused(*logins)
    same = parse(one, f"ANN@x {BOTH} {public(2)}")
    assert {each.name for each in same.lines} == {"ann@x"}, "two keys of one person"


def test_all_invalid_lines_are_named_at_once():
    assert refused("*", "x", f"ann@x {BOTH} {public()}", "y").count("environments/signers:") == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (BOTH, ""),
        ("", "has no namespaces, so the key cannot sign"),
        ('namespaces="daybook-record"', "do not include daybook-approval"),
        (f'{BOTH},valid-before="20200101"', "not valid at this time"),
        (f'{BOTH},valid-after="20990101"', "not valid at this time"),
    ],
)
def test_a_refusal_has_a_reason(options, why):
    allowed = parse(f"ann@x {options} {public()}")
    said = allowed.refusal(signers.fingerprint(public()), APPROVAL)
    assert why in said
    assert bool(said) == bool(why)


def test_an_unknown_or_missing_key_may_not_sign():
    assert "is not in environments/signers" in parse().refusal("SHA256:x", APPROVAL)
    assert parse().refusal("", APPROVAL) == "no usable SSH key"


def test_dates_are_compared_at_the_time_of_signing():
    allowed = parse(f'ann@x {BOTH},valid-before="20260101" {public()}')
    mark = signers.fingerprint(public())
    assert allowed.allowed(mark, RECORD, datetime(2025, 12, 31, tzinfo=UTC)).name == "ann@x"
    assert allowed.allowed(mark, RECORD, datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("name", "is_one"), [("hello-workflows", True), ("ann-workflows@x", False), ("ann@x", False)]
)
def test_a_workflows_key_is_recognized_by_name(name, is_one):
    assert signers.is_workflow(name) == is_one


def test_a_large_or_binary_file_is_rejected(tmp_path):
    file = tmp_path / signers.FILE
    file.parent.mkdir()
    for content, problem in (
        (b"#" * (signers.MAX_BYTES + 1), "larger than the limit of 256 KiB"),
        (b"# a\n\xff\n", "environments/signers:2: not UTF-8"),
        (f"ann@x {BOTH} {public()}\n".encode() * 1001, ":1001: more than 1000 lines"),
    ):
        file.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            signers.load(tmp_path)
        assert problem in "; ".join(caught.value.details)


@pytest.mark.attack("F3", "a signers file that is no file, or a link out of what was reviewed")
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda file: file.mkdir(),
        lambda file: file.symlink_to("/dev/zero"),
        lambda file: file.symlink_to("signers"),
        lambda file: file.symlink_to("nowhere"),
    ],
)
def test_a_special_file_is_rejected_at_once(tmp_path, make):
    file = tmp_path / signers.FILE
    file.parent.mkdir()
    make(file)
    with pytest.raises(SettingsError, match="environments/signers is invalid"):
        signers.load(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_rejected_with_a_line(text):
    with suppress(SettingsError):
        found = signers.parse(text, "signers")
        assert all(signers.identity(each.name) == each.name for each in found.lines)
