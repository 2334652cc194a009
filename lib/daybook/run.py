"""A run: one execution of a step, from its first cell to its record."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from daybook import aws, process, settings, signers, target, ui
from daybook import setting_types as types
from daybook.errors import (
    NOTHING_CHANGED,
    ApplyFailed,
    CommandFailed,
    DaybookError,
    PreflightFailed,
    SettingsError,
    explained,
    status_of,
)
from daybook.gates import evidence, waiting
from daybook.record import journal, record, upload
from daybook.record.recorder import Recorder

PHASES = ("preflight", "plan", "approve", "apply", "verify", "record")
LOOKING = ("preflight", "plan", "verify", "record")
"""The phases of a step that changes nothing."""
AGAIN = "run this step again"
RUN_ID = "DAYBOOK_RUN_ID"
"""Set by `daybook run`, so that it finds the record of the kernel that it starts."""
RESUMES = "DAYBOOK_RESUMES"
"""Set by `daybook run --resume`: the run that is gone on with."""

SHOWN_CHANGES = 10
"""How many changes an error lists; the record has all."""


def new_id(step: str) -> str:
    """Return a run's id, which sorts by time: `20261123T184500Z-provision-3fa9c2`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{step}-{secrets.token_hex(3)}"


def _given_id(step: str) -> str:
    """Return the id that `daybook run` has chosen, "" where it has not; SettingsError for others.

    It becomes a folder's name: a path would lead a record out of runs/, where nobody looks.
    """
    given = os.environ.pop(RUN_ID, "")
    if given and not re.fullmatch(
        rf"[0-9]{{8}}T[0-9]{{6}}Z-{re.escape(step)}-[0-9a-f]{{6}}", given
    ):
        raise SettingsError(
            f"{RUN_ID} is no id of a run of {step}.",
            expected=f"nothing, or an id such as {new_id(step)}",
            observed=types.shown(given),
            next=f"unset {RUN_ID}: daybook run sets it",
        )
    return given


@dataclass(frozen=True, repr=False)
class Finished(ui.Shown):
    """The last word of a run: where its record is, and what comes next."""

    title: str
    record: str
    next: str

    def view(self) -> ui.Notice:
        lines = (f"Record: {self.record}", f"Next: {self.next}")
        return ui.Notice(self.title, ui.good("succeeded"), lines)


