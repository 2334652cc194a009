"""Run Terraform in a folder and a workspace; python-terraform builds the commands."""

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
from daybook.terraform.events import Diagnostic, OnEvent, TerraformEvent, parse, read_diagnostic
from daybook.terraform.plan import ApplyResult, SavedPlan, read_applied, read_plan

LOCK_TIMEOUT = "30s"
# An interrupted apply waits for running AWS operations, then writes the state.
GRACE_S = 180.0
# Terraform's errors have no codes. Lock errors differ in their summaries, but all contain these
# lines; the summaries of a stale plan and of overridden providers are constants in its source.
LOCK_INFO = re.compile(r"\s+(ID|Operation|Who|Created): ")
LOCK_ID = re.compile(r"\s+ID:\s+([\w-]+)")
LOCK_POLL_S = 0.2
STALE = "Saved plan is stale"
OVERRIDDEN = "Provider development overrides are in effect"
UNSAVED = "errored.tfstate"
GARBAGE = "400"
"""GOGC of Terraform and its providers: heap growth in percent before a garbage collection.

With Go's default of 100, a plan takes a third longer and uses a twelfth less memory.
"""


def command(name: str, *args: str, **options: object) -> list[str]:
    """Return a Terraform command line: `plan`, out="p" -> terraform plan -out=p."""
    # PythonTerraform reads ./terraform.tfstate when it is created, and must find none.
    return PythonTerraform(working_dir=os.devnull).generate_cmd_string(name, *args, **options)


def init_command(backend: Mapping[str, object]) -> list[str]:
    """Return the command that initializes a folder for exactly this backend."""
    settings = {key: _encode(value) for key, value in backend.items()}
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
    """Return the command that applies a saved plan without a prompt."""
    return command("apply", str(path), json=IsFlagged, input=False, lock_timeout=LOCK_TIMEOUT)


def unsaved_state(folder: Path, workspace: str) -> Path:
    """Return the file of a state that Terraform could not save and Daybook could not push."""
    return folder / f"errored.{workspace}.tfstate"


