"""A run: one execution of a step, from its first cell to its record."""

from __future__ import annotations

import itertools
import os
import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daybook import process, settings, target, ui
from daybook.errors import ApprovalNeeded, SettingsError

PHASES = ("preflight", "plan", "approve", "apply", "verify", "record")
RUN_ID = "DAYBOOK_RUN_ID"
"""Set by `daybook run`, so that it finds the record of the kernel that it starts."""


def new_id(step: str) -> str:
    """Return a run's id, which sorts by time: `20261123T184500Z-provision-3fa9c2`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{step}-{secrets.token_hex(3)}"


@dataclass(frozen=True, repr=False)
class Finished(ui.Shown):
    """The last word of a run: where its record is, and what comes next."""

    title: str
    record: str
    next: str

    def view(self) -> ui.Panel:
        lines = (f"Record: {self.record}", f"Next: {self.next}")
        return ui.Panel(self.title, lines, ui.good("succeeded"))


class Run:
    """The context of one run: where it goes, what it may still do, what it has done."""

    def __init__(self, step: str, env: str, *, rehearse: bool, parameters: dict) -> None:
        self.step, self.env, self.parameters = step, env, parameters
        self.root = settings.find_root()
        self.settings = settings.load(self.root, env)
        self.target = target.resolve(self.settings, self.root, rehearse=rehearse)
        self.id = os.environ.pop(RUN_ID, None) or new_id(step)
        self.folder = self.root / "runs" / env / self.id
        self.attachments = self.folder / "attachments"
        self.attachments.mkdir(parents=True)
        self._tools = itertools.count(1)
        self._stopped: BaseException | None = None
        self._done: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What a page about this run is called: `provision staging · REHEARSAL`."""
        return f"{self.step} {self.env} · {self.target.title}"

    def write(self, kind: str, **data: object) -> None:
        """Add an event to the journal."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run a phase in its order; after a failure the run refuses every further one."""
        if self._stopped:
            raise self._stopped
        self._require_order(name)
        self.write("phase", name=name, state="started")
        try:
            yield
        except ApprovalNeeded:
            self.write("phase", name=name, state="waiting")
            raise
        except BaseException as err:
            self._stopped = err
            self.write("phase", name=name, state="failed")
            raise
        self._done = (*self._done, name)
        self.write("phase", name=name, state="ended")

    def stop(self, reason: BaseException) -> None:
        """Refuse every further phase with this reason."""
        self._stopped = reason

    def start(self, args: Sequence[str], **options) -> process.Result:
        """Start a tool as `process.run` does, and write it into the journal."""
        number = next(self._tools)
        command = [os.fspath(arg) for arg in args]
        log = None
        if not options.get("private"):
            log = self.attachments / f"{number:02}-{Path(command[0]).name}.log"
        self.write("tool_start", number=number, args=command, log=log and log.name)
        try:
            result = process.run(command, log=log, **options)
        except process.CommandFailed as err:
            code = err.result.returncode if err.result else None
            self.write("tool_end", number=number, returncode=code)
            raise
        self.write(
            "tool_end", number=number, returncode=result.returncode, seconds=result.duration_s
        )
        return result

    def command(self, **changed: object) -> str:
        """Return the command line that runs this step again with some parameters changed."""
        given = {"env": self.env, **self.parameters, **changed}
        if self.target.is_sandbox and self.settings.account != "sandbox":
            given["rehearse"] = "true"
        words = ["daybook", "run", self.step]
        for name, value in given.items():
            words += ["-p", name, str(value)] if value not in ("", None) else []
        return shlex.join(words)

    def finish(self, following: str) -> Finished:
        """Ask for the record to be closed when this cell has ended."""
        return Finished(self.title, str(self.folder.relative_to(self.root)), following)

    def _require_order(self, name: str) -> None:
        before = PHASES[: PHASES.index(name)]
        missing = [phase for phase in before if phase not in self._done]
        if missing:
            raise SettingsError(
                f"{name} cannot run yet.",
                expected=f"{missing[0]} to have succeeded before it",
                next=f"run the {missing[0]} cell",
            )
        self._done = before
