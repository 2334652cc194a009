"""Record a run, from the notebook cell that starts it to its end.

    recorder = Recorder.start(root, folder, header, template=notebook, status_of=status_of)
    recorder.write("phase", name="plan", state="started")
    recorder.finish()            # closes the run when this cell has ended

An error in a cell ends a headless run. In JupyterLab, where the cell can be run again, the run
stays open, as failed or waiting, until it is finished, another run starts, or the kernel ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from daybook import liveness, private_files
from daybook.errors import CommandFailed, explained
from daybook.liveness import Life
from daybook.record import provenance, replay, seal, signing
from daybook.record.journal import Journal
from daybook.record.redact import Redactor
from daybook.record.seal import CloseResult
from daybook.record.tee import CellEnd, Tee, sha256

_active: Recorder | None = None
"""The recorder of the last run in this kernel."""


class Recorder:
    """The journal and the redactor of a run; closes the record when the run ends."""

    def __init__(
        self,
        folder: Path,
        writer: Journal,
        tee: Tee | None,
        *,
        status_of: Callable[[str], str],
        key: Path | None,
        on_closed: Callable[[CloseResult], None] | None,
        life: Life,
    ) -> None:
        self.folder, self.journal, self.redactor = folder, writer, writer.redactor
        self.life = life
        self.is_interactive = False
        self._tee, self._status_of = tee, status_of
        self._key, self._on_closed = key, on_closed
        self._requested_close: tuple[str, str] | None = None
        self._last_status = "interrupted"
        self._tools = 0
        self._is_closed = False

    @classmethod
    def start(
        cls,
        root: Path,
        folder: Path,
        header: Mapping[str, Any],
        *,
        template: Path | None = None,
        redactor: Redactor | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        status_of: Callable[[str], str] = lambda _ename: "failed",
        key: Path | None = None,
        on_closed: Callable[[CloseResult], None] | None = None,
    ) -> Recorder:
        """Start recording a run in its folder; an open run of this kernel is closed first.

        header: run, step, environment, target, account, region, caller_arn, parameters; operator,
        host, git and versions are added here. status_of: returns the status of a run after an error
        from the name of its class, "" to keep the status. environ: variables for tools; credentials
        in them are redacted like those of the kernel. on_closed: called when the run has ended.
        """
        global _active
        if _active:
            redactor = redactor or _active.redactor
            _active.detach()
        redactor = redactor or Redactor()
        redactor.add_environment({**os.environ, **environ})
        if key and key.is_file():
            redactor.add("SSH_KEY", key.read_bytes())
        life = liveness.hold(liveness.file_of(folder))
        try:
            _make_folders(folder)
            template_facts = _copy_template(template, folder, root, redactor)
            header = {**header, **provenance.header(root), "template": template_facts}
            if fingerprint := signing.fingerprint(signing.public_key(key)) if key else "":
                header["operator"]["key"] = fingerprint
            writer = Journal.create(folder, header, redactor)
        except BaseException:
            life.end()
            with suppress(OSError):
                life.path.parent.rmdir()
            raise
        tee, is_interactive = _tee(writer, template_facts)
        recorder = cls(
            folder, writer, tee, status_of=status_of, key=key, on_closed=on_closed, life=life
        )
        recorder.is_interactive = is_interactive
        if tee:
            tee.on_cell_end.append(recorder._after_cell)
            tee.install()
        atexit.register(recorder.abandon, "the kernel exited")
        _active = recorder
        return recorder

    def write(self, kind: str, **data: Any) -> None:
        """Add an event to the journal; see journal.py for the kinds."""
        self.journal.write(kind, **data)

    def finish(self, status: str = "succeeded", reason: str = "") -> None:
        """Close the run when the running cell has succeeded."""
        self._requested_close = (status, reason)
        if self._tee is None:
            self.close(status, reason)

    def abandon(self, reason: str) -> None:
        """Close with the status of the last error, or as interrupted."""
        self.close(self._last_status, reason)

    def detach(self) -> None:
        """Close the run, because another run starts in this kernel."""
        if self._tee:
            self._tee.leave_running_cell()
        self.abandon("another run was started in this kernel")
        if self._tee:
            self._tee.uninstall()

    def close(self, status: str, reason: str = "") -> None:
        """Close now; a second call does nothing. Secrets in later output are still redacted."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self.abandon)
        if self._tee:
            self._tee.stop_recording()
        with _sigint_ignored():
            try:
                result = seal.close(
                    self.folder,
                    status,
                    reason=reason or self._stop_reason(),
                    redactor=self.redactor,
                    open_journal=self.journal,
                    key=self._key,
                )
            except Exception as err:  # The next run closes the record or reports the problem.
                error = explained(err)
                print(
                    f"The record {self.folder.name} could not be closed; the next run closes it.",
                    f"  {error.message} {error.observed or ''}",
                    sep="\n",
                    file=sys.stderr,
                )
                # The end of the run, such as releasing its lock, must not depend on the record.
                result = CloseResult(self.folder, status, unsigned="not closed yet")
        if self._on_closed:
            self._on_closed(result)

    def _stop_reason(self) -> str:
        return f"the journal stopped: {self.journal.stopped}" if self.journal.stopped else ""

    def tool(self, start: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that starts processes, to journal each tool and to write its log.

        The log is written here and not by the supervisor, so that it is redacted.
        """

        def run(args, *, on_line=None, log=None, private=False, on_log=None, **options):
            self._tools += 1
            number, command = self._tools, [os.fspath(arg) for arg in args]
            name = f"{number:02}-{Path(command[0]).name}.log"
            started = time.monotonic()
            kept = None if private else name
            self.write("tool_start", number=number, args=command, log=kept)
            if on_log and kept:
                on_log(f"attachments/{kept}")
            code = None
            try:
                with self._log(name, on_line, private) as line:
                    result = start(command, on_line=line, private=private, **options)
                code = result.returncode
                return result
            except CommandFailed as err:
                code = getattr(err.result, "returncode", None)
                raise
            finally:
                seconds = round(time.monotonic() - started, 3)
                self.write("tool_end", number=number, returncode=code, seconds=seconds)

        return run

    @contextmanager
    def _log(self, name: str, on_line: Callable[[str], None] | None, private: bool) -> Iterator:
        if private:
            yield on_line
            return
        stream = self.redactor.stream()
        path = self.folder / "attachments" / name
        with open(path, "wb", buffering=0, opener=private_files.opener) as file:

            def put(text: str) -> None:
                """Write text while the disk has space: a full disk must not interrupt the tool."""
                try:
                    if not self.journal.stopped:
                        file.write(text.encode("utf-8", "backslashreplace"))
                except OSError as err:
                    self.journal.stop(err)

            def keep(line: str) -> None:
                put(stream.feed(line.rstrip("\n") + "\n"))
                if on_line:
                    on_line(line)

            try:
                yield keep
            finally:
                put(stream.flush())

    def _after_cell(self, end: CellEnd) -> None:
        if end["status"] == "error":
            status = self._status_of(end["ename"])
            self._last_status = status or self._last_status
            if status:
                self.write("status", status=status, ename=end["ename"])
            if not self.is_interactive:
                self.close(self._last_status)
        elif self._requested_close:
            self.close(*self._requested_close)
        else:
            self._last_status = "interrupted"


def _make_folders(folder: Path) -> None:
    """Create the folders of a run: accessible to the owner, its parents also to the group."""
    for parent in (folder.parent.parent, folder.parent):
        private_files.make_folder(parent, 0o750)
    private_files.make_folder(folder)
    private_files.make_folder(folder / "attachments")


def _tee(writer: Journal, template: Mapping[str, Any]) -> tuple[Tee | None, bool]:
    """Return the tee of this process's kernel, None outside one, and whether it is interactive."""
    from IPython import get_ipython

    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None, False
    is_interactive = bool(kernel.get_parent()["content"].get("allow_stdin"))
    hashes = [cell["sha256"] for cell in template.get("cells", ())]
    return Tee(kernel, shell, writer, template=hashes), is_interactive


def _copy_template(
    template: Path | None, folder: Path, root: Path, redactor: Redactor
) -> dict[str, Any]:
    """Copy the template into the record; return its facts for the header."""
    if template is None or not template.exists():
        return {}
    raw = template.read_bytes()
    notebook = json.loads(raw)
    clean = redactor.clean_value(notebook)
    copy = folder / "attachments" / seal.TEMPLATE
    private_files.write(copy, json.dumps(clean, indent=1, ensure_ascii=False).encode())
    cells = [
        {"place": place, "id": cell.get("id", ""), "sha256": sha256(replay.source_of(cell))}
        for place, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code"
    ]
    is_inside = template.resolve().is_relative_to(root.resolve())
    name = template.resolve().relative_to(root.resolve()) if is_inside else template.name
    return {"path": str(name), "sha256": seal.digest(template), "cells": cells}


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Ignore Ctrl-C while a record is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
