"""Intercept all output of a kernel, to redact secrets in it and to journal it.

ipykernel sends every message to every front-end through its session's `send`, which is replaced
here. IPython's cell events tell to which cell a message belongs.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from daybook.errors import CommandFailed
from daybook.record.journal import Journal
from daybook.record.outputs import CellOutputs, RunOutputs
from daybook.record.redact import Redactor

CellEnd = dict[str, Any]
"""A `cell_end` entry: cell, status, and ename, evalue, traceback after an error."""


class Tee:
    """Record the output of a kernel, starting with the running cell."""

    def __init__(
        self, kernel: Any, shell: Any, journal: Journal, *, template: Sequence[str] = ()
    ) -> None:
        """template: the hashes of the template's code cells."""
        self.journal = journal
        self.on_cell_end: list[Callable[[CellEnd], None]] = []
        self._kernel, self._shell = kernel, shell
        self._redactor: Redactor = journal.redactor
        self._outputs = RunOutputs(journal)
        self._template = frozenset(template)
        self._cells: dict[str, CellOutputs] = {}
        self._tracebacks: dict[str, str] = {}
        self._lock = threading.RLock()
        self._has_stopped = False
        self._send = kernel.session.send

    def install(self) -> None:
        """Replace the session's `send`; the running cell is the first one recorded."""
        self._recover_earlier_cells()
        parent = self._kernel.get_parent()
        self._start_cell(parent, parent["content"].get("code", ""))
        self._kernel.session.send = self._send_redacted
        self._shell.events.register("pre_run_cell", self._before_cell)
        self._shell.events.register("post_run_cell", self._after_cell)

    def stop_recording(self) -> None:
        """Record nothing further; secrets are still redacted."""
        if not self._has_stopped:
            self._has_stopped = True
            self._shell.events.unregister("pre_run_cell", self._before_cell)
            self._shell.events.unregister("post_run_cell", self._after_cell)

    def leave_running_cell(self) -> None:
        """End the running cell in this journal: it now belongs to another run."""
        for cell in self._cells.values():
            if not cell.is_ended and not self._has_stopped:
                self.journal.write("cell_end", cell=cell.number, status="left")

    def uninstall(self) -> None:
        """Restore the session's own `send`."""
        self.stop_recording()
        if self._kernel.session.send == self._send_redacted:
            self._kernel.session.send = self._send

    def _recover_earlier_cells(self) -> None:
        """Record the template's cells that ran earlier and are in IPython's history."""
        current = self._kernel.get_parent()["content"].get("code", "")
        history = list(self._shell.user_ns.get("In", []))[1:]
        earlier = history[:-1] if history and history[-1] == current else history
        for source in earlier[-20:]:
            if sha256(source) in self._template or source.startswith("# Parameters\n"):
                number = self._outputs.next_cell()
                self.journal.write("cell_start", cell=number, **_source(source), recovered=True)
                self.journal.write("cell_end", cell=number, status="ok", recovered=True)

    def _start_cell(self, parent: dict[str, Any], source: str, cell_id: str | None = None) -> None:
        msg_id = parent["header"]["msg_id"]
        with self._lock:
            if msg_id in self._cells:
                return
            cell = self._cells[msg_id] = CellOutputs(self._outputs.next_cell(), self._outputs)
        extra = {"cell_id": cell_id} if cell_id else {}
        with suppress(CommandFailed):
            session = parent["header"].get("session", "")
            self.journal.write(
                "cell_start", cell=cell.number, session=session, **_source(source), **extra
            )

    def _before_cell(self, info: Any) -> None:
        self._start_cell(self._kernel.get_parent(), info.raw_cell, getattr(info, "cell_id", None))

    def _after_cell(self, result: Any) -> None:
        error = result.error_in_exec or result.error_before_exec
        if error is not None:
            msg_id = self._kernel.get_parent()["header"]["msg_id"]
            self._tracebacks[msg_id] = "".join(traceback.format_exception(error))

    def _send_redacted(self, stream, msg_or_type, content=None, parent=None, *args, **options):
        """Redact and journal a message, then send it; replaces `Session.send`."""
        message = msg_or_type if isinstance(msg_or_type, dict) else None
        kind = message["header"]["msg_type"] if message else msg_or_type
        if kind == "status":
            return self._send(stream, msg_or_type, content, parent, *args, **options)
        body = self._redactor_for(kind)(message["content"] if message else content or {})
        cell = self._cell_of(message["parent_header"] if message else parent)
        if kind == "execute_reply" and cell and not self._has_stopped:
            self._end_cell(cell, body, parent)
        elif not self._write_output(kind, cell, body):
            return None
        if options.get("metadata"):
            options["metadata"] = self._redactor.clean_value(options["metadata"])
        if options.get("buffers"):
            options["buffers"] = self._redactor.clean_value(options["buffers"])
        if message is None:
            return self._send(stream, kind, body, parent, *args, **options)
        metadata = self._redactor.clean_value(message.get("metadata", {}))
        message = {**message, "content": body, "metadata": metadata}
        return self._send(stream, message, None, parent, *args, **options)

    def _redactor_for(self, kind: str) -> Callable[[Any], Any]:
        """Return the redaction for a kind of message; a CellOutputs redacts its own streams."""
        return dict if kind == "stream" else self._redactor.clean_value

    def _write_output(self, kind: str, cell: CellOutputs | None, body: dict[str, Any]) -> bool:
        """Journal a message; return whether any part of it can be sent already."""
        if self._has_stopped:
            body.update(self._redactor.clean_value(body))
            return True
        cell = cell or self._outputs.unattributed
        if kind == "stream":
            with self._lock:
                body["text"] = cell.stream(body["name"], body["text"])
            return bool(body["text"])
        with self._lock, suppress(CommandFailed, OSError):
            cell.output(kind, body)
        return True

    def _cell_of(self, parent: dict[str, Any] | None) -> CellOutputs | None:
        header = (parent or {}).get("header", parent) or {}
        return self._cells.get(header.get("msg_id", ""))

    def _end_cell(self, cell: CellOutputs, reply: dict[str, Any], parent: Any) -> None:
        """Journal the end of a cell and call the hooks, before its reply is sent."""
        if cell.is_ended or reply.get("status") == "aborted":
            return
        with self._lock:
            pieces = cell.end()
        for name, text in pieces:
            content = {"name": name, "text": text}
            self._send(self._kernel.iopub_socket, "stream", content, parent)
        end: CellEnd = {"cell": cell.number, "status": reply.get("status", "error")}
        end["seconds"] = round(time.monotonic() - cell.started, 3)
        if end["status"] == "error":
            end |= {"ename": reply.get("ename", ""), "evalue": reply.get("evalue", "")}
            msg_id = (parent or {}).get("header", {}).get("msg_id", "")
            end["traceback"] = self._tracebacks.pop(msg_id, "")
        with suppress(CommandFailed):
            self.journal.write("cell_end", **end)
        for hook in tuple(self.on_cell_end):
            try:
                hook(end)
            except Exception:
                traceback.print_exc(file=sys.__stderr__)


def sha256(source: str) -> str:
    """Return the hash that identifies a cell by its source, as sent to the kernel."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def _source(source: str) -> dict[str, str]:
    return {"source": source, "sha256": sha256(source)}