def mirror_config(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return TF_CLI_CONFIG_FILE for the provider mirror that `make setup` found, or {}."""
    own = environ.get("TF_CLI_CONFIG_FILE")
    mirror = root / ".cache" / "terraform.rc"
    if (own and Path(own).is_file()) or not mirror.is_file():
        return {}
    return {"TF_CLI_CONFIG_FILE": str(mirror)}


def variables_environment(variables: Mapping[str, object]) -> dict[str, str]:
    """Return Terraform variables as environment variables: {"TF_VAR_domains": '["a"]'}."""
    return {f"TF_VAR_{name}": _encode(value) for name, value in variables.items()}


def _encode(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Outputs(dict):
    """Output values by name. repr masks sensitive outputs, which `sensitive` names."""

    def __init__(self, shown: Mapping[str, Mapping]) -> None:
        super().__init__({name: output["value"] for name, output in shown.items()})
        self.sensitive = frozenset(name for name, out in shown.items() if out["sensitive"])

    def secrets(self) -> list[tuple[str, str]]:
        """Return every string in a sensitive output, with the name of the output."""
        return [(name, text) for name in sorted(self.sensitive) for text in _texts(self[name])]

    def __repr__(self) -> str:
        return repr({k: "[sensitive]" if k in self.sensitive else v for k, v in self.items()})


def outputs_in(state: str) -> Outputs:
    """Return the output values in the text of a state; empty for "". Raises CommandFailed."""
    try:
        shown = json.loads(state).get("outputs", {}) if state else {}
        return Outputs({name: {"sensitive": False, **output} for name, output in shown.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CommandFailed(
            "Terraform's state cannot be read.",
            expected="a state in JSON, with outputs",
            observed=type(err).__name__,
            next="restore an earlier version of the object: docs/when-something-is-wrong.md",
        ) from None


class Terraform:
    """Terraform in one folder and workspace, with a separate data directory.

    env: the complete environment of the tool: target, credentials, PATH. log: file in which
    Terraform logs the id of each lock before it requests the lock. on_lock: called with that id,
    in a thread. unlock: command that removes an abandoned lock; `{id}` stands for the id.
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
        """Install the providers and configure the backend.

        The first plan in a workspace creates the workspace. `terraform init` refuses a missing
        workspace, so it runs in `default`, which always exists.
        """
        in_default = {"TF_WORKSPACE": "default"}
        self._run(init_command(backend), events=[], extra=in_default, on_event=on_event)

    def validate(self) -> None:
        """Raise CommandFailed with all diagnostics if the configuration is not valid."""
        shown = self._document(command("validate", json=IsFlagged), check=False)
        if not shown["valid"]:
            diagnostics = map(read_diagnostic, shown["diagnostics"])
            details = [line for diagnostic in diagnostics for line in diagnostic.lines()]
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
        """Save a plan in `path`, readable by the owner only.

        context: further values that the digest covers: account, region, target.
        """
        path = path.absolute()
        private_files.make_folder(path.parent)
        # Terraform would create it readable for all users.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        events: list[TerraformEvent] = []
        args = plan_command(path, destroy=destroy)
        extra = variables_environment(variables)
        try:
            self._run(args, events=events, extra=extra, on_event=on_event)
        except BaseException:
            path.unlink()
            raise
        # `terraform show` starts every provider again. An empty plan does not need these seconds.
        is_empty = not any(e.kind == "planned_change" or e.changed_outputs for e in events)
        shown = {} if is_empty else self.describe(path)
        return read_plan(shown, path, self.workspace, context or {})

    def saved(self, path: Path, context: Mapping[str, str] | None = None) -> SavedPlan:
        """Return a plan that was saved earlier; its digest is computed from the file."""
        return read_plan(self.describe(path), path.absolute(), self.workspace, context or {})

    def describe(self, path: Path) -> dict:
        """Return a saved plan as JSON, with the prior state. Both may contain secrets."""
        return self._document(command("show", str(path.absolute()), json=IsFlagged))

    def apply(self, plan: SavedPlan, on_event: OnEvent | None = None) -> ApplyResult:
        """Apply a saved plan and delete its file. For an empty plan, Terraform is not started.

        Raises ApplyFailed after a partial apply, or Interrupted, both with the completed changes
        in `applied`; Locked or CommandFailed if nothing was changed.
        """
        self._require_unchanged(plan)
        if plan.is_empty:
            plan.discard()
            return read_applied((), self.workspace)
        self._check_providers()
        events: list[TerraformEvent] = []
        try:
            result = self._run(apply_command(plan.path), events=events, on_event=on_event)
        except KeyboardInterrupt as err:
            raise self._stopped(Interrupted, "interrupted", events) from err
        except CommandFailed as err:
            if not read_applied(events, self.workspace).has_begun:
                raise
            raise self._stopped(ApplyFailed, "not completed", events) from err
        finally:
            plan.discard()
        return read_applied(events, self.workspace, result.duration_s)

    def outputs(self) -> Outputs:
        """Return the output values; empty before the first apply."""
        return Outputs(self._document(command("output", json=IsFlagged)))

    def push_state(self, path: Path) -> None:
        """Push a local state to the backend. Terraform refuses if the backend has a newer one."""
        push = command("state push", str(path.absolute()), lock_timeout=LOCK_TIMEOUT)
        self._run(push, events=[])

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
            expected=f"{plan.path.name}, unchanged, for workspace {self.workspace}",
            observed=f"a plan for workspace {plan.workspace} that was applied, changed or deleted",
            next="run the plan cell again",
        )

    def _check_providers(self) -> None:
        """Check for overridden providers; an apply would report them only after their start."""
        with tempfile.TemporaryDirectory(prefix="daybook-") as empty:
            shown = self._document(command("validate", json=IsFlagged), cwd=Path(empty))
        _require_locked_providers(map(read_diagnostic, shown["diagnostics"]))

    def _run(
        self,
        args: Sequence[str],
        *,
        events: list[TerraformEvent],
        extra: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
    ) -> process.Result:
        """Run a command with `-json` output; `events` collects each event as it arrives."""

        def on_line(line: str) -> None:
            events.append(parse(line))
            if on_event:
                on_event(events[-1])

        with self._report_locks():
            result = self._start(
                args,
                env={**self._env, **(extra or {})},
                cwd=self.folder,
                on_line=on_line,
                grace_s=GRACE_S,
                check=False,
            )
        _require_locked_providers(event.diagnostic for event in events if event.diagnostic)
        if result.returncode:
            raise self._failure(result, events)
        return result

    @contextmanager
    def _report_locks(self) -> Iterator[None]:
        """Call `on_lock` with the id of each lock as soon as Terraform requests the lock."""
        if not self._log:
            yield
            return
        # Terraform would create it readable for all users.
        os.close(private_files.opener(self._log, os.O_WRONLY | os.O_CREAT))
        known = set(state_lock.attempts(self._log))
        done = threading.Event()

        def report_new() -> None:
            for id in dict.fromkeys(state_lock.attempts(self._log)):
                if id not in known:
                    known.add(id)
                    self._on_lock(id)

        def watch() -> None:
            while not done.wait(LOCK_POLL_S):
                report_new()

        watcher = threading.Thread(target=watch, name="Terraform's lock", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            report_new()

    def _failure(self, result: process.Result, events: Sequence[TerraformEvent]) -> DaybookError:
        summaries, details = _errors(events)
        if lock_info := [line for line in details if LOCK_INFO.match(line)]:
            ids = (match[1] for line in lock_info if (match := LOCK_ID.match(line)))
            return Locked(
                f"Terraform's state of {self.folder.name}, workspace {self.workspace}, is locked.",
                details=lock_info,
                next="wait until the Terraform process that holds the lock ends; if it no longer "
                f"runs: {self._unlock.format(id=next(ids, 'ID'))}",
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

    def _stopped(
        self, cls: type[DaybookError], how: str, events: Sequence[TerraformEvent]
    ) -> DaybookError:
        """Return the error of an apply that started and did not complete, with `applied`."""
        applied = read_applied(events, self.workspace)
        _, details = _errors(events)
        retry = f"{errors.sign_in(details)}run this step again"
        unsaved = self._push_unsaved_state()
        error = cls(
            f"terraform apply in {self.folder.name}, workspace {self.workspace}, was {how}.",
            details=details,
            changed=f"Changed by then: {applied}" if applied.has_begun else NOTHING_CHANGED,
            next=f"keep {unsaved.name}, the state that could not be saved; {retry}: its preflight "
            "prints the command that pushes it"
            if unsaved
            else f"{retry}: the state has the completed changes, the plan shows the others",
        )
        error.applied = applied
        return error

    def _push_unsaved_state(self) -> Path | None:
        """Push a state that Terraform could not save; return its file if the push fails too.

        Terraform uses one file name for all workspaces, so the file is renamed first.
        """
        if not (self.folder / UNSAVED).exists():
            return None
        unsaved = (self.folder / UNSAVED).rename(unsaved_state(self.folder, self.workspace))
        unsaved.chmod(0o600)
        try:
            self.push_state(unsaved)
        except DaybookError:
            return unsaved
        unsaved.unlink()
        return None

    def _document(
        self, args: Sequence[str], *, check: bool = True, cwd: Path | None = None
    ) -> dict:
        """Run a command that prints one JSON document, which may contain secrets."""
        lines: list[str] = []
        cwd = cwd or self.folder
        result = self._start(
            args, env=self._env, cwd=cwd, on_line=lines.append, check=check, private=True
        )
        # Warnings about the CLI configuration precede the document.
        start = next((i for i, line in enumerate(lines) if line.startswith("{")), None)
        if start is None:
            raise CommandFailed(f"{result.command} printed no JSON.", details=lines[-10:])
        return json.JSONDecoder().raw_decode("\n".join(lines[start:]))[0]


def _logging(log: Path | None) -> dict[str, str]:
    """Return variables that make Terraform log its locks, without providers, which log requests."""
    if not log:
        return {}
    off = {"TF_LOG": "", "TF_LOG_PROVIDER": ""}
    return {**off, "TF_LOG_CORE": "INFO", "TF_LOG_PATH": str(log.absolute())}


def _require_locked_providers(diagnostics: Iterable[Diagnostic]) -> None:
    """Raise CommandFailed if local providers replace those of .terraform.lock.hcl."""
    if any(diagnostic.summary == OVERRIDDEN for diagnostic in diagnostics):
        raise CommandFailed(
            "Terraform's providers are overridden on this computer.",
            expected="the providers in .terraform.lock.hcl",
            observed="dev_overrides in Terraform's CLI configuration",
            next="remove dev_overrides from ~/.terraformrc, ~/.terraform.d, or the file that "
            "TF_CLI_CONFIG_FILE names, then run this step again",
        )


def _texts(value: object) -> list[str]:
    """Return all strings in a nested value: {"a": ["b"]} has "b"."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _errors(events: Sequence[TerraformEvent]) -> tuple[list[str], list[str]]:
    """Return the summaries of all errors, and their full text as lines."""
    diagnostics = [event.diagnostic for event in events if event.diagnostic]
    failures = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    lines = [line for failure in failures for line in failure.lines()]
    return [failure.summary for failure in failures], list(dict.fromkeys(lines))
