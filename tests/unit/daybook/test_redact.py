"""The redactor finds registered values in every form and leaves other text alone."""

from __future__ import annotations

import base64
import html
import itertools
import json
import shlex
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.record.redact import Redactor

SECRET = "Tr0ub4dor&3 'horse'/x\"y"
CLEAN = "[redacted:DB]"
FORMS = {
    "plain": SECRET,
    "url": urllib.parse.quote(SECRET),
    "url, every character": urllib.parse.quote(SECRET, safe=""),
    "url, lower case": urllib.parse.quote(SECRET, safe="").replace("%2F", "%2f"),
    "form": urllib.parse.quote_plus(SECRET),
    "json": json.dumps(SECRET)[1:-1],
    "json in json": json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
    "repr": repr(SECRET)[1:-1],
    "html": html.escape(SECRET),
    "shell": shlex.quote(SECRET)[1:-1],
    "two lines": SECRET[:9] + "\n    " + SECRET[9:],
    "colours": SECRET[:9] + "\x1b[1;31m" + SECRET[9:],
    "framed": SECRET[:9] + "   │\n│ " + SECRET[9:],
}


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    assert redactor.add("DB", SECRET)
    return redactor


@pytest.mark.parametrize("form", FORMS)
def test_a_known_value_is_found_in_every_form(redactor, form):
    assert redactor.clean(f"a {FORMS[form]} b") == f"a {CLEAN} b"


@pytest.mark.parametrize("before", ["", "x", "ab"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_known_value_is_found_inside_base64(redactor, before, encode):
    encoded = encode(f"{before}{SECRET}:tail".encode()).decode()
    cleaned = redactor.clean(encoded)
    assert CLEAN in cleaned
    assert len(cleaned) - len(CLEAN) < 16


@pytest.mark.parametrize("value", ["", "1", "true", "admin", "password", "us-east-1", "aaaaaaaa"])
def test_a_short_or_common_value_is_not_registered(value):
    redactor = Redactor()
    assert not redactor.add("X", value)
    assert redactor.clean(f"it is {value}") == f"it is {value}"


def test_a_key_is_found_line_by_line():
    lines = [base64.b64encode(bytes(range(at, at + 45))).decode() for at in (0, 45, 90)]
    redactor = Redactor()
    redactor.add("KEY", "\n".join(lines))
    assert redactor.clean(f"only {lines[1]}!") == "only [redacted:KEY]!"


def test_credentials_in_the_environment_are_registered_by_name():
    redactor = Redactor()
    redactor.add_environment(
        {
            "DB_PASSWORD": "zUrich-7-bern",
            "AWS_SECRET_ACCESS_KEY_FILE": "/home/ann/key-7",
            "HOME": "/home/ann-7",
            "GOOGLE_APPLICATION_CREDENTIALS": __file__,
        }
    )
    text = f"zUrich-7-bern /home/ann/key-7 /home/ann-7 {__file__}"
    assert redactor.clean(text) == text.replace("zUrich-7-bern", "[redacted:DB_PASSWORD]")


def test_nested_data_is_copied_and_redacted_with_its_keys(redactor):
    data = {SECRET: [1, {"a": (SECRET, None)}], "raw": SECRET.encode()}
    assert redactor.clean_value(data) == {CLEAN: [1, {"a": [CLEAN, None]}], "raw": CLEAN.encode()}
    assert SECRET in data


def test_a_value_split_between_two_items_of_a_list_is_found(redactor):
    assert SECRET[10:] not in str(redactor.clean_value([f"a {SECRET[:10]}", f"{SECRET[10:]} b"]))


def test_redactions_are_counted(redactor):
    redactor.clean(f"{SECRET} and {SECRET}")
    assert redactor.counts == {"DB": 2}


@given(st.lists(st.integers(0, 60), max_size=8), st.sampled_from(sorted(FORMS)))
def test_a_value_is_redacted_wherever_a_stream_is_split(cuts, form):
    if form in ("framed",):
        return
    redactor = Redactor()
    redactor.add("DB", SECRET)
    text = f"before {FORMS[form]} after\n"
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    stream = redactor.stream()
    pieces = [stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join([*pieces, stream.flush()]) == f"before {CLEAN} after\n"


@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_a_stream_neither_loses_nor_adds_text(text, cuts):
    redactor = Redactor()
    redactor.add("DB", SECRET)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    stream = redactor.stream()
    pieces = [stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join([*pieces, stream.flush()]) == redactor.clean(text)


def test_a_complete_line_is_returned_immediately(redactor):
    assert redactor.stream().feed("12 of 40 done\n") == "12 of 40 done\n"


@given(st.text(alphabet="abcdefT \n", max_size=300))
def test_redacting_is_idempotent(text):
    redactor = Redactor()
    redactor.add("DB", SECRET)
    once = redactor.clean(text + SECRET + text)
    assert redactor.clean(once) == once
