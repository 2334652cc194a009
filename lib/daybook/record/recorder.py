"""Record the run that the running notebook cell begins, to its end.

    recorder = Recorder.start(root, folder, header, template=notebook, status_of=status_of)
    recorder.write("phase", name="plan", state="started")
    recorder.finish()            # the close comes when this cell has ended

A cell that ends with an error ends the run where nobody is there to run it again; in JupyterLab
the run stays open, as failed or waiting, until it is finished, begun anew, or the kernel ends.
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
from daybook.record.seal import Closed
from daybook.record.tee import Ended, Tee, sha256

_current: Recorder | None = None


class Recorder:
    """A run's journal, its redactor, and how the run ends."""

    def __init__(
        self,
        folder: Path,
        writer: Journal,
        tee: Tee | None,
        *,
        status_of: Callable[[str], str],
        key: Path | None,
        on_closed: Callable[[Closed], None] | None,
        life: Life,
    ) -> None:
        self.folder, self.journal, self.redactor = folder, writer, writer.redactor
        self.life = life
        self.is_interactive = False
        self._tee, self._status_of = tee, status_of
        self._key, self._on_closed = key, on_closed
        self._asked: tuple[str, str] | None = None
        self._last = "interrupted"
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
        on_closed: Callable[[Closed], None] | None = None,
    ) -> Recorder:
        """Begin a run in its folder; one that this kernel had not ended is closed first.

        header: run, step, environment, target, account, region, caller_arn, parameters; who, what
        and from where is added here. status_of: the run's status after an error, by the name of
        its class, "" for as before. environ: the tools' variables, whose credentials are secrets
        as the kernel's own are. on_closed: what is called when the run is over (upload, lock).
        """
        global _current
        if _current:
            redactor = redactor or _current.redactor
            _current.leave()
        redactor = redactor or Redactor()
        redactor.add_environment({**os.environ, **environ})
        if key and key.is_file():
            redactor.add("SSH_KEY", key.read_bytes())
        life = liveness.hold(liveness.file_of(folder))
        try:
            _make_folders(folder)
            known = _keep_template(template, folder, root, redactor)
            whole = {**header, **provenance.header(root), "template": known}
            if fingerprint := signing.fingerprint(signing.public_key(key)) if key else "":
                whole["operator"]["key"] = fingerprint
            writer = Journal.create(folder, whole, redactor)
        except BaseException:
            life.end()
            with suppress(OSError):
                life.path.parent.rmdir()
            raise
        tee, is_interactive = _tee(writer, known)
        recorder = cls(
            folder, writer, tee, status_of=status_of, key=key, on_closed=on_closed, life=life
        )
        recorder.is_interactive = is_interactive
        if tee:
            tee.on_cell_end.append(recorder._cell_ended)
            tee.install()
        atexit.register(recorder.abandon, "its kernel was ended")
        _current = recorder
        return recorder

    def write(self, kind: str, **data: Any) -> None:
        """Add an event to the journal; see journal.py for the kinds."""
        self.journal.write(kind, **data)

    def finish(self, status: str = "succeeded", reason: str = "") -> None:
        """Ask for the close; it comes when the running cell has ended well."""
        self._asked = (status, reason)
        if self._tee is None:
            self.close(status, reason)

    def abandon(self, reason: str) -> None:
        """Close with the status that the last error left, or as interrupted."""
        self.close(self._last, reason)

    def leave(self) -> None:
        """Give the kernel back to another run."""
        if self._tee:
            self._tee.leave()
        self.abandon("another run was begun in this kernel")
        if self._tee:
            self._tee.uninstall()

    def close(self, status: str, reason: str = "") -> None:
        """Close now; a second call does nothing. Secrets are taken out of what comes after, too."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self.abandon)
        if self._tee:
            self._tee.retire()
        with _undisturbed():
            try:
                closed = seal.close(
                    self.folder,
                    status,
                    reason=reason or self._stopped(),
                    redactor=self.redactor,
                    open_journal=self.journal,
                    key=self._key,
                )
            except Exception as err:  # The next run closes it, or says why it cannot.
                why = explained(err)
                print(
                    f"The record {self.folder.name} could not be closed; the next run closes it.",
                    f"  {why.message} {why.observed or ''}",
                    sep="\n",
                    file=sys.stderr,
                )
                # What waits for the end of the run, its lock for one, does not wait for the record.
                closed = Closed(self.folder, status, unsigned="not closed yet")
        if self._on_closed:
            self._on_closed(closed)

    def _stopped(self) -> str:
        return f"the journal stopped: {self.journal.stopped}" if self.journal.stopped else ""

    def tool(self, start: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what starts processes, so that each tool is in the journal and its log is kept.

        The log is written here and not by the supervisor: what it holds has passed the redactor.
        """

        def run(args, *, on_line=None, log=None, private=False, on_log=None, **options):
            self._tools += 1
            number, command = self._tools, [os.fspath(arg) for arg in args]
            name = f"{number:02}-{Path(command[0]).name}.log"
            began = time.monotonic()
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
                seconds = round(time.monotonic() - began, 3)
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
                """Write what there is room for: a full disk must not end the tool in the middle."""
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

    def _cell_ended(self, ended: Ended) -> None:
        if ended["status"] == "error":
            status = self._status_of(ended["ename"])
            self._last = status or self._last
            if status:
                self.write("status", status=status, ename=ended["ename"])
            if not self.is_interactive:
                self.close(self._last)
        elif self._asked:
            self.close(*self._asked)
        else:
            self._last = "interrupted"


def _make_folders(folder: Path) -> None:
    """Make a run's folders: its own for its owner alone, those above for the owner's group too."""
    for above in (folder.parent.parent, folder.parent):
        private_files.make_folder(above, 0o750)
    private_files.make_folder(folder)
    private_files.make_folder(folder / "attachments")


def _tee(writer: Journal, template: Mapping[str, Any]) -> tuple[Tee | None, bool]:
    """Return the tee of the kernel that this runs in, and whether somebody sits before it."""
    from IPython import get_ipython

    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None, False
    is_interactive = bool(kernel.get_parent()["content"].get("allow_stdin"))
    hashes = [cell["sha256"] for cell in template.get("cells", ())]
    return Tee(kernel, shell, writer, template=hashes), is_interactive


def _keep_template(
    template: Path | None, folder: Path, root: Path, redactor: Redactor
) -> dict[str, Any]:
    """Copy the template into the record; return what the header says of it."""
    if template is None or not template.exists():
        return {}
    raw = template.read_bytes()
    notebook = json.loads(raw)
    clean = redactor.clean_value(notebook)
    kept = folder / "attachments" / seal.TEMPLATE
    private_files.write(kept, json.dumps(clean, indent=1, ensure_ascii=False).encode())
    cells = [
        {"place": place, "id": cell.get("id", ""), "sha256": sha256(replay.source_of(cell))}
        for place, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code"
    ]
    inside = template.resolve().is_relative_to(root.resolve())
    name = template.resolve().relative_to(root.resolve()) if inside else template.name
    return {"path": str(name), "sha256": seal.digest(template), "cells": cells}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no Ctrl-C come between a run's end and its record."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
