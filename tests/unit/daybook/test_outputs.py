"""Outputs within the limits go to the journal, the rest to attachments."""

from __future__ import annotations

import base64
import errno

import pytest

from daybook.record import journal
from daybook.record import outputs as cells
from daybook.record.journal import Journal


@pytest.fixture
def outputs(tmp_path) -> cells.RunOutputs:
    return cells.RunOutputs(Journal.create(tmp_path, {}))


def written(outputs: cells.RunOutputs) -> list[dict]:
    return list(journal.read(outputs.journal.path).of("output"))


def test_a_stream_is_displayed_and_journalled(outputs):
    cell = cells.CellOutputs(1, outputs)
    assert cell.stream("stdout", "hello\n") == "hello\n"
    assert cell.end() == []
    assert [(o["type"], o["text"]) for o in written(outputs)] == [("stream", "hello\n")]


def test_a_large_piece_becomes_several_entries(outputs):
    cells.CellOutputs(1, outputs).stream("stdout", "x\n" * 100_000)
    assert [len(o["text"]) for o in written(outputs)] == [65_536] * 3 + [3_392]


def test_output_beyond_the_limit_is_attached_and_its_last_lines_displayed(outputs):
    cell = cells.CellOutputs(3, outputs)
    shown = cell.stream("stdout", "a\n" * (cells.CELL_LIMIT // 2) + "b\n" * 50_000)
    assert shown.endswith("b\n") is False
    assert "attachments/cell-03.log" in shown
    assert cell.stream("stdout", "the end\n") == ""
    ((name, end),) = cell.end()
    assert (name, end.endswith("b\nthe end\n")) == ("stdout", True)
    cell.stream("stderr", "a thread\n")
    log = outputs.attachments / "cell-03.log"
    assert log.read_text() == "b\n" * 50_000 + "the end\na thread\n"
    assert written(outputs)[-1]["bytes"] == log.stat().st_size - len("a thread\n")


def test_all_cells_share_the_limit_of_the_run(outputs):
    outputs.remaining = 10
    first, second = cells.CellOutputs(1, outputs), cells.CellOutputs(2, outputs)
    assert first.stream("stdout", "12345678\n") == "12345678\n"
    assert second.stream("stdout", "abc\n").startswith("a\n… the output continues")


def test_a_large_picture_is_attached(outputs):
    picture = bytes(range(256)) * 2000
    data = {"image/png": base64.b64encode(picture).decode(), "text/plain": "<picture>"}
    cells.CellOutputs(1, outputs).output("display_data", {"data": data, "metadata": {}})
    attached, shown = written(outputs)
    assert (outputs.attachments.parent / attached["file"]).read_bytes() == picture
    assert shown["data"] == {"text/plain": "<picture>"}


def test_the_first_and_the_last_of_many_updates_are_journalled(outputs):
    cell = cells.CellOutputs(1, outputs)
    for number in range(100):
        content = {"data": {"text/plain": str(number)}, "transient": {"display_id": "d"}}
        cell.output("update_display_data", content)
    cell.end()
    assert [o["data"]["text/plain"] for o in written(outputs)] == ["0", "99"]


def test_a_display_that_changes_uses_the_space_of_its_last_state(outputs, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cells.time, "monotonic", lambda: clock[0])
    cell = cells.CellOutputs(1, outputs)
    for number in range(100):
        clock[0] += 1
        content = {"data": {"text/plain": f"{number}" * 50_000}, "transient": {"display_id": "d"}}
        cell.output("update_display_data", content)
    cell.end()
    assert cells.RUN_LIMIT - outputs.remaining == len("99") * 50_000
    states = [o["data"]["text/plain"][:2] for o in written(outputs)]
    assert states[-1] == "99"
    assert 8 <= len(states) <= 20
    assert not outputs.attachments.exists()


def test_a_display_that_changes_is_attached_once(outputs):
    cell = cells.CellOutputs(1, outputs)
    for number in range(5):
        data = {"text/plain": f"{number}" * (cells.PART_LIMIT + 1)}
        cell.output("update_display_data", {"data": data, "transient": {"display_id": "d"}})
    cell.end()
    (path,) = outputs.attachments.iterdir()
    assert path.read_text() == "4" * (cells.PART_LIMIT + 1)


def test_lost_bytes_of_attachments_are_counted_on_a_full_disk(outputs):
    outputs.remaining = 0
    cell = cells.CellOutputs(1, outputs)
    cell.stream("stdout", "kept\n")
    outputs.journal.stop(OSError(errno.ENOSPC, "No space left on device"))
    cell.stream("stdout", "lost\n")
    cell.end()
    assert (outputs.attachments / "cell-01.log").read_text() == "kept\n"
    assert cell._overflow.facts()["lost_bytes"] == 5
    assert outputs.attach("image/png", "x" * 9)["lost_bytes"] == 9
