"""Start Terraform in a folder and a workspace; its commands are python-terraform's."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from python_terraform import IsFlagged
from python_terraform import Terraform as PythonTerraform

from daybook import private_files, process
from daybook.aws import errors
from daybook.errors import (
    NOTHING_CHANGED,
    ApplyFailed,
    CommandFailed,
    DaybookError,
    Interrupted,
    Locked,
)
from daybook.terraform import state_lock
from daybook.terraform.events import Diagnostic, Event, OnEvent, parse, read_diagnostic
from daybook.terraform.plan import Applied, SavedPlan, read_applied, read_plan

LOCK_TIMEOUT = "30s"
# An interrupted apply still waits for what is under way at AWS, then writes its state.
GRACE_S = 180.0
# Terraform's errors carry no code. Who holds a lock is told in these lines, whatever the error
# is called; the summaries of a stale plan and of overridden providers are constants of Terraform's.
LOCK_INFO = re.compile(r"\s+(ID|Operation|Who|Created): ")
LOCK_ID = re.compile(r"\s+ID:\s+([\w-]+)")
LOCK_POLL_S = 0.2
STALE = "Saved plan is stale"
OVERRIDDEN = "Provider development overrides are in effect"
UNSAVED = "errored.tfstate"
GARBAGE = "400"
"""How much garbage, in percent of what lives, Terraform and its providers let lie.

Go's own 100 makes a plan take a third longer and saves a twelfth of its memory.
"""


def command(name: str, *args: str, **options: object) -> list[str]:
    """Return a Terraform command line: `plan`, out="p" -> terraform plan -out=p."""
    # The builder reads ./terraform.tfstate when it is made; it is to find none.
    return PythonTerraform(working_dir=os.devnull).generate_cmd_string(name, *args, **options)


def init_command(backend: Mapping[str, object]) -> list[str]:
    """Return the command that sets a folder up, for exactly this backend."""
    settings = {key: _written(value) for key, value in backend.items()}
    return command(
        "init", json=IsFlagged, input=False, reconfigure=IsFlagged, backend_config=settings
    )


def plan_command(path: Path, *, destroy: bool = False) -> list[str]:
    """Return the command that saves a plan in `path`."""
    return command(
        "plan",
        json=IsFlagged,
        input=False,
        lock_timeout=LOCK_TIMEOUT,
        destroy=IsFlagged if destroy else None,
        out=path,
    )


def apply_command(path: Path) -> list[str]:
    """Return the command that applies a saved plan, which asks no question."""
    return command("apply", str(path), json=IsFlagged, input=False, lock_timeout=LOCK_TIMEOUT)


def unsaved_state(folder: Path, workspace: str) -> Path:
    """Return where a state is kept that could neither be saved nor pushed afterwards."""
    return folder / f"errored.{workspace}.tfstate"


def mirror_config(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variable that points Terraform at the provider mirror set-up found, if any."""
    own = environ.get("TF_CLI_CONFIG_FILE")
    found = root / ".cache" / "terraform.rc"
    if (own and Path(own).is_file()) or not found.is_file():
        return {}
    return {"TF_CLI_CONFIG_FILE": str(found)}


def variables_environment(variables: Mapping[str, object]) -> dict[str, str]:
    """Return variables as Terraform reads them: {"TF_VAR_names": '["a"]'}."""
    return {f"TF_VAR_{name}": _written(value) for name, value in variables.items()}


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Outputs(dict):
    """Output values by name; `sensitive` names those that are secrets, which repr leaves out."""

    def __init__(self, shown: Mapping[str, Mapping]) -> None:
        super().__init__({name: output["value"] for name, output in shown.items()})
        self.sensitive = frozenset(name for name, out in shown.items() if out["sensitive"])

    def secrets(self) -> list[tuple[str, str]]:
        """Return each text in a sensitive output, with the output's name."""
        return [(name, text) for name in sorted(self.sensitive) for text in _texts(self[name])]

    def __repr__(self) -> str:
        return repr({k: "[sensitive]" if k in self.sensitive else v for k, v in self.items()})


