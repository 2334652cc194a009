"""Untrusted YAML: plain values with their lines, or one problem, in bounded time."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daybook import bounded_yaml
from daybook.bounded_yaml import Problem, parse, read_text

LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "a recursive alias": ("a: &r [*r]", "anchors"),
    "an alias bomb": (LAUGHS, "anchors"),
    "a merge": ("<<: {a: b}", "merge keys"),
    "nested lists": ("a: " + "[" * 5_000, "nested deeper"),
    "nested block lists": ("- " * 5_000 + "a", "nested deeper"),
    "nested mappings": ("{a: " * 5_000, "nested deeper"),
    "many values": (f"[{'a,' * 10_000}]", "more than 4,000 values"),
    "an object": ("a: !!python/object/apply:os.system [id]", "tags"),
    "a tag of one's own": ("a: !env HOME", "tags"),
    "a second document": ("a: b\n---\na: c", "a second document"),
    "a list as a key": ("? [a]\n: b", "a key must be text"),
    "a number as a key": ("1: a", "a key must be text"),
    "a key twice": ("a: 1\nb: 2\na: 3", "set twice"),
    "base 60": ("a: 1:20", "YAML reads this as 80"),
    "octal": ("a: 020", "YAML reads this as 16"),
    "hexadecimal": ("a: 0x10", "YAML reads this as 16"),
    "underscores": ("a: 1_000", "YAML reads this as 1000"),
    "infinity": ("a: .inf", "not a plain decimal number"),
    "no number": ("a: .nan", "not a plain decimal number"),
    "5,000 digits": ("a: " + "9" * 5_000, "not a plain decimal number"),
    "NUL": ("a: b\0", "control or invisible"),
    "NUL, escaped": (r'a: "b\0"', "control or invisible"),
    "an escape sequence": (r'a: "\x1b[2J"', "control or invisible"),
    "a carriage return": (r'a: "b\rc"', "control or invisible"),
    "text from right to left": ("a: \u202eb", "control or invisible"),
    "a mark from right to left": ("a: 1 # \u200f", "control or invisible"),
    "an Arabic mark": ("a: 1 # \u061c", "control or invisible"),
    "a tag character": ("a: 1 # \U000e0041", "control or invisible"),
    "a space without width": ("a: b\u200bc", "control or invisible"),
    **{
        f"{digits} as {place}": (text.format(digits), "not a plain decimal number")
        for digits in ("0x_", "0b_", "-0x_", "-0b_")
        for place, text in (("a value", "a: {}"), ("a key", "{}: a"))
    },
    "half a character": ("a: \udc80", "control or invisible"),
    "half a character, escaped": (r'a: "\ud800"', "not valid YAML"),
    "an open list": ("a: [", "not valid YAML"),
    "an open text": ("a: 'b", "not valid YAML"),
    "a tab": ("\ta: b", "not valid YAML"),
    "question marks": ("? " * 20_000, "a key must be text"),
    "commas": ("," * 60_000, "not valid YAML"),
}


@pytest.mark.attack("F12", "a text that YAML takes minutes, memory or another meaning for")
@pytest.mark.parametrize(("text", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_one_problem_in_bounded_time(text, problem):
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(Problem, match=problem.replace("(", r"\(")) as caught:
        parse(text)
    took_s, peak = time.monotonic() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took_s < 1
    assert peak < 20 * 2**20
    assert len(caught.value.problem) < 200


def test_parse_returns_a_tree_and_lines():
    text = "a: 1\nb:\n  - x\n  - {c: -2.5}\nd: ~\ne: true\nf: 2026-02-30\ng: '1'\nh: 1e3\n"
    document = parse(text)
    assert document.tree == {
        "a": 1,
        "b": ["x", {"c": -2.5}],
        "d": None,
        "e": True,
        "f": "2026-02-30",
        "g": "1",
        "h": "1e3",
    }
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 4,
        ("b", 1, "c"): 4,
        ("d",): 5,
        ("e",): 6,
        ("f",): 7,
        ("g",): 8,
        ("h",): 9,
    }


def test_an_account_id_with_a_leading_zero_is_text():
    assert parse("account: 012345678901").tree == {"account": "012345678901"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_text_is_none(text):
    assert parse(text).tree is None


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb:\n  c: [\nd: 2\n", 4, ("d",)),
        ("a: 1\nb:\n  c: 'x\n", 3, ("b", "c")),
        ("a: 1\nb:\n  c: x\0\n", 3, ("b", "c")),
        ("a: 1\nb:\n  c: 1:20\n", 3, ("b", "c")),
        ("a:\n  - b: &x 1\n", 2, ("a", 0, "b")),
        ("a: 1\na: 2\n", 2, ("a",)),
    ],
)
def test_a_problem_has_its_line_and_key(text, line, key):
    with pytest.raises(Problem) as caught:
        parse(text)
    assert (caught.value.line, caught.value.key) == (line, key)


@pytest.mark.attack("F12", "an error that repeats a secret of the file")
@pytest.mark.parametrize(
    "text", ["a: 'hunter2", "hunter2: [", "a: {hunter2", "%hunter2", "a: hunter2: b", "a: *hunter2"]
)
def test_a_problem_does_not_quote_the_text(text):
    with pytest.raises(Problem) as caught:
        parse(text)
    assert "hunter2" not in caught.value.problem
    assert caught.value.__cause__ is None


SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=20)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(TREES)
def test_json_is_parsed_unchanged_or_rejected(tree):
    try:
        assert parse(json.dumps(tree, ensure_ascii=False)).tree == tree
    except Problem:
        text = json.dumps(tree)
        assert "\\u" in text or "\\b" in text or "\\f" in text or "\\r" in text


@given(st.text(alphabet=st.sampled_from("ab01:-[]{}&*!|>'\"#,?%@\\ \n\t.~<=_xe+"), max_size=80))
def test_the_result_equals_that_of_pyyaml(text):
    """Ansible reads the same files with PyYAML: a different result there would bypass checks."""
    try:
        ours = parse(text).tree
    except Problem:
        return
    assert ours == yaml.load(text, Loader=_Dateless)


class _Dateless(yaml.CSafeLoader):
    """PyYAML's loader, with dates and `=` as text, like our parser."""


_Dateless.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] != "timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Dateless.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_problem(raw):
    try:
        parse(bounded_yaml.decode(raw))
    except Problem as problem:
        line = problem.line
    else:
        line = 1
    assert 1 <= line <= raw.count(b"\n") + 1


def test_a_byte_order_mark_is_removed(tmp_path):
    path = tmp_path / "a.yml"
    path.write_bytes("\ufeffa: b\n".encode())
    assert read_text(path) == "a: b\n"


@pytest.mark.attack("F12", "a settings file that is no file, or has no end")
@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("device", "not a regular file"),
        ("pipe", "not a regular file"),
        ("folder", "directory"),
        ("loop", "symbolic link"),
        ("link", "symbolic link"),
        ("missing", "No such file"),
        ("large", "larger than the limit of 64 KiB"),
        ("long name", "File name too long"),
    ],
)
def test_only_a_small_regular_file_is_read(tmp_path, kind, problem):
    path = tmp_path / "a.yml"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "long name":
        path = tmp_path / ("a" * 5_000)
    begun = time.monotonic()
    with pytest.raises(Problem, match=problem):
        read_text(path, follow=False)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "text", ["a: 👩\u200d💻", "a: \u0645\u06cc\u200c\u062e", "a: é # naïve — …"]
)
def test_scripts_and_emoji_are_accepted(text):
    assert parse(text).tree
