"""The format of a `.env` file, and errors that never show its content."""

from __future__ import annotations

import contextlib
import time

import pytest

from daybook.cli import env_file
from daybook.errors import SettingsError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = two words \t", "two words"),
        ("A=plain # and why", "plain"),
        ("A=not#a comment", "not#a comment"),
        ("A=#hash", "#hash"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A='single # \"$X\"'", 'single # "$X"'),
        ("A='quoted' # and why", "quoted"),
        (r'A="a\nb \"c\" \\ $X"', 'a\nb "c" \\ $X'),
        ('A="-----BEGIN\nKEY\n-----END"', "-----BEGIN\nKEY\n-----END"),
        ("A=it's", "it's"),
        ("A=x=y==", "x=y=="),
    ],
)
def test_reads_a_value_as_a_shell_would_without_substituting(line, value):
    assert env_file.parse(f"# first\n\n{line}\nB=2\n", "x.env") == {"A": value, "B": "2"}


@pytest.mark.attack("F13", "a file of secrets that takes minutes to read")
@pytest.mark.parametrize(
    "text",
    [
        "A=x" + " " * 800_000 + "y",
        "A='x'" + " " * 800_000 + "y",
        " " * 800_000,
        "a" * 800_000,
        "A='" * 200_000,
        "A=1\n" * 100_000,
        'A="x\\\n' * 100_000,
    ],
    ids=lambda text: text[:6],
)
def test_a_hostile_file_is_read_quickly(text):
    begun = time.process_time()
    with contextlib.suppress(SettingsError):
        env_file.parse(text, "x.env")
    assert time.process_time() - begun < 5


def test_only_the_first_invalid_lines_are_named():
    with pytest.raises(SettingsError) as caught:
        env_file.parse("wrong\n" * 1_000, "x.env")
    assert caught.value.details[-1] == "x.env:20: not NAME=value"


def test_reads_files_of_other_systems():
    assert env_file.parse("\ufeffA=1\r\nB=2", "x.env") == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nhunter2\n", "x.env:2: not NAME=value"),
        ("A=1\n2B=hunter2\n", "x.env:2: not NAME=value"),
        ('A="hunter2\n', "x.env:1: not NAME=value"),
        ("A='hunter2'x\n", "x.env:1: not NAME=value"),
        ('A="1\n2"\nA=hunter2\n', "x.env:3: A is set twice"),
    ],
)
def test_an_error_names_the_invalid_line_without_its_content(text, line):
    with pytest.raises(SettingsError) as caught:
        env_file.parse(text, "x.env")
    assert line in str(caught.value)
    assert "hunter2" not in str(caught.value)