def outputs_in(state: str) -> Outputs:
    """Return the output values in the text of a state, "" for none; CommandFailed if it is none."""
    try:
        shown = json.loads(state).get("outputs", {}) if state else {}
        return Outputs({name: {"sensitive": False, **output} for name, output in shown.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CommandFailed(
            "Terraform's state cannot be read.",
            expected="the JSON of a state, with its outputs",
            observed=type(err).__name__,
            next="restore an older version of the object: docs/when-something-is-wrong.md",
        ) from None


class Terraform:
    """Terraform in one folder and workspace, with a data directory of its own.

    env: the whole environment of the tool: target, credentials, PATH. log: where Terraform says
    which lock it asks for, before it asks. on_lock: gets that lock's id, in a thread. unlock: the
    command that removes a lock which nobody will release, with {id} in it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workspace: str,
        env: Mapping[str, str],
        data_dir: Path,
        start: process.Start = process.run,
        log: Path | None = None,
        on_lock: Callable[[str], None] = lambda _id: None,
        unlock: str = "terraform force-unlock {id}",
    ) -> None:
        self.folder = folder
        self.workspace = workspace
        self._start = start
        self._log, self._on_lock, self._unlock = log, on_lock, unlock
        self._env = {
            "GOGC": GARBAGE,
            **env,
            "TF_WORKSPACE": workspace,
            "TF_DATA_DIR": str(data_dir.absolute()),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            **_logging(log),
        }

    def init(self, backend: Mapping[str, object], on_event: OnEvent | None = None) -> None:
        """Fetch the providers and point the folder at its state.

        The workspace need not exist: the first plan in it makes it. Init itself refuses a
        workspace that is missing, so it runs in the one that never is.
        """
        in_default = {"TF_WORKSPACE": "default"}
        self._run(init_command(backend), heard=[], extra=in_default, on_event=on_event)

    def validate(self) -> None:
        """Raise CommandFailed with every complaint if the configuration is not valid."""
        shown = self._document(command("validate", json=IsFlagged), check=False)
        found = [read_diagnostic(diagnostic) for diagnostic in shown["diagnostics"]]
        if not shown["valid"]:
            details = [line for diagnostic in found for line in diagnostic.lines()]
            raise CommandFailed(f"{self.folder.name} is not valid Terraform.", details=details)

    def plan(
        self,
        path: Path,
        *,
        variables: Mapping[str, object],
        destroy: bool = False,
        context: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
    ) -> SavedPlan:
        """Save a plan in `path`, for its owner alone.

        context: what else the digest is bound to: account, region, target.
        """
        path = path.absolute()
        private_files.make_folder(path.parent)
        # Terraform would make it readable for everybody.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        heard: list[Event] = []
        args = plan_command(path, destroy=destroy)
        extra = variables_environment(variables)
        try:
            self._run(args, heard=heard, extra=extra, on_event=on_event)
        except BaseException:
            path.unlink()
            raise
        # Showing a plan loads every provider once more: seconds that an empty one need not take.
        is_empty = not any(e.kind == "planned_change" or e.changed_outputs for e in heard)
        shown = {} if is_empty else self.describe(path)
        return read_plan(shown, path, self.workspace, context or {})

    def saved(self, path: Path, context: Mapping[str, str] | None = None) -> SavedPlan:
        """Return a plan that was saved before, with its digest computed anew from the file."""
        return read_plan(self.describe(path), path.absolute(), self.workspace, context or {})

    def describe(self, path: Path) -> dict:
        """Return a saved plan as JSON, with the state it rests on; both may hold secrets."""
        return self._document(command("show", str(path.absolute()), json=IsFlagged))

    def apply(self, plan: SavedPlan, on_event: OnEvent | None = None) -> Applied:
        """Apply a saved plan and delete its file; for an empty one Terraform is not started.

        Raises ApplyFailed or Interrupted with `applied`, what had been done by then; Locked or
        CommandFailed if nothing had.
        """
        self._require_unchanged(plan)
        if plan.is_empty:
            plan.discard()
            return read_applied((), self.workspace)
        self._require_providers_now()
        heard: list[Event] = []
        try:
            result = self._run(apply_command(plan.path), heard=heard, on_event=on_event)
        except KeyboardInterrupt as err:
            raise self._stopped(Interrupted, "interrupted", heard) from err
        except CommandFailed as err:
            if not read_applied(heard, self.workspace).has_begun:
                raise
            raise self._stopped(ApplyFailed, "not completed", heard) from err
        finally:
            plan.discard()
        return read_applied(heard, self.workspace, result.duration_s)

    def outputs(self) -> Outputs:
        """Return the output values; empty before the first apply."""
        return Outputs(self._document(command("output", json=IsFlagged)))

    def push_state(self, path: Path) -> None:
        """Make a local state the one that the backend keeps; it must not hold a newer one."""
        push = command("state push", str(path.absolute()), lock_timeout=LOCK_TIMEOUT)
        self._run(push, heard=[])

    def version(self) -> dict[str, str]:
        """Return versions by name: {"terraform": "1.11.4", "hashicorp/aws": "5.100.0"}."""
        shown = self._document(command("version", json=IsFlagged))
        providers = shown["provider_selections"].items()
        return {
            "terraform": shown["terraform_version"],
            **{source.partition("/")[2]: version for source, version in providers},
        }

    def _require_unchanged(self, plan: SavedPlan) -> None:
        if plan.workspace == self.workspace and plan.is_unchanged:
            return
        raise CommandFailed(
            "The saved plan is not the one that was shown.",
            expected=f"{plan.path.name} as planned for {self.workspace}",
            observed=f"a plan for {plan.workspace}, applied, changed or deleted since",
            next="run the plan cell again",
        )

    def _require_providers_now(self) -> None:
        """Ask Terraform before an apply, which would say it only when the providers already run."""
        with tempfile.TemporaryDirectory(prefix="daybook-") as empty:
            shown = self._document(command("validate", json=IsFlagged), cwd=Path(empty))
        _require_locked_providers(map(read_diagnostic, shown["diagnostics"]))

    def _run(
        self,
        args: Sequence[str],
        *,
        heard: list[Event],
        extra: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
    ) -> process.Result:
        """Run a command that tells what it does; `heard` gets every event as it comes."""

        def on_line(line: str) -> None:
            heard.append(parse(line))
            if on_event:
                on_event(heard[-1])

        with self._locks_noted():
            result = self._start(
                args,
                env={**self._env, **(extra or {})},
                cwd=self.folder,
                on_line=on_line,
                grace_s=GRACE_S,
                check=False,
            )
        _require_locked_providers(event.diagnostic for event in heard if event.diagnostic)
        if result.returncode:
            raise self._failure(result, heard)
        return result

    @contextmanager
    def _locks_noted(self) -> Iterator[None]:
        """Tell `on_lock` of each lock as soon as Terraform asks for it."""
        if not self._log:
            yield
            return
        # Terraform would make it readable for everybody.
        os.close(private_files.opener(self._log, os.O_WRONLY | os.O_CREAT))
        known = set(state_lock.attempts(self._log))
        done = threading.Event()

        def note() -> None:
            for id in dict.fromkeys(state_lock.attempts(self._log)):
                if id not in known:
                    known.add(id)
                    self._on_lock(id)

        def watch() -> None:
            while not done.wait(LOCK_POLL_S):
                note()

        watcher = threading.Thread(target=watch, name="Terraform's lock", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            note()

    def _failure(self, result: process.Result, heard: Sequence[Event]) -> DaybookError:
        summaries, details = _complaints(heard)
        if holder := [line for line in details if LOCK_INFO.match(line)]:
            id = next((found[1] for line in holder if (found := LOCK_ID.match(line))), "ID")
            return Locked(
                f"Terraform's state of {self.folder.name}, workspace {self.workspace}, is locked.",
                details=holder,
                next="wait for the Terraform that holds it; if it no longer runs: "
                + self._unlock.format(id=id),
            )
        return CommandFailed(
            f"terraform {result.args[1]} failed in {self.folder.name}.",
            result=result,
            details=details or result.tail,
            expected="exit code 0",
            observed=f"exit code {result.returncode}",
            next="run the plan cell again"
            if STALE in summaries
            else f"{errors.sign_in(details)}run this step again",
        )

    def _stopped(self, cls: type[DaybookError], how: str, heard: Sequence[Event]) -> DaybookError:
        """Return the error of an apply that began and did not end, with `applied`."""
        applied = read_applied(heard, self.workspace)
        complaints = _complaints(heard)[1]
        again = f"{errors.sign_in(complaints)}run this step again"
        unsaved = self._rescue_state()
        error = cls(
            f"terraform apply in {self.folder.name}, workspace {self.workspace}, was {how}.",
            details=complaints,
            changed=f"Changed by then: {applied}" if applied.has_begun else NOTHING_CHANGED,
            next=f"keep {unsaved.name}, the state that could not be saved; {again}: its preflight "
            "says how to push it"
            if unsaved
            else f"{again}: the state holds what was done, the plan shows the rest",
        )
        error.applied = applied
        return error

    def _rescue_state(self) -> Path | None:
        """Push a state that Terraform could not save; return its file if that fails as well.

        Terraform names the file alike for every workspace: it gets the name of its own.
        """
        if not (self.folder / UNSAVED).exists():
            return None
        kept = (self.folder / UNSAVED).rename(unsaved_state(self.folder, self.workspace))
        kept.chmod(0o600)
        try:
            self.push_state(kept)
        except DaybookError:
            return kept
        kept.unlink()
        return None

    def _document(
        self, args: Sequence[str], *, check: bool = True, cwd: Path | None = None
    ) -> dict:
        """Run a command that prints one JSON document, which may hold secrets."""
        lines: list[str] = []
        cwd = cwd or self.folder
        result = self._start(
            args, env=self._env, cwd=cwd, on_line=lines.append, check=check, private=True
        )
        # Warnings about the CLI's own configuration come before it.
        begin = next((i for i, line in enumerate(lines) if line.startswith("{")), None)
        if begin is None:
            raise CommandFailed(f"{result.command} printed no JSON.", details=lines[-10:])
        return json.JSONDecoder().raw_decode("\n".join(lines[begin:]))[0]


def _logging(log: Path | None) -> dict[str, str]:
    """Return what makes Terraform itself log its locks there; providers log requests: nothing."""
    if not log:
        return {}
    off = {"TF_LOG": "", "TF_LOG_PROVIDER": ""}
    return {**off, "TF_LOG_CORE": "INFO", "TF_LOG_PATH": str(log.absolute())}


def _require_locked_providers(diagnostics: Iterable[Diagnostic]) -> None:
    """Refuse providers of this computer's own, which .terraform.lock.hcl does not cover."""
    if any(diagnostic.summary == OVERRIDDEN for diagnostic in diagnostics):
        raise CommandFailed(
            "Terraform's providers are overridden on this computer.",
            expected="the providers of .terraform.lock.hcl",
            observed="dev_overrides in Terraform's CLI configuration",
            next="remove dev_overrides from ~/.terraformrc, ~/.terraform.d, or the file that "
            "TF_CLI_CONFIG_FILE names, then run this step again",
        )


def _texts(value: object) -> list[str]:
    """Return the texts in a value, however deep: {"a": ["b"]} has "b"."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _complaints(heard: Sequence[Event]) -> tuple[list[str], list[str]]:
    """Return the summaries of all errors, and their full text as lines."""
    found = [e.diagnostic for e in heard if e.diagnostic and e.diagnostic.severity == "error"]
    lines = [line for diagnostic in found for line in diagnostic.lines()]
    return [diagnostic.summary for diagnostic in found], list(dict.fromkeys(lines))
