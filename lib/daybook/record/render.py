"""Render notebook.ipynb and report.html of a run from its journal and its template.

Uses mistune, bleach and Pygments directly, as nbconvert's filters do: importing those filters took
another 0.2 s of CPU time per run (two cores, Python 3.11), their ansi2html needed 4.1 s for 50,000
coloured lines (`coloured`: 0.2 s) and passes on control sequences that are not colours.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bleach
import jinja2
import mistune
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from daybook.record import replay
from daybook.record.journal import Entries
from daybook.record.plaintext import folded
from daybook.record.replay import CellExecution
from daybook.ui import formats

_TEMPLATES = Path(__file__).with_name("templates")
_IMAGES = ("image/png", "image/jpeg", "image/gif")
_TAGS = bleach.sanitizer.ALLOWED_TAGS | {
    *("br", "caption", "col", "colgroup", "dd", "del", "details", "div", "dl", "dt", "figcaption"),
    *("figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "kbd", "mark", "p", "pre", "s"),
    *("progress", "samp", "small", "span", "style", "sub", "summary", "sup", "u", "var"),
    *("table", "tbody", "td", "tfoot", "th", "thead", "tr"),
    *("svg", "circle", "g", "line", "path", "polygon", "polyline", "rect", "text", "title"),
}


def notebook(template: Mapping[str, Any], entries: Entries, record: Mapping[str, Any]) -> bytes:
    """Return the executed notebook; cells that did not run are marked and have no outputs."""
    cells = replay.replay(template, entries)
    facts = ("run", "step", "environment", "status", "start", "end")
    metadata = {
        name: value
        for name, value in template.get("metadata", {}).items()
        if name in ("kernelspec", "language_info")
    }
    document = {
        "cells": [_cell(cell, index) for index, cell in enumerate(cells)],
        "metadata": metadata | {"daybook": {name: record[name] for name in facts}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")


def report(template: Mapping[str, Any], entries: Entries, record: Mapping[str, Any]) -> bytes:
    """Return the report: one file without scripts that sends no request to any host."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    environment.filters |= {"duration": formats.duration, "timestamp": formats.timestamp}
    environment.filters |= {"person": formats.person, "value": formats.value}
    environment.filters |= {"source": _highlight, "markdown": _markdown, "output": _output}
    cells = replay.replay(template, entries)
    page = environment.get_template("report.html.j2").render(
        record=record, cells=cells, failed=_failed(cells), total=max(record["seconds"], 0.001)
    )
    return page.encode("utf-8", "replace")


def _cell(execution: CellExecution, index: int) -> dict[str, Any]:
    """Return a cell as nbformat writes it."""
    is_known = execution.cell_id and execution.attempt <= 1
    identity = execution.cell_id if is_known else f"daybook-{index}"
    cell = {"cell_type": execution.kind, "id": identity, "metadata": {}, "source": execution.source}
    if execution.tags:
        cell["metadata"]["tags"] = list(execution.tags)
    if execution.kind != "code":
        return cell
    cell["metadata"]["daybook"] = {
        name: getattr(execution, name)
        for name in ("status", "number", "attempt", "started", "seconds")
    }
    return cell | {"execution_count": execution.number or None, "outputs": list(execution.outputs)}


def _failed(cells: list[CellExecution]) -> CellExecution | None:
    """Return the last executed cell, None if it succeeded."""
    executed = [cell for cell in cells if cell.status in ("ok", "error", "cut") and cell.number]
    last = max(executed, key=lambda cell: cell.number, default=None)
    return last if last and last.status != "ok" else None


def _highlight(source: str) -> Markup:
    return Markup(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))


def _markdown(source: str) -> Markup:
    to_html = mistune.create_markdown(escape=True, plugins=["table", "strikethrough", "url"])
    return Markup(_safe(to_html(source)))


def _output(output: Mapping[str, Any]) -> Markup:
    """Return an output as safe HTML; a long one is folded."""
    kind = output["output_type"]
    if kind == "stream":
        return Markup(folded(output["text"], f"stream {output['name']}"))
    if kind == "error":
        text = "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
        return Markup(folded(text, "error"))
    return Markup(_display(output["data"]))


def _display(data: Mapping[str, Any]) -> str:
    for mime in _IMAGES:
        if picture := _picture(data.get(mime)):
            return f'<img alt="{html.escape(_text(data))}" src="data:{mime};base64,{picture}">'
    rich = data.get("text/html") or data.get("image/svg+xml")
    if rich:
        return f'<div class="rich">{_safe(_joined(rich))}</div>'
    if data.get("text/markdown"):
        return f'<div class="rich">{_markdown(_joined(data["text/markdown"]))}</div>'
    return folded(_text(data), "result")


def _picture(value: object) -> str:
    """Return the picture in base64, "" if the value is not a picture."""
    try:
        return base64.b64encode(base64.b64decode(value)).decode() if isinstance(value, str) else ""
    except binascii.Error:
        return ""


def _text(data: Mapping[str, Any]) -> str:
    return _joined(data.get("text/plain", ""))


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


class _AnyStyle:
    """Keep styles as they are: the policy of the page prevents them from loading anything."""

    def sanitize_css(self, style: str) -> str:
        return style


def _safe(markup: str) -> str:
    """Remove active content: scripts, forms, frames, event handlers and refreshes."""
    return bleach.clean(
        markup, tags=_TAGS, attributes=_is_harmless, css_sanitizer=_AnyStyle(), strip=True
    )


def _is_harmless(_tag: str, name: str, value: str) -> bool:
    if name == "src":
        return value.startswith("data:image/")
    return not name.startswith("on") and name not in ("srcset", "background", "ping", "formaction")
