"""The report is safe and self-contained, and shows the failed cell first."""

from __future__ import annotations

import re

import nbformat
import pytest

from daybook.record import journal, plaintext, seal

HOSTILE = (
    "<script>alert(1)</script><img src='http://evil/x.png' onerror='alert(1)'>"
    "<meta http-equiv='refresh' content='0;url=http://evil'><iframe src='http://evil'></iframe>"
    "<form action='http://evil'><b style='color:red'>kept</b></form>"
    "<a href='javascript:alert(1)'>link</a><link rel=stylesheet href=http://evil/x.css>"
)


@pytest.fixture
def page(open_run) -> str:
    """Return the report of a failed run with a hostile output."""
    run = open_run()
    run.write("cell_start", cell=2, source="step.apply()", sha256="1" * 64)
    run.write("output", cell=2, type="display_data", data={"text/html": HOSTILE}, metadata={})
    run.write("output", cell=2, type="stream", name="stdout", text="<i>\x1b[1;31mred\x1b[0m\n" * 50)
    error = {"ename": "ApplyFailed", "evalue": "no"}
    run.write("output", cell=2, type="error", traceback=["half <way>"], **error)
    run.write("cell_end", cell=2, status="error", seconds=75.0, traceback="File x", **error)
    folder = run.path.parent
    seal.close(folder, "failed", open_journal=run)
    nbformat.validate(nbformat.read(folder / "notebook.ipynb", as_version=4))
    return (folder / "report.html").read_text()


def test_active_content_is_removed(page):
    assert "<b style" in page
    for word in ("<script", "<iframe", "<form", "<link", "http-equiv='refresh'", "onerror"):
        assert word not in page.lower()
    assert "javascript:" not in page
    assert not re.search(r"(src|href|action)=[\"']?https?:", page)
    assert page.count("http-equiv") == 1
    assert "default-src 'none'" in page


def test_status_and_operator_come_first_then_the_failed_cell(page):
    body = page[page.index("<body>") :]
    order = ["failed", "AWS 123456789012", "Ann", "Failed cell", "half &lt;way&gt;", "Facts"]
    positions = [body.index(text) for text in [*order, "Timeline", "one to create"]]
    assert positions == sorted(positions)


def test_a_long_output_is_folded_with_its_last_lines_shown(page):
    assert "51 lines" in page
    assert page.count("<details>") >= 2


def test_colours_become_spans_and_markup_is_escaped():
    shown = plaintext.coloured("<i>\x1b[1;31mred\x1b[0m plain\x1b[2K\x07")
    assert shown == '&lt;i&gt;<span class="bold red">red</span> plain'


def test_the_last_state_of_an_overwritten_line_is_shown():
    assert ">90%\ndone<" in plaintext.folded("10%\r50%\r90%\ndone", "stdout")


def test_the_report_of_an_empty_journal(tmp_path):
    run = journal.Journal.create(tmp_path / "runs/staging/r1", {"run": "r1"})
    seal.close(run.path.parent, "interrupted", open_journal=run)
    assert "interrupted" in (run.path.parent / "report.html").read_text()