class Run:
    """The context of one run: where it goes, what it may still do, what it has done.

    start: starts a tool as `process.run` does, and writes it into the record.
    hide: takes a name and a secret value, which from then on shows as `[redacted:NAME]`.
    at_end: what is called when the record is closed. life: held until all of that is done.
    load_signers, load_approvals: read whose keys count, and how many people besides the operator
    must approve; from the checkout unless a step says otherwise.
    """

    def __init__(
        self, step: str, env: str, *, rehearse: bool, parameters: dict, is_read_only: bool = False
    ) -> None:
        self.step, self.env = step, env
        self.phases = LOOKING if is_read_only else PHASES
        self.parameters = {"env": env, "rehearse": rehearse, **parameters}
        self.root = settings.find_root()
        self.settings = settings.load(self.root, env)
        self.target = target.resolve(self.settings, self.root, rehearse=rehearse)
        self.id = _given_id(step) or new_id(step)
        self.folder = self.root / "runs" / env / self.id
        self._require_new()
        self.resumes = os.environ.pop(RESUMES, "")
        self.plan_file = waiting.plan_file(self.root, env, self.id)
        self.may_hold_lock = False
        """Whether a lock in the bucket may still name this run: the proof that it is over stays."""
        self._stopped: BaseException | None = None
        self._waiting: BaseException | None = None
        self._done: tuple[str, ...] = ()
        self._changes: list[str] = []
        self.load_signers: Callable[[], signers.Signers] = partial(signers.load, self.root)
        self.load_approvals: Callable[[], int] = lambda: self.settings.approvals
        self.at_end: list[Callable[[], None]] = [self._upload]
        self.recorder = self._begin()
        self.life = self.recorder.life
        self.start = self.recorder.tool(partial(process.run, life=self.life))
        self.hide = self.recorder.redactor.add

    @property
    def title(self) -> str:
        """What a page about this run is called: `provision staging · REHEARSAL`."""
        return f"{self.step} {self.env} · {self.target.title}"

    @property
    def _journal(self) -> str:
        return str((self.folder / journal.NAME).relative_to(self.root))

    @property
    def ssh_key(self) -> Path:
        """Return the operator's private key."""
        return target.ssh_key(self.settings, self.target)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run a phase in its order; after a failure the run refuses every further one."""
        self.require_open()
        self._require_order(name)
        self.write("phase", name=name, state="started")
        try:
            with self._explaining(name):
                yield
        except BaseException as err:
            is_waiting = status_of(type(err).__name__) == "waiting"
            self._waiting, self._stopped = (err, None) if is_waiting else (None, err)
            self.write("phase", name=name, state="waiting" if is_waiting else "failed")
            raise
        self._done, self._waiting = (*self._done, name), None
        self.write("phase", name=name, state="ended")

    @property
    def is_over(self) -> bool:
        """True when the run has failed or its record is closed: it changes nothing more."""
        return self._stopped is not None

    def require_open(self) -> None:
        """Raise what stopped the run, if it is over."""
        if self._stopped:
            raise self._stopped

    def write(self, kind: str, **data: Any) -> None:
        """Add an event to the journal; see journal.py for the kinds."""
        self.recorder.write(kind, **data)
        if kind == "change":
            self._changes.append(f"{data.get('action', 'changed')} {data.get('what', '')}".strip())

    def stop(self, reason: BaseException) -> None:
        """Refuse every further phase with this reason."""
        self._stopped = reason

    def command(self, **changed: object) -> str:
        """Return the command line that runs this step again with some parameters changed."""
        words = ["daybook", "run", self.step]
        for name, value in {**self.parameters, **changed}.items():
            if value not in ("", None, False):
                words += ["-p", name, str(value).lower() if value is True else str(value)]
        return shlex.join(words)

    def finish(self, following: str) -> Finished:
        """Ask for the record to be closed when this cell has ended."""
        self.recorder.finish()
        return Finished(self.title, str(self.folder.relative_to(self.root)), following)

    def _require_new(self) -> None:
        """Raise SettingsError when the id is another run's: its record would be written over."""
        if os.path.lexists(self.folder):
            raise SettingsError(
                f"There is a run {self.id} already.",
                expected="an id that no run has",
                next=f"unset {RUN_ID}: daybook run sets it",
            )

    def _begin(self) -> Recorder:
        """Begin the record; where that is not possible, nothing of it is left."""
        try:
            return Recorder.start(
                self.root,
                self.folder,
                self._header(),
                template=self._template(),
                status_of=status_of,
                environ=self.target.environ,
                key=record.operator_key(self.root, self.env, self.target.is_sandbox),
                on_closed=self._end,
            )
        except OSError as err:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise explained(err, cls=PreflightFailed, folder=self.folder.parent) from err

    @contextmanager
    def _explaining(self, phase: str) -> Iterator[None]:
        """Have every error say what to do next, and what this run had changed by then."""
        try:
            yield
        except Exception as err:
            error = explained(
                err,
                cls={"preflight": PreflightFailed, "apply": ApplyFailed}.get(phase, CommandFailed),
                folder=self.folder,
                again=AGAIN,
                traceback_in=self._journal,
            )
            error.next = error.next or AGAIN
            if error.changed == NOTHING_CHANGED and self._changes:
                error.changed = f"Changed by then: {_listed(self._changes)}."
            if error is err:
                raise
            raise error from err

    def _end(self, closed: record.Closed) -> None:
        """What is recorded is over: nothing more may be changed, whoever drives the kernel."""
        is_waiting = closed.status == "waiting" and not self.recorder.is_interactive
        over = SettingsError(
            "This run is over: its record is closed.",
            changed="",
            next="start the step again from its first cell",
        )
        self._stopped = self._stopped or (self._waiting if is_waiting else None) or over
        for action in self.at_end:
            try:
                action()
            except (DaybookError, OSError, ValueError) as err:
                # One that fails must not keep the others from being done: one releases the lock.
                print(f"{self.id}: after the record was closed: {err}", file=sys.stderr)
        self.life.end(keep=self.may_hold_lock)

    def _upload(self) -> None:
        """Keep closed records in the account's bucket; what fails is tried by the next run."""
        bucket = aws.records_bucket(self.target, self.settings.app)
        with suppress(*aws.FAILURES):
            if self.target.is_up and aws.bucket_exists(self.target, bucket):
                s3 = aws.client(self.target, "s3")
                upload.push_pending(self.root, bucket, s3, self.target.account, self.env)

    def _require_order(self, name: str) -> None:
        before = self.phases[: self.phases.index(name)]
        missing = [phase for phase in before if phase not in self._done]
        if missing:
            raise SettingsError(
                f"{name} cannot run yet.",
                expected=f"{missing[0]} to have succeeded before it",
                next=f"run the {missing[0]} cell",
            )
        self._done = before

    def _header(self) -> dict[str, object]:
        return {
            "run": self.id,
            "step": self.step,
            "environment": self.env,
            "target": self.target.name,
            "account": self.target.account,
            "region": self.target.region,
            "caller_arn": self._caller(),
            "parameters": self.parameters,
            "settings": {"sha256": record.digest(self.root / "environments" / f"{self.env}.yml")},
            "format": evidence.FORMAT,
            **({"resumes": self.resumes} if self.resumes else {}),
        }

    def _caller(self) -> str | None:
        """Ask who calls; preflight says what is wrong when nobody answers."""
        try:
            return aws.caller(self.target)["arn"] if self.target.is_up else None
        except aws.FAILURES:
            return None

    def _template(self) -> Path | None:
        paths = (self.root / folder / f"{self.step}.ipynb" for folder in settings.NOTEBOOKS)
        return next((path for path in paths if path.is_file()), None)


def _listed(changes: Sequence[str]) -> str:
    """Return the first changes in a line, and how many more there are."""
    more = f" and {len(changes) - SHOWN_CHANGES} more, see the record"
    return ", ".join(changes[:SHOWN_CHANGES]) + (more if len(changes) > SHOWN_CHANGES else "")
