"""Preflight: read-only questions, all asked before any answer stops the run."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daybook import aws, process, secrets, ui
from daybook.aws import errors
from daybook.environment import Environment
from daybook.errors import DaybookError, PreflightFailed, ToolKilled, explained
from daybook.target import Target

_STATUSES = {True: ui.good("ok"), False: ui.bad("failed"), None: ui.quiet("not asked")}


@dataclass(frozen=True)
class CheckResult:
    """One question about the world: what was expected, what was seen, how to mend it.

    is_ok: None when it could not be asked.
    """

    name: str
    expected: str
    observed: str
    is_ok: bool | None
    fix: str = ""


@dataclass(frozen=True, repr=False)
class CheckResults(ui.Shown):
    """The answers of a preflight."""

    answers: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The answers that stop the run."""
        return tuple(check for check in self.answers if check.is_ok is False)

    def view(self) -> ui.Table:
        """Show one row a check."""
        rows = [
            (_STATUSES[check.is_ok], check.name, check.expected, check.observed)
            + ((check.fix if check.is_ok is False else "",) if self.failed else ())
            for check in self.answers
        ]
        columns = ("status", "check", "expected", "observed", *(("fix",) if self.failed else ()))
        title = f"Preflight: {len(self.failed)} of {len(rows)} failed"
        title = title if self.failed else f"Preflight: all {len(rows)} passed"
        status = ui.FAILED if self.failed else ui.OK
        return ui.Table(title, columns, rows, status)

    def require(self, again: str = "run this step again from its first cell") -> CheckResults:
        """Return self, or raise PreflightFailed with every failed check and its fix."""
        if not self.failed:
            return self
        details = [
            f"{ui.FAILED.mark} {check.name}: expected {check.expected}, observed {check.observed}"
            + (f"\n    fix: {check.fix}" if check.fix else "")
            for check in self.failed
        ]
        count = len(self.failed)
        raise PreflightFailed(
            f"Preflight failed: {count} of {len(self.answers)} checks.",
            details=details,
            next=f"mend the above, then {again}",
        )


Check = Callable[[str], CheckResult]
"""Takes the name of the check, asks, answers."""


def run_checks(
    target: Target, here: Mapping[str, Check], there: Mapping[str, Check]
) -> CheckResults:
    """Ask every question; those `there` only when the target answers at all."""
    first = [_answer(name, question) for name, question in here.items()]
    reach = _answer("target", functools.partial(_target_answers, target))
    if reach.is_ok:
        rest = [_answer(name, question) for name, question in there.items()]
    else:
        rest = [CheckResult(name, "", "", is_ok=None) for name in there]
    return CheckResults((*first, reach, *rest))


def _answer(name: str, question: Check) -> CheckResult:
    """A question that cannot be answered is a failed check, not the end of the preflight."""
    try:
        return question(name)
    except ToolKilled:
        raise
    except (DaybookError, OSError, *aws.FAILURES) as err:
        failure = explained(err)
        reason = " ".join(filter(None, [failure.message, failure.observed]))
        return CheckResult(
            name, failure.expected or "an answer", reason, is_ok=False, fix=failure.next or ""
        )


def _target_answers(target: Target, name: str) -> CheckResult:
    if target.is_sandbox:
        expected, fix = "the sandbox is up", "daybook sandbox up"
    else:
        expected = f"signed in to AWS account {target.account}"
        fix = "sign in to that account (aws sso login, AWS_PROFILE), or correct `account`"
    if not target.is_up:
        return CheckResult(name, expected, "not up", is_ok=False, fix=fix)
    try:
        caller = aws.caller(target)
    except aws.FAILURES as err:
        failure = errors.failure(err, "sts:GetCallerIdentity", target)
        reason = f"{failure.message} {failure.observed}"
        return CheckResult(name, expected, reason, is_ok=False, fix=failure.next)
    is_ok = caller["account"] == target.account
    return CheckResult(name, expected, f"{caller['account']} as {caller['arn']}", is_ok, fix)


def tool_version(
    command: tuple[str, ...],
    environ: Mapping[str, str],
    fix: str,
    *,
    at_least: tuple[int, ...],
    below: tuple[int, ...] | None = None,
    start: Callable[..., process.Result] = process.run,
) -> Check:
    """Ask for a tool on PATH in a version that works."""
    expected = f">= {_dotted(at_least)}" + (f", < {_dotted(below)}" if below else "")

    def question(name: str) -> CheckResult:
        if not shutil.which(command[0], path=environ.get("PATH")):
            return CheckResult(name, expected, "not on PATH", is_ok=False, fix=fix)
        result = start(command, env=environ, timeout_s=30, check=False)
        found = re.search(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", " ".join(result.tail))
        if result.returncode or not found:
            return CheckResult(
                name, expected, "a version that cannot be read", is_ok=False, fix=fix
            )
        version = tuple(int(part) for part in found.groups() if part)
        is_ok = version >= at_least and (below is None or version < below)
        return CheckResult(name, expected, _dotted(version), is_ok, fix)

    return question


def file_exists(path: Path, root: Path, fix: str) -> Check:
    """Ask for a file; one of the project is named from its root."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return lambda name: _there(name, str(shown), path.is_file(), fix)


def bucket_exists(target: Target, bucket: str, fix: str) -> Check:
    """Ask for a bucket."""
    return lambda name: _there(name, bucket, aws.bucket_exists(target, bucket), fix)


def repository_exists(target: Target, repository: str, fix: str) -> Check:
    """Ask for an ECR repository."""
    return lambda name: _there(name, repository, aws.repository_exists(target, repository), fix)


def zone_exists(target: Target, zone: str, fix: str) -> Check:
    """Ask for a DNS zone."""
    return lambda name: _there(name, zone, bool(aws.zone_id(target, zone)), fix)


def secrets_are_set(environment: Environment) -> Check:
    """Ask whether each declared secret has a value, and whether each value is declared."""
    env, options = environment.name, f"-e {environment.name}"
    options += " --rehearse" if environment.is_rehearsal else ""

    def question(name: str) -> CheckResult:
        declared = set(environment.settings.secrets)
        found = set(secrets.Store(environment).current())
        missing, undeclared = sorted(declared - found), sorted(found - declared)
        said = [f"{word} has no value" for word in missing]
        said += [f"{word} is not declared" for word in undeclared]
        fixes = [f"daybook secrets set {word} {options}" for word in missing]
        fixes += [
            f"declare {word} in environments/{env}.yml, or: daybook secrets unset {word} {options}"
            for word in undeclared
        ]
        expected = ", ".join(sorted(declared)) or "none"
        return CheckResult(name, expected, "; ".join(said) or expected, not said, "; ".join(fixes))

    return question


def _there(name: str, what: str, is_there: bool, fix: str) -> CheckResult:
    return CheckResult(name, what, "there" if is_there else "missing", is_there, fix)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
