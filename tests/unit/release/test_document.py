"""Reading a compose file's YAML as plain data."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from compose_attacks import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from daybook_release import document, limits


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0444", 0o444),
        ("0o444", 0o444),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1:20", "1:20"),
        ("2026-01-01", "2026-01-01"),
        ("1.2.3", "1.2.3"),
        ("'12'", "12"),
        ('"a\\nb"', "a\nb"),
        ("=", "="),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_have_the_values_that_compose_reads(text, value):
    got = document.read(f"x: {text}").tree["x"]
    assert (got, type(got)) == (value, type(value))


def test_anchors_and_merges_are_resolved():
    text = """\
x-a: &a {one: 1, two: 2}
x-b: &b {two: 22, three: 3}
c: {<<: *a, two: own}
d: {<<: [*a, *b]}
e: [*a, *b]
"""
    tree = document.read(text).tree
    assert tree["c"] == {"one": 1, "two": "own"}
    assert tree["d"] == {"one": 1, "two": 2, "three": 3}
    assert tree["e"] == [{"one": 1, "two": 2}, {"two": 22, "three": 3}]


def test_a_value_has_its_line_or_that_of_the_enclosing_value():
    read = document.read("a:\n  b:\n    - x\n    - y\nc: 1\n")
    assert read.line_of(("a", "b", 1)) == 4
    assert read.line_of(("a", "b", 1, "nothing")) == 4
    assert read.line_of(("a", "nothing")) == 1
    assert read.line_of(("c",)) == 5


def message_of(text: str) -> str:
    """Return why a text is refused; "" if it is read."""
    try:
        document.read(text)
    except document.InvalidComposeFile as err:
        return str(err)
    return ""


@pytest.mark.attack("F9", "reading a compose file takes very long")
@pytest.mark.parametrize(
    "text",
    [
        *(TEXTS[key] for key in TEXTS if "bomb" in key or "thousand" in key or "mega" in key),
        "a: " + "[" * 60_000,
        "a: " + "{" * 60_000,
        "- " * 30_000,
        "? " * 30_000,
        "a: " + "x " * 30_000,
        "a: '" + "''" * 30_000,
        'a: "' + "\\u0041" * 10_000 + '"',
        "a: &" + "a" * 60_000,
        "a: *" + "a" * 60_000,
        "a: !" + "a" * 60_000,
        "{" + "a," * 30_000,
        "\n" * 60_000 + "a",
        "a: |" + "\n" * 60_000,
        ":" * 60_000,
        "%" * 60_000,
        "a" * 60_000 + ": 1",
        "x" + "\n  y" * 16_000,
    ],
    ids=lambda text: text[:20],
)
def test_no_text_takes_long_to_read(text):
    began = time.process_time()
    assert message_of(text).isprintable()
    assert time.process_time() - began < 10


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
TREES = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(st.text("abcXYZ_-.", min_size=1, max_size=8), below, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), TREES, max_size=4))
def test_json_is_the_same_data_for_every_parser(tree):
    text = document.as_json(tree)
    assert json.loads(text) == tree
    assert yaml.safe_load(text) == tree
    assert not {letter for letter in text if "\x7f" <= letter <= "\uffff"}


@pytest.mark.attack("F9", "a compose file makes the YAML parser fail")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a: 1\n\nx: "\\UFFFFFFFF"\n', 3),
        ('a: 1\nx: "\\U00110000"\n', 2),
        (f"# first\n%YAML 1.{'1' * 5000}\n---\na: 1\n", 2),
        (f"%YAML {'1' * 5000}.1\n---\na: 1\n", 1),
    ],
)
def test_a_number_too_large_for_the_parser_is_refused_with_its_line(text, line):
    assert message_of(text) == (
        f"compose.yaml line {line}: this is not YAML: a number is too large; correct the syntax"
    )


ESCAPES = st.builds("\\{}{}".format, st.sampled_from("xuUabe0NL_P/"), st.text("0F1d8", max_size=8))


@given(st.lists(ESCAPES | st.text("%YAML 1.\n-: [", max_size=9), max_size=5).map("".join))
def test_any_escape_is_read_or_refused(text):
    for whole in (text, f'x: "{text}"'):
        assert message_of(whole).isprintable()


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    assert message_of(text).isprintable()


def test_the_size_limit_counts_bytes():
    document.read("a: " + "x" * (limits.FILE_BYTES - 3))
    with pytest.raises(document.InvalidComposeFile, match="65,536 bytes"):
        document.read("a: " + "ä" * (limits.FILE_BYTES // 2))
