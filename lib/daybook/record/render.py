"""notebook.ipynb and report.html of a run, from its journal and its template alone."""

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
    """Return the executed notebook; cells that did not run have no outputs and say so."""
    told = replay.replay(template, entries)
    facts = ("run", "step", "environment", "status", "start", "end")
    metadata = {
        name: value
        for name, value in template.get("metadata", {}).items()
        if name in ("kernelspec", "language_info")
    }
    whole = {
        "cells": [_cell(one, index) for index, one in enumerate(told)],
        "metadata": metadata | {"daybook": {name: record[name] for name in facts}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")


def report(template: Mapping[str, Any], entries: Entries, record: Mapping[str, Any]) -> bytes:
    """Return the page: one file, no script, no request to any other host."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    environment.filters |= {"duration": duration, "source": _highlight, "markdown": _markdown}
    environment.filters |= {"output": _output, "words": words, "moment": moment}
    told = replay.replay(template, entries)
    page = environment.get_template("report.html.j2").render(
        record=record, cells=told, failed=_failed(told), total=max(record["seconds"], 0.001)
    )
    return page.encode("utf-8", "replace")


def moment(time: str) -> str:
    """Return a journal's time as people read it: `2026-11-23 18:45:00 UTC`."""
    return f"{time[:19].replace('T', ' ')} UTC" if time else "-"


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `12 s`, `3 min 05 s` or `2 h 10 min`; a dash when it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _cell(told: CellExecution, index: int) -> dict[str, Any]:
    identity = told.cell_id if told.cell_id and told.attempt <= 1 else f"daybook-{index}"
    cell = {"cell_type": told.kind, "id": identity, "metadata": {}, "source": told.source}
    if told.tags:
        cell["metadata"]["tags"] = list(told.tags)
    if told.kind != "code":
        return cell
    facts = {"status": told.status, "number": told.number, "attempt": told.attempt}
    cell["metadata"]["daybook"] = facts | {"started": told.started, "seconds": told.seconds}
    return cell | {"execution_count": told.number or None, "outputs": list(told.outputs)}


def _failed(told: list[CellExecution]) -> CellExecution | None:
    ran = [one for one in told if one.status in ("ok", "error", "cut") and one.number]
    last = max(ran, key=lambda one: one.number, default=None)
    return last if last and last.status != "ok" else None


def words(value: Any) -> str:
    """Show a value of a record as an operator reads it."""
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _highlight(source: str) -> Markup:
    return Markup(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))


def _markdown(source: str) -> Markup:
    to_html = mistune.create_markdown(escape=True, plugins=["table", "strikethrough", "url"])
    return Markup(_safe(to_html(source)))


def _output(output: Mapping[str, Any]) -> Markup:
    """Return one output as safe HTML, a long one folded."""
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
    """Return a picture's base64, "" for what is none."""
    try:
        return base64.b64encode(base64.b64decode(value)).decode() if isinstance(value, str) else ""
    except binascii.Error:
        return ""


def _text(data: Mapping[str, Any]) -> str:
    return _joined(data.get("text/plain", ""))


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


class _AnyStyle:
    """Let a style be: the page's policy lets none load anything."""

    def sanitize_css(self, style: str) -> str:
        return style


def _safe(markup: str) -> str:
    """Keep what shows and drop what acts: no script, form, frame, handler or refresh."""
    return bleach.clean(
        markup, tags=_TAGS, attributes=_is_harmless, css_sanitizer=_AnyStyle(), strip=True
    )


def _is_harmless(_tag: str, name: str, value: str) -> bool:
    if name == "src":
        return value.startswith("data:image/")
    return not name.startswith("on") and name not in ("srcset", "background", "ping", "formaction")
