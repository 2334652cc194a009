"""A run: one execution of a step, from its first cell to its record."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from daybook import aws, process, settings, signers, ui
from daybook.environment import Environment
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
from daybook.record import journal, seal, upload
from daybook.record.recorder import Recorder
from daybook.settings import Settings, types
from daybook.target import Target

PHASES = ("preflight", "plan", "approve", "apply", "verify", "record")
READ_ONLY_PHASES = ("preflight", "plan", "verify", "record")
"""The phases of a step that changes nothing."""
SHOWING = ("plan", "apply", "verify")
"""The phases that show the commands they start; preflight's are in its table's rows."""
AGAIN = "run this step again"
PLANS = ".plans"
"""In `runs/<env>/`: the pending plans."""
RUN_ID = "DAYBOOK_RUN_ID"
"""Set by `daybook run`, so that it finds the record of the kernel that it starts."""
RESUMES = "DAYBOOK_RESUMES"
"""Set by `daybook run --resume`: the run that is resumed."""

SHOWN_CHANGES = 10
"""How many changes an error lists; the record has all of them."""


def new_id(step: str) -> str:
    """Return a run's id, which sorts by time: `20261123T184500Z-provision-3fa9c2`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{step}-{secrets.token_hex(3)}"


def _given_id(step: str) -> str:
    """Return the id set by `daybook run`, "" if none is set; SettingsError for an invalid id.

    The id names a folder: with a path in it, the record would be written outside runs/.
    """
    given = os.environ.pop(RUN_ID, "")
    if given and not re.fullmatch(
        rf"[0-9]{{8}}T[0-9]{{6}}Z-{re.escape(step)}-[0-9a-f]{{6}}", given
    ):
        raise SettingsError(
            f"{RUN_ID} is not the id of a run of {step}.",
            expected=f"no value, or an id such as {new_id(step)}",
            observed=types.shown(given),
            next=f"unset {RUN_ID}; daybook run sets it",
        )
    return given


@dataclass(frozen=True, repr=False)
class Finished(ui.Shown):
    """The result of a run: the folder of its record, and the next command."""

    title: str
    record: str
    next: str

    def view(self) -> ui.Notice:
        lines = (f"Record: {self.record}", f"Next: {self.next}")
        return ui.Notice(self.title, ui.good("succeeded"), lines)


