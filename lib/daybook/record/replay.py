"""Tell a run cell by cell: what the template has, what was run of it, and what came out."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daybook.record.journal import Entries

Output = dict[str, Any]
"""An output as nbformat writes it."""


@dataclass(frozen=True)
class CellExecution:
    """One cell of the page.

    status: ok, error, cut (begun, and then the kernel was gone), not-run, unseen (before the
    record began), or text. number: which execution of the run it is, from 1. attempt: which
    execution of this cell.
    """

    kind: str
    source: str
    status: str
    place: float = -1.0
    number: int = 0
    attempt: int = 0
    sha256: str = ""
    started: str = ""
    seconds: float | None = None
    traceback: str = ""
    cell_id: str = ""
    tags: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = field(default=(), repr=False)


def replay(template: Mapping[str, Any], entries: Entries) -> list[CellExecution]:
    """Return the template's cells in order, each with its executions; other cells where they ran.

    template: a notebook as JSON; {} when there was none.
    """
    cells = template.get("cells", [])
    executions = _placed(_executions(entries), entries.header.get("template", {}).get("cells", []))
    executions = _counted(executions)
    run = {int(told.place) for told in executions if told.place == int(told.place)}
    first = min(run, default=len(cells)) if executions else -1
    rest = [
        _unrun(cell, place, "unseen" if place < first else "not-run")
        for place, cell in enumerate(cells)
        if place not in run
    ]
    named = [_named(told, cells) for told in executions]
    return sorted(rest + named, key=lambda told: (told.place, told.number))


def _executions(entries: Entries) -> list[CellExecution]:
    ends = {line["cell"]: line for line in entries.of("cell_end")}
    outputs = collect(entries.of("output"))
    told = []
    for start in entries.of("cell_start"):
        number, end = start["cell"], ends.get(start["cell"], {})
        if end.get("status") == "left":
            continue
        told.append(
            CellExecution(
                kind="code",
                source=start["source"],
                status=end.get("status", "cut"),
                number=number,
                sha256=start["sha256"],
                started=start["time"],
                seconds=end.get("seconds"),
                traceback=end.get("traceback", ""),
                cell_id=start.get("cell_id", ""),
                outputs=tuple(outputs.get(number, ())),
            )
        )
    return told


def _placed(
    executions: Iterable[CellExecution], keys: Sequence[Mapping[str, Any]]
) -> list[CellExecution]:
    """Find each execution's cell in the template, by id where the front-end told it, or by hash.

    A cell that is not of the template stands half a place after the one that ran before it.
    """
    placed, last = [], -1
    for told in executions:
        places = [key["place"] for key in keys if told.cell_id and key["id"] == told.cell_id]
        places = places or [key["place"] for key in keys if key["sha256"] == told.sha256]
        if places:
            last = next((place for place in places if place > last), places[0])
        placed.append(replace(told, place=float(last) if places else last + 0.5))
    return placed


def _counted(executions: Iterable[CellExecution]) -> list[CellExecution]:
    seen: dict[tuple[float, str], int] = {}
    counted = []
    for told in executions:
        key = (told.place, told.sha256 if told.place % 1 else "")
        seen[key] = seen.get(key, 0) + 1
        counted.append(replace(told, attempt=seen[key]))
    return counted


def _unrun(cell: Mapping[str, Any], place: int, status: str) -> CellExecution:
    is_code = cell["cell_type"] == "code"
    told = CellExecution(
        cell["cell_type"], source_of(cell), status if is_code else "text", float(place)
    )
    return _identified(told, cell)


def _named(told: CellExecution, cells: Sequence[Mapping[str, Any]]) -> CellExecution:
    is_of_template = told.place % 1 == 0 and told.place < len(cells)
    return _identified(told, cells[int(told.place)]) if is_of_template else told


def _identified(told: CellExecution, cell: Mapping[str, Any]) -> CellExecution:
    tags = tuple(cell.get("metadata", {}).get("tags", ()))
    return replace(told, cell_id=cell.get("id", ""), tags=tags)


def source_of(cell: Mapping[str, Any]) -> str:
    """Return a cell's source, which nbformat may keep as lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def collect(entries: Iterable[Mapping[str, Any]]) -> dict[int, list[Output]]:
    """Put `output` entries together as a notebook shows them, by execution number."""
    cells: dict[int, list[Output]] = {}
    displays: dict[str, list[Output]] = {}
    clearing: set[int] = set()
    for entry in entries:
        outputs = cells.setdefault(entry["cell"], [])
        if entry["cell"] in clearing and entry["type"] != "clear_output":
            outputs.clear()
            clearing.discard(entry["cell"])
        if entry["type"] == "clear_output":
            clearing.add(entry["cell"]) if entry.get("wait") else outputs.clear()
        else:
            _add(outputs, displays, entry)
    return cells


def _add(
    outputs: list[Output], displays: dict[str, list[Output]], entry: Mapping[str, Any]
) -> None:
    match entry["type"]:
        case "stream":
            _add_stream(outputs, entry["name"], entry["text"])
        case "display_data" | "execute_result":
            outputs.append(_display(entry))
            displays.setdefault(entry.get("display_id", ""), []).append(outputs[-1])
        case "update_display_data":
            for shown in displays.get(entry.get("display_id", ""), []):
                shown |= {"data": entry["data"], "metadata": entry.get("metadata", {})}
        case "error":
            error = {name: entry.get(name, "") for name in ("ename", "evalue")}
            trace = entry.get("traceback", [])
            outputs.append({"output_type": "error", **error, "traceback": trace})
        case "attachment":
            _add_attachment(outputs, entry)


def _add_stream(outputs: list[Output], name: str, text: str) -> None:
    if outputs and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == name:
        outputs[-1]["text"] += text
    else:
        outputs.append({"output_type": "stream", "name": name, "text": text})


def _display(entry: Mapping[str, Any]) -> Output:
    is_result = entry["type"] == "execute_result"
    count = {"execution_count": None} if is_result else {}
    data = {mime: part for mime, part in entry["data"].items() if "widget-view" not in mime}
    shown = {"output_type": entry["type"], "data": data, "metadata": entry.get("metadata", {})}
    return shown | count


def _add_attachment(outputs: list[Output], entry: Mapping[str, Any]) -> None:
    """Link to a file of the record; what is known at the cell's end replaces what was before."""
    file, size = entry["file"], entry.get("bytes", 0)
    how_much = f"{size:,} bytes" if size else "more output"
    lost = f", {entry['lost_bytes']:,} bytes lost: no room" if entry.get("lost_bytes") else ""
    link = f'<p class="attachment"><a href="{html.escape(file)}">{how_much} in {html.escape(file)}'
    data = {"text/html": f"{link}</a>{lost}</p>", "text/plain": f"{how_much} in {file}{lost}"}
    shown = {"output_type": "display_data", "data": data, "metadata": {"attachment": file}}
    for output in outputs:
        if output.get("metadata", {}).get("attachment") == file:
            output |= shown
            return
    outputs.append(shown)
