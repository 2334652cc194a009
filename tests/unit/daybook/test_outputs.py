"""What a cell keeps on the page, and what goes to attachments."""

from __future__ import annotations

import base64
import errno

import pytest

from daybook.record import journal
from daybook.record import outputs as cells
from daybook.record.journal import Journal


@pytest.fixture
def outputs(tmp_path) -> cells.Outputs:
    return cells.Outputs(Journal.create(tmp_path, {}))


def written(outputs: cells.Outputs) -> list[dict]:
    return list(journal.read(outputs.journal.path).of("output"))


def test_a_stream_is_shown_and_journalled(outputs):
    one = cells.Cell(1, outputs)
    assert one.stream("stdout", "hello\n") == "hello\n"
    assert one.end() == []
    assert [(o["type"], o["text"]) for o in written(outputs)] == [("stream", "hello\n")]


def test_a_large_piece_becomes_several_lines(outputs):
    cells.Cell(1, outputs).stream("stdout", "x\n" * 100_000)
    assert [len(o["text"]) for o in written(outputs)] == [65_536] * 3 + [3_392]


def test_beyond_the_limit_the_rest_is_attached_and_its_end_shown(outputs):
    one = cells.Cell(3, outputs)
    shown = one.stream("stdout", "a\n" * (cells.CELL_LIMIT // 2) + "b\n" * 50_000)
    assert shown.endswith("b\n") is False
    assert "attachments/cell-03.log" in shown
    assert one.stream("stdout", "the end\n") == ""
    ((name, end),) = one.end()
    assert (name, end.endswith("b\nthe end\n")) == ("stdout", True)
    one.stream("stderr", "a thread\n")
    log = outputs.attachments / "cell-03.log"
    assert log.read_text() == "b\n" * 50_000 + "the end\na thread\n"
    assert written(outputs)[-1]["bytes"] == log.stat().st_size - len("a thread\n")


def test_all_cells_share_the_room_of_the_run(outputs):
    outputs.remaining = 10
    first, second = cells.Cell(1, outputs), cells.Cell(2, outputs)
    assert first.stream("stdout", "12345678\n") == "12345678\n"
    assert second.stream("stdout", "abc\n").startswith("a\n… the output continues")


def test_a_large_picture_is_attached(outputs):
    picture = bytes(range(256)) * 2000
    data = {"image/png": base64.b64encode(picture).decode(), "text/plain": "<picture>"}
    cells.Cell(1, outputs).output("display_data", {"data": data, "metadata": {}})
    attached, shown = written(outputs)
    assert (outputs.attachments.parent / attached["file"]).read_bytes() == picture
    assert shown["data"] == {"text/plain": "<picture>"}


def test_of_many_updates_the_first_and_the_last_are_kept(outputs):
    one = cells.Cell(1, outputs)
    for number in range(100):
        content = {"data": {"text/plain": str(number)}, "transient": {"display_id": "d"}}
        one.output("update_display_data", content)
    one.end()
    assert [o["data"]["text/plain"] for o in written(outputs)] == ["0", "99"]


def test_on_a_full_disk_attachments_stop_and_say_what_is_lost(outputs):
    outputs.remaining = 0
    one = cells.Cell(1, outputs)
    one.stream("stdout", "kept\n")
    outputs.journal.stop(OSError(errno.ENOSPC, "No space left on device"))
    one.stream("stdout", "lost\n")
    one.end()
    assert (outputs.attachments / "cell-01.log").read_text() == "kept\n"
    assert one._overflow.facts()["lost_bytes"] == 5
    assert outputs.attach("image/png", "x" * 9)["lost_bytes"] == 9
