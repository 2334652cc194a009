"""A run is reconstructed from its journal: order, attempts, cells that did not run, outputs."""

from __future__ import annotations

from daybook.record import replay
from daybook.record.journal import Entries

TEMPLATE = {
    "cells": [
        {"cell_type": "markdown", "id": "t", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "id": "a", "source": "a", "metadata": {"tags": ["preflight"]}},
        {"cell_type": "code", "id": "b", "source": "b", "metadata": {}},
        {"cell_type": "code", "id": "b2", "source": "b", "metadata": {}},
    ]
}
KEYS = [
    {"place": 1, "id": "a", "sha256": "A"},
    {"place": 2, "id": "b", "sha256": "B"},
    {"place": 3, "id": "b2", "sha256": "B"},
]


def replayed(*runs: tuple, template=TEMPLATE) -> list[tuple]:
    """Replay executions given as (source, hash, status[, cell id]); without a status: no end."""
    lines = [{"kind": "header", "template": {"cells": KEYS}}]
    for number, (source, sha256, status, *cell_id) in enumerate(runs, start=1):
        extra = {"cell_id": cell_id[0]} if cell_id else {}
        start = {"cell": number, "source": source, "sha256": sha256, "time": "t", **extra}
        lines.append({"kind": "cell_start", **start})
        if status:
            lines.append({"kind": "cell_end", "cell": number, "status": status})
    cells = replay.replay(template, Entries(tuple(lines)))
    return [(cell.source, cell.status, cell.number) for cell in cells if cell.kind == "code"]


def test_cells_that_did_not_run_are_marked():
    assert replayed(("a", "A", "ok"), ("b", "B", "error")) == [
        ("a", "ok", 1),
        ("b", "error", 2),
        ("b", "not-run", 0),
    ]


def test_a_cell_without_an_end_is_cut():
    assert replayed(("a", "A", None))[0] == ("a", "cut", 1)


def test_cells_that_ran_before_recording_are_unseen():
    assert replayed(("b", "B", "ok")) == [("a", "unseen", 0), ("b", "ok", 1), ("b", "not-run", 0)]


def test_a_run_without_executions_has_no_cells_that_ran():
    assert {status for _, status, _ in replayed()} == {"not-run"}


def test_equal_cells_are_matched_by_id_or_else_in_order():
    assert replayed(("b", "B", "ok"), ("b", "B", "error"))[1:] == [
        ("b", "ok", 1),
        ("b", "error", 2),
    ]
    assert replayed(("b", "B", "ok", "b2"))[1:] == [("b", "unseen", 0), ("b", "ok", 1)]


def test_every_attempt_is_shown_and_an_added_cell_follows_the_previous_one():
    runs = (("a", "A", "error"), ("x", "X", "ok"), ("a", "A", "ok"), ("b", "B", "ok"))
    assert replayed(*runs) == [
        ("a", "error", 1),
        ("a", "ok", 3),
        ("x", "ok", 2),
        ("b", "ok", 4),
        ("b", "not-run", 0),
    ]


def test_without_a_template_cells_are_shown_in_the_order_of_execution():
    lines = replayed(("x", "X", "ok"), ("y", "Y", "ok"), template={})
    assert lines == [("x", "ok", 1), ("y", "ok", 2)]


def out(kind: str, cell: int = 1, **data) -> dict:
    return {"cell": cell, "type": kind, **data}


def test_pieces_of_a_stream_are_one_output():
    pieces = [out("stream", name="stdout", text=text) for text in "abc"]
    assert replay.collect(pieces)[1][0]["text"] == "abc"


def test_an_update_changes_the_display_of_another_cell():
    outputs = replay.collect(
        [
            out("display_data", data={"text/plain": "0"}, metadata={}, display_id="d"),
            out("update_display_data", 2, data={"text/plain": "9"}, metadata={}, display_id="d"),
        ]
    )
    assert outputs[1][0]["data"] == {"text/plain": "9"}


def test_a_cleared_output_disappears_with_the_next_output():
    first, second = (out("stream", name="stdout", text=text) for text in "ab")
    assert replay.collect([first, out("clear_output", wait=True)])[1][0]["text"] == "a"
    assert replay.collect([first, out("clear_output", wait=True), second])[1][0]["text"] == "b"
    assert replay.collect([first, out("clear_output", wait=False)])[1] == []


def test_an_attachment_is_one_link_with_its_final_size():
    file = "attachments/cell-01.log"
    outputs = replay.collect(
        [out("attachment", file=file), out("attachment", file=file, bytes=5000)]
    )
    assert len(outputs[1]) == 1
    assert outputs[1][0]["data"]["text/plain"] == f"5,000 bytes in {file}"
