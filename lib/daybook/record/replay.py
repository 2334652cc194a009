"""Reconstruct the cells of a run, with their executions and outputs, from journal and template."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daybook.record.journal import Entries

Output = dict[str, Any]
"""An output as nbformat writes it."""


@dataclass(frozen=True)
class CellExecution:
    """One cell of the report.

    status: ok, error, cut (the kernel exited meanwhile), not-run, unseen (ran before recording
    started), or text. number: counts the executions of the run, from 1. attempt: counts those of
    this cell.
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
    """Return the template's cells in order, each with its executions, and other executed cells.

    template: a notebook as JSON, {} if there is none.
    """
    cells = template.get("cells", [])
    keys = entries.header.get("template", {}).get("cells", [])
    executions = _with_attempts(_with_places(_executions(entries), keys))
    executed = {int(execution.place) for execution in executions if execution.place % 1 == 0}
    first = min(executed, default=len(cells)) if executions else -1
    others = [
        _not_executed(cell, place, "unseen" if place < first else "not-run")
        for place, cell in enumerate(cells)
        if place not in executed
    ]
    identified = [_identify(execution, cells) for execution in executions]
    return sorted(others + identified, key=lambda execution: (execution.place, execution.number))


def _executions(entries: Entries) -> list[CellExecution]:
    ends = {line["cell"]: line for line in entries.of("cell_end")}
    outputs = collect(entries.of("output"))
    executions = []
    for start in entries.of("cell_start"):
        number, end = start["cell"], ends.get(start["cell"], {})
        if end.get("status") == "left":
            continue
        executions.append(
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
    return executions


def _with_places(
    executions: Iterable[CellExecution], keys: Sequence[Mapping[str, Any]]
) -> list[CellExecution]:
    """Set the index of each execution's cell in the template, found by id or else by hash.

    A cell that is not in the template gets the index of the previous one plus 0.5.
    """
    placed, last = [], -1
    for execution in executions:
        places = [
            key["place"] for key in keys if execution.cell_id and key["id"] == execution.cell_id
        ]
        places = places or [key["place"] for key in keys if key["sha256"] == execution.sha256]
        if places:
            last = next((place for place in places if place > last), places[0])
        placed.append(replace(execution, place=float(last) if places else last + 0.5))
    return placed


def _with_attempts(executions: Iterable[CellExecution]) -> list[CellExecution]:
    """Number the executions of each cell."""
    counts: Counter[tuple[float, str]] = Counter()
    counted = []
    for execution in executions:
        key = (execution.place, execution.sha256 if execution.place % 1 else "")
        counts[key] += 1
        counted.append(replace(execution, attempt=counts[key]))
    return counted


def _not_executed(cell: Mapping[str, Any], place: int, status: str) -> CellExecution:
    is_code = cell["cell_type"] == "code"
    execution = CellExecution(
        cell["cell_type"], source_of(cell), status if is_code else "text", float(place)
    )
    return _with_identity(execution, cell)


def _identify(execution: CellExecution, cells: Sequence[Mapping[str, Any]]) -> CellExecution:
    """Add id and tags of the template's cell, if the execution is of one."""
    is_in_template = execution.place % 1 == 0 and execution.place < len(cells)
    return _with_identity(execution, cells[int(execution.place)]) if is_in_template else execution


def _with_identity(execution: CellExecution, cell: Mapping[str, Any]) -> CellExecution:
    tags = tuple(cell.get("metadata", {}).get("tags", ()))
    return replace(execution, cell_id=cell.get("id", ""), tags=tags)


def source_of(cell: Mapping[str, Any]) -> str:
    """Return a cell's source as one string; nbformat may store lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def collect(entries: Iterable[Mapping[str, Any]]) -> dict[int, list[Output]]:
    """Merge `output` entries into the outputs of a notebook, by execution number."""
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
    """Add a link to an attachment; a later entry for the same file replaces an earlier one."""
    file, size = entry["file"], entry.get("bytes", 0)
    amount = f"{size:,} bytes" if size else "more output"
    lost = f", {entry['lost_bytes']:,} bytes lost: disk full" if entry.get("lost_bytes") else ""
    link = f'<p class="attachment"><a href="{html.escape(file)}">{amount} in {html.escape(file)}'
    data = {"text/html": f"{link}</a>{lost}</p>", "text/plain": f"{amount} in {file}{lost}"}
    shown = {"output_type": "display_data", "data": data, "metadata": {"attachment": file}}
    for output in outputs:
        if output.get("metadata", {}).get("attachment") == file:
            output |= shown
            return
    outputs.append(shown)
