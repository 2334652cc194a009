"""Text from an image, a host or a user is shown as one short line without control characters."""

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
    "clear the screen": "\x1b[2J\x1b[31mred",
    "a second line": "1.0\nDONE: serves 2.0",
    "overwrite the line": "1.0\rDONE",
    "reversed text": "\u202e0.1",
    "invisible characters": "1.0\u200b\u2066x\u2069",
    "eight-bit control characters": "\x9b2J\x85\u2028x",
    "set the title": "\x1b]0;title\x07",
    "a workflow command": "::error::all is well",
    "a workflow command within the line": "1.0 ##[set-output name=image]evil",
    "five thousand characters": "x" * 5000,
    "stacked combining marks": "a" + "\u0301" * 500,
    "a lone surrogate": "\ud800",
    "NUL": "a\0b",
    "characters without a glyph": "\u3164\u2800\u115f\u1160\uffa0",
    "characters of two columns": "字" * 500,
}
FACTS = ("id", "image", "version", "result")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.attack("F2", "a label of an image controls the terminal, the job's log or a table")
def test_a_label_is_one_short_line_without_control_characters(name):
    for text in (
        prepare.label(LocalImage({prepare.VERSION: HOSTILE[name]}, 0), prepare.VERSION),
        views.version_in(json.dumps({"version": HOSTILE[name]})),
        client._parse(client.HostStatus, {"serving_version": HOSTILE[name]}).serving_version,
        client._parse(client.Release, dict.fromkeys(FACTS, HOSTILE[name])).version,
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
def test_a_line_is_truncated_by_columns(text):
    line = printable(text, 20)
    assert line == text if columns(text) <= 20 else line.endswith("…")
    assert columns(line) >= min(columns(text), 19)


def columns(text: str) -> int:
    """Return the width of a text in rich, which renders Daybook's tables."""
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
def test_a_plain_version_is_unchanged(text):
    assert printable(text) == printable_lines(text) == text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_of_releases_keeps_its_shape(name):
    release = {"current": True, "id": "20261123T231000Z-0f1fb3d2", "version": HOSTILE[name]}
    release |= {"result": "serving", "seconds": 1.0, "by": HOSTILE[name], "image_here": True}
    head, row = views.table([release])
    assert row.isprintable()
    assert columns(row) < 150
    assert columns(row.partition("serving")[0]) == head.index("result")


@pytest.mark.parametrize("name", HOSTILE)
def test_text_cannot_add_lines_to_the_output(name, capsys):
    progress = ProgressReporter()
    progress.line(f"r1 serves: version {printable(HOSTILE[name])}, after 1.0 s")
    with progress.step("check") as step:
        step.text = f"/up answers 200, version {HOSTILE[name]}"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_json_has_no_raw_characters(capsys):
    with ProgressReporter(as_json=True).step("check", "".join(HOSTILE.values())):
        pass
    assert all(
        line.isascii() and line.isprintable() for line in capsys.readouterr().out.splitlines()
    )


def test_the_output_tail_of_a_command_is_one_line():
    ran = CommandResult(1, "", "first\n\x1b[31mred\x1b[0m\u2028::error::x\n##[add-mask]a\n")
    assert ran.output_tail == r"\x1b[31mred\x1b[0m · \x3a:error::x · #\x23[add-mask]a"


def test_tables_have_no_raw_characters():
    for text in HOSTILE.values():
        shown = ui.Table("t", ("a", "b"), [(text, "x")])
        assert all(map(str.isprintable, ui.text(shown).splitlines()))
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.html()
        )


def test_answers_of_a_host_are_escaped_when_read():
    output = client._Output()
    text = HOSTILE["clear the screen"]
    output.add_all([text, json.dumps({"result": None, "error": {"message": text, "next": text}})])
    assert all(map(str.isprintable, (*output.lines, *output.error.values())))
    answer = {"current": "r1", "deploying": {"id": text, "phase": [text, 5]}}
    status = client._parse(client.HostStatus, answer)
    assert status.deploying == {"id": printable(text), "phase": [printable(text), 5]}
