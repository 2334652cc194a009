"""What an image, a host or a user says is shown on one short line that steers nothing."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from daybook import ui
from daybook.hosts import client
from daybook_release import prepare, views
from daybook_release.docker import LocalImage
from daybook_release.printable import LABEL_CHARS, printable, printable_lines, width
from daybook_release.progress import ProgressReporter
from daybook_release.system import CommandResult

HOSTILE = {
    "a cleared screen": "\x1b[2J\x1b[31mred",
    "a line of its own": "1.0\nDONE: serves 2.0",
    "a line over the one before": "1.0\rDONE",
    "text that is turned around": "\u202e0.1",
    "a hidden word": "1.0\u200b\u2066x\u2069",
    "eight-bit controls": "\x9b2J\x85\u2028x",
    "a title": "\x1b]0;title\x07",
    "a command of the workflow": "::error::all is well",
    "a command within the line": "1.0 ##[set-output name=image]evil",
    "five thousand characters": "x" * 5000,
    "marks piled up": "a" + "\u0301" * 500,
    "half a character": "\ud800",
    "NUL": "a\0b",
    "letters that show nothing": "\u3164\u2800\u115f\u1160\uffa0",
    "letters of two columns": "字" * 500,
}
FACTS = ("id", "image", "version", "result")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.attack("F2", "a label of an image steers the terminal, the job's log or a table")
def test_a_label_is_one_short_line_that_steers_nothing(name):
    for text in (
        prepare.label(LocalImage({prepare.VERSION: HOSTILE[name]}, 0), prepare.VERSION),
        views.version_in(json.dumps({"version": HOSTILE[name]})),
        client._read(client.Status, {"serving_version": HOSTILE[name]}).serving_version,
        client._read(client.Release, dict.fromkeys(FACTS, HOSTILE[name])).version,
    ):
        assert_inert(text)
        assert columns(text) <= LABEL_CHARS


@given(st.text())
def test_any_text_is_made_inert(text):
    assert_inert(printable(text, 50))
    assert width(printable(text, 50)) <= 50
    for line in printable_lines(text).split("\n"):
        assert_inert(line, marks=True)
    assert printable(printable(text)) == printable(text)


@given(st.text(st.sampled_from("a字カﾡé"), max_size=40))
def test_a_line_is_cut_where_its_columns_end(text):
    line = printable(text, 20)
    assert line == text if columns(text) <= 20 else line.endswith("…")
    assert columns(line) >= min(columns(text), 19)


def columns(text: str) -> int:
    """Return how wide rich takes a text for, which draws Daybook's own tables."""
    return cell_len(text)


def assert_inert(text: str, *, marks: bool = False) -> None:
    assert text.isprintable()
    assert not text.lstrip().startswith("::")
    assert "##[" not in text
    assert not set("\u115f\u1160\u2800\u3164\uffa0") & set(text)
    assert marks or not any(unicodedata.category(char).startswith("M") for char in text)


@pytest.mark.parametrize(
    "text", ["3f2a91c04d77", "1.2.3-rc.1+build_5", "tree-0a1b", "Größe 2 ✓", ""]
)
def test_a_plain_version_stays_as_it_is(text):
    assert printable(text) == printable_lines(text) == text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_of_releases_keeps_its_shape(name):
    each = {"current": True, "id": "20261123T231000Z-0f1fb3d2", "version": HOSTILE[name]}
    each |= {"result": "serving", "seconds": 1.0, "by": HOSTILE[name], "image_here": True}
    head, row = views.table([each])
    assert row.isprintable()
    assert columns(row) < 150
    assert columns(row.partition("serving")[0]) == head.index("result")


@pytest.mark.parametrize("name", HOSTILE)
def test_lines_for_people_hold_no_more_than_what_was_said(name, capsys):
    progress = ProgressReporter()
    progress.line(f"r1 serves: version {printable(HOSTILE[name])}, after 1.0 s")
    with progress.step("check") as said:
        said.text = f"/up answers 200, version {HOSTILE[name]}"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_a_program_gets_json_without_raw_characters(capsys):
    with ProgressReporter(as_json=True).step("check", "".join(HOSTILE.values())):
        pass
    assert all(
        line.isascii() and line.isprintable() for line in capsys.readouterr().out.splitlines()
    )


def test_what_a_command_said_last_is_one_line():
    ran = CommandResult(1, "", "first\n\x1b[31mred\x1b[0m\u2028::error::x\n##[add-mask]a\n")
    assert ran.output_tail == r"\x1b[31mred\x1b[0m · \x3a:error::x · #\x23[add-mask]a"


def test_tables_of_daybook_show_no_raw_characters():
    for text in HOSTILE.values():
        shown = ui.Table("t", ("a", "b"), [(text, "x")])
        assert all(map(str.isprintable, ui.text(shown).splitlines()))
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.html()
        )


def test_what_a_host_says_is_cleaned_at_the_door():
    heard = client._Heard()
    text = HOSTILE["a cleared screen"]
    heard.all([text, json.dumps({"result": None, "error": {"message": text, "next": text}})])
    assert all(map(str.isprintable, (*heard.lines, *heard.error.values())))
    said = {"current": "r1", "deploying": {"id": text, "phase": [text, 5]}}
    status = client._read(client.Status, said)
    assert status.deploying == {"id": printable(text), "phase": [printable(text), 5]}