class Run:
    """One execution of a step: its environment, parameters, record, and the order of its phases.

    guards: called before each tool starts; an exception prevents the start.
    hide: takes a name and a secret value, which is then shown as `[redacted:NAME]`.
    at_end: called when the record is closed. life: held until all of them have returned.
    load_signers, load_approvals: return the accepted keys and the number of approvals that a plan
    needs; from the checkout unless a step replaces them.
    """

    def __init__(
        self,
        step: str,
        environment: Environment,
        *,
        id: str,
        parameters: Mapping[str, object],
        defaults: Mapping[str, object] = MappingProxyType({}),
        resumes: str = "",
        is_read_only: bool = False,
    ) -> None:
        self.step, self.id, self.resumes = step, id, resumes
        self.environment = environment.with_start(self.start)
        self.phases = READ_ONLY_PHASES if is_read_only else PHASES
        self.parameters = {"env": environment.name, **parameters}
        self._defaults = defaults
        self.folder = environment.root / "runs" / environment.name / id
        self.guards: list[Callable[[], None]] = []
        self.at_end: list[Callable[[], None]] = [self._upload]
        self.load_signers: Callable[[], signers.Signers] = partial(signers.load, environment.root)
        self.load_approvals: Callable[[], int] = lambda: environment.settings.approvals
        self.may_hold_lock = False
        """Whether a lock in the bucket may still name this run; its proof of life is then kept."""
        self._stopped: BaseException | None = None
        self._waiting: BaseException | None = None
        self._done: tuple[str, ...] = ()
        self._changes: list[str] = []
        self._phase = ""
        self._shown: set[str] = set()

    @classmethod
    def begin(
        cls,
        step: str,
        environment: Environment,
        *,
        parameters: Mapping[str, object],
        defaults: Mapping[str, object] = MappingProxyType({}),
        is_read_only: bool = False,
    ) -> Run:
        """Begin a run and its record, under the id set by `daybook run`, if any."""
        run = cls(
            step,
            environment,
            id=_given_id(step) or new_id(step),
            parameters=parameters,
            defaults=defaults,
            resumes=os.environ.pop(RESUMES, ""),
            is_read_only=is_read_only,
        )
        run.record()
        return run

    def record(self) -> None:
        """Begin the record; after an error, its folder is removed."""
        self._require_new()
        try:
            self.recorder = Recorder.start(
                self.root,
                self.folder,
                self._header(),
                template=self._template(),
                status_of=status_of,
                environ=self.target.environ,
                key=seal.operator_key(self.environment),
                on_closed=self._end,
            )
        except OSError as err:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise explained(err, cls=PreflightFailed, folder=self.folder.parent) from err
        self.life = self.recorder.life
        self.hide = self.recorder.redactor.add
        self._start = self.recorder.tool(partial(process.run, life=self.life))

    def start(self, args: Sequence[str], **options: Any) -> process.Result:
        """Start a tool as `process.run` does, unless a guard refuses, and record it."""
        for guard in self.guards:
            guard()
        on_log = partial(self._show, options.get("shown") or shlex.join(map(str, args)), options)
        return self._start(args, on_log=on_log, **options)

    @property
    def env(self) -> str:
        """Return the environment's name."""
        return self.environment.name

    @property
    def root(self) -> Path:
        """Return the project's root."""
        return self.environment.root

    @property
    def settings(self) -> Settings:
        """Return the environment's settings."""
        return self.environment.settings

    @property
    def target(self) -> Target:
        """Return the account and region of the run."""
        return self.environment.target

    @property
    def plan_file(self) -> Path:
        """Return the path of the plan that Terraform saves for this run."""
        return self.folder.parent / PLANS / f"{self.id}.tfplan"

    @property
    def title(self) -> str:
        """Return the title of the run's pages: `provision staging · REHEARSAL`."""
        return f"{self.step} {self.env} · {self.target.title}"

    @property
    def _journal(self) -> str:
        return str((self.folder / journal.NAME).relative_to(self.root))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run a phase in its order; after a failure the run refuses every later phase."""
        self.require_open()
        self._require_order(name)
        self.write("phase", name=name, state="started")
        self._phase, self._shown = name, set()
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
        """True after the run has failed or its record is closed: it changes nothing more."""
        return self._stopped is not None

    def require_open(self) -> None:
        """Raise the error that stopped the run, if any."""
        if self._stopped:
            raise self._stopped

    def write(self, kind: str, **data: Any) -> None:
        """Add an event to the journal; journal.py lists the kinds."""
        self.recorder.write(kind, **data)
        if kind == "change":
            self._changes.append(f"{data.get('action', 'changed')} {data.get('what', '')}".strip())

    def changed(self, **facts: Any) -> None:
        """Record a change: tool, action, what, and optionally host and detail."""
        self.write("change", **facts)

    def stop(self, reason: BaseException) -> None:
        """Refuse every later phase with this error."""
        self._stopped = reason

    def show(self, command: str, log: str = "") -> None:
        """Show a command once in each phase, above what it does."""
        if command not in self._shown:
            self._shown.add(command)
            ui.show_command(ui.Command(command, log))

    def command(self, **changed: object) -> str:
        """Return the command line that runs this step again with some parameters changed."""
        words = ["daybook", "run", self.step]
        for name, value in {**self.parameters, **changed}.items():
            if value not in ("", None) and value != self._defaults.get(name, False):
                words += ["-p", name, str(value).lower() if isinstance(value, bool) else str(value)]
        return shlex.join(words)

    def finish(self, following: str) -> Finished:
        """Close the record at the end of this cell; return the run's result."""
        self.recorder.finish()
        return Finished(self.title, str(self.folder.relative_to(self.root)), following)

    def _show(self, command: str, options: Mapping[str, Any], log: str) -> None:
        """Show a tool's command and its log, with this project's paths relative to its folder."""
        if self._phase not in SHOWING:
            return
        folder = os.path.relpath(options.get("cwd") or self.root, self.root)
        above = os.path.relpath(self.root, self.root / folder)
        command = command.replace(f"{self.root}{os.sep}", "" if above == "." else f"{above}/")
        log = str(self.folder.relative_to(self.root) / log)
        self.show(command if folder == "." else f"cd {shlex.quote(folder)} && {command}", log)

    def _require_new(self) -> None:
        """Raise SettingsError if a run has this id: its record would be overwritten."""
        if os.path.lexists(self.folder):
            raise SettingsError(
                f"Run {self.id} already exists.",
                expected="a new id",
                next=f"unset {RUN_ID}; daybook run sets it",
            )

    @contextmanager
    def _explaining(self, phase: str) -> Iterator[None]:
        """Add to every error the next command and the changes that this run has made."""
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

    def _end(self, closed: seal.CloseResult) -> None:
        """Stop the run after its record is closed, in every front end, and run `at_end`."""
        is_waiting = closed.status == "waiting" and not self.recorder.is_interactive
        ended = SettingsError(
            "This run has ended: its record is closed.",
            changed="",
            next="start the step again from its first cell",
        )
        self._stopped = self._stopped or (self._waiting if is_waiting else None) or ended
        for action in self.at_end:
            try:
                action()
            except (DaybookError, OSError, ValueError) as err:
                # An error must not prevent the other actions: one of them releases the lock.
                print(f"{self.id}: after the record was closed: {err}", file=sys.stderr)
        self.life.end(keep=self.may_hold_lock)

    def _upload(self) -> None:
        """Upload closed records to the account's bucket; the next run retries after a failure."""
        bucket = self.environment.records_bucket
        with suppress(*aws.FAILURES):
            if self.target.is_up and aws.bucket_exists(self.target, bucket):
                s3 = self.environment.client("s3")
                upload.push_pending(self.root, bucket, s3, self.target.account, self.env)

    def _require_order(self, name: str) -> None:
        before = self.phases[: self.phases.index(name)]
        missing = [phase for phase in before if phase not in self._done]
        if missing:
            raise SettingsError(
                f"{name} cannot run yet.",
                expected=f"{missing[0]} has succeeded",
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
            "settings": {"sha256": seal.digest(self.root / "environments" / f"{self.env}.yml")},
            "format": journal.FORMAT,
            **({"resumes": self.resumes} if self.resumes else {}),
        }

    def _caller(self) -> str | None:
        """Return the caller's ARN; None when AWS does not answer, which preflight reports."""
        try:
            return aws.caller(self.target)["arn"] if self.target.is_up else None
        except aws.FAILURES:
            return None

    def _template(self) -> Path | None:
        paths = (self.root / folder / f"{self.step}.ipynb" for folder in settings.NOTEBOOKS)
        return next((path for path in paths if path.is_file()), None)


def _listed(changes: Sequence[str]) -> str:
    """Return the first changes in one line, and the number of the others."""
    more = f" and {len(changes) - SHOWN_CHANGES} more, see the record"
    return ", ".join(changes[:SHOWN_CHANGES]) + (more if len(changes) > SHOWN_CHANGES else "")
