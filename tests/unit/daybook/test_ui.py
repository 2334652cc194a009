"""What is shown: escaped, in words as well as colours, live in a kernel and in a terminal."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from daybook import ui

HOSTILE = "<script>alert(1)</script> [red]x[/red] \x1b[31mred\x1b]0;title\x07 \x9b1m \x00"


@dataclass(frozen=True)
class Result(ui.Shown):
    name: str

    def view(self) -> ui.Notice:
        return ui.Notice(self.name, ui.OK, ("line",))


def test_a_status_is_a_mark_and_a_word():
    statuses = [ui.OK, ui.FAILED, ui.WARNING, ui.RUNNING, ui.SKIPPED]
    assert list(map(str, statuses)) == [
        *("✓ ok", "✗ failed", "! warning", "… running", "- skipped"),
    ]
    assert str(ui.Status(ui.Kind.GOOD, "create", "+")) == "+ create"


def test_a_table_is_text_with_every_cell():
    table = ui.Table("Hosts", ("", "host"), [(ui.OK, "web-1"), (ui.FAILED, 2)], ui.FAILED, ["end"])
    lines = [line for line in ui.text(table).splitlines() if line]
    assert lines[0] == "✗ Hosts"
    assert lines[-1] == "end"
    assert "web-1" in ui.text(table)
    assert "✗ failed   2" in ui.text(table)


@pytest.mark.parametrize("width", [30, 60, 100])
def test_text_fits_and_loses_nothing(width):
    word = "x" * 150
    shown = ui.text(ui.Table("T", ("a", "b"), [("short", word)]), width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert shown.count("x") == 150


def test_nothing_shown_can_steer_a_page_or_a_terminal():
    view = ui.Stack(
        [
            ui.Table(HOSTILE, (HOSTILE,), [(HOSTILE,), (ui.good(HOSTILE),)], ui.OK, (HOSTILE,)),
            ui.Notice(HOSTILE, ui.WARNING, (HOSTILE,)),
        ]
    )
    html, text = view.html(), ui.text(view)
    assert "<script" not in html
    assert not {"\x1b", "\x00", "\x9b", "\x07"} & set(html + text)
    assert "[red]x[/red]" in text
    assert "<script>alert(1)</script>" in text


def test_html_needs_nothing_from_elsewhere_and_follows_the_theme():
    html = ui.Table("T", ("a",), [(ui.OK,)]).html()
    assert "http" not in html
    assert "class=" not in html
    assert "var(--jp-success-color1" in html


def test_a_result_shows_itself_in_all_three_ways():
    result = Result("done")
    assert result._repr_html_() == result.view().html()
    assert str(ui.text(result)) == "✓ done\nline"
    console = Console(file=io.StringIO(), color_system=None)
    console.print(result)
    assert console.file.getvalue() == "✓ done\nline\n"


def test_colours_reach_a_terminal_that_has_them():
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Result("done"))
    assert "\x1b[32m✓" in console.file.getvalue()


def test_progress_prints_lines_outside_a_kernel(capsys):
    with ui.Progress("Apply", total=2) as progress:
        progress.row("a", ui.busy("creating"))
        progress.row("a", ui.good("created"))
        progress.row("b", ui.busy("creating"))
    lines = capsys.readouterr().out.splitlines()
    # What began and ended between two redraws is one line.
    assert lines == ["Apply", "✓ created a", "! unfinished b"]
    assert progress.view().title.startswith("Apply (2 of 2, ")


def test_what_takes_long_is_announced_and_timed(capsys):
    with ui.Progress("Apply") as progress:
        progress.row("a", ui.busy("creating"))
        time.sleep(1.1)
        progress.row("a", ui.good("created"))
    assert capsys.readouterr().out.splitlines() == ["Apply", "… creating a", "✓ created a (1 s)"]


def test_a_failure_shows_in_the_last_view(capsys):
    progress = ui.Progress("Apply")
    with pytest.raises(RuntimeError), progress:
        raise RuntimeError
    assert progress.view().status == ui.FAILED


CELL = """
import time
from daybook import ui
with ui.Progress("Apply", total=200) as progress:
    progress.row("slow", ui.busy("creating"))
    for n in range(200):
        progress.row(f"r{n}", ui.good("created"))
        time.sleep(0.005)
    time.sleep(1.3)
"""


class Listening(NotebookClient):
    """Keeps every message of the kernel, as a driver sees them."""

    def process_message(self, msg, cell, cell_index):
        self.__dict__.setdefault("heard", []).append(msg)
        return super().process_message(msg, cell, cell_index)


def test_a_kernel_keeps_one_output_and_a_driver_gets_every_line():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client = Listening(notebook, kernel_name="python3")
    began = time.monotonic()
    client.execute()
    took_s = time.monotonic() - began
    (output,) = notebook.cells[0].outputs
    assert "r199" in output["data"]["text/html"]
    assert "✗" not in output["data"]["text/plain"]
    kinds = ("display_data", "update_display_data")
    drawn = [message for message in client.heard if message["msg_type"] in kinds]
    lines = "\n".join(m["content"]["metadata"]["daybook"]["line"] for m in drawn).splitlines()
    assert [f"✓ created r{n}" for n in range(200)] == [
        x for x in lines if x.startswith("✓ created")
    ]
    assert "… creating slow" in lines
    # No more than four a second, the first and the last besides.
    assert 3 <= len(drawn) <= 4 * took_s + 2


def test_what_is_to_be_copied_is_not_broken():
    word = "20261124T022358Z-fbc2e588"
    table = ui.Table("", ("by", "release"), [("somebody with a long name", word)])
    assert word not in ui.text(table, width=40)
    assert word in ui.text(replace(table, whole=("release",)), width=40)


def test_a_command_is_shown_in_the_progress_under_way(capsys):
    with ui.Progress("Apply") as progress:
        ui.show_command(ui.Command("terraform apply", "runs/1.log"))
        progress.row("a", ui.good("created"))
    ui.show_command(ui.Command("ssh host"))
    assert capsys.readouterr().out.splitlines() == [
        "Apply",
        "$ terraform apply",
        "  log: runs/1.log",
        "✓ created a",
        "$ ssh host",
    ]


def test_a_command_cannot_steer_a_page():
    assert "<b>" not in ui.Command("echo <b>", "<b>.log").html()
