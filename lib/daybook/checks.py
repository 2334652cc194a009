"""Preflight: read-only checks, all of which run before any failure stops the run."""

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

AGAIN = "run this step again from its first cell"
_STATUSES = {True: ui.good("ok"), False: ui.bad("failed"), None: ui.SKIPPED}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: the expected state, the observed state, and the fix.

    is_ok: None when the check could not run. fix: set for every check that can fail.
    """

    name: str
    expected: str
    observed: str
    is_ok: bool | None
    fix: str = ""


@dataclass(frozen=True, repr=False)
class CheckResults(ui.Shown):
    """The results of a preflight."""

    answers: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The results that stop the run."""
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

    def require(self, again: str = AGAIN) -> CheckResults:
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
            next=f"fix the failed checks, then {again}",
        )


Check = Callable[[str], CheckResult]
"""Takes the name under which its result is shown."""


def run_checks(
    target: Target, local_checks: Mapping[str, Check], target_checks: Mapping[str, Check]
) -> CheckResults:
    """Run every check; skip those that call the target when the target does not answer."""
    local = [_run_check(name, check) for name, check in local_checks.items()]
    reachable = _run_check("target", functools.partial(_target_answers, target))
    if reachable.is_ok:
        remote = [_run_check(name, check) for name, check in target_checks.items()]
    else:
        remote = [CheckResult(name, "", "", is_ok=None) for name in target_checks]
    return CheckResults((*local, reachable, *remote))


def _run_check(name: str, check: Check) -> CheckResult:
    """Run a check; an error fails this check and does not end the preflight."""
    try:
        return check(name)
    except ToolKilled:
        raise
    except (DaybookError, OSError, *aws.FAILURES) as err:
        failure = explained(err)
        observed = " ".join(filter(None, [failure.message, failure.observed]))
        fix = failure.next or AGAIN
        return CheckResult(name, failure.expected or "no error", observed, is_ok=False, fix=fix)


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
        observed = f"{failure.message} {failure.observed}"
        return CheckResult(name, expected, observed, is_ok=False, fix=failure.next or fix)
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
    """Check that a tool is on PATH in a supported version.

    command: prints the version.
    """
    expected = f">= {_dotted(at_least)}" + (f", < {_dotted(below)}" if below else "")

    def check(name: str) -> CheckResult:
        if not shutil.which(command[0], path=environ.get("PATH")):
            return CheckResult(name, expected, "not on PATH", is_ok=False, fix=fix)
        result = start(command, env=environ, timeout_s=30, check=False)
        match = re.search(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", " ".join(result.tail))
        if result.returncode or not match:
            return CheckResult(name, expected, "no readable version", is_ok=False, fix=fix)
        version = tuple(int(part) for part in match.groups() if part)
        is_ok = version >= at_least and (below is None or version < below)
        return CheckResult(name, expected, _dotted(version), is_ok, fix)

    return check


def file_exists(path: Path, root: Path, fix: str) -> Check:
    """Check that a file exists; a file of the project is named by its path from the root."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return lambda name: _exists(name, str(shown), path.is_file(), fix)


def bucket_exists(target: Target, bucket: str, fix: str) -> Check:
    """Check that a bucket exists."""
    return lambda name: _exists(name, bucket, aws.bucket_exists(target, bucket), fix)


def repository_exists(target: Target, repository: str, fix: str) -> Check:
    """Check that an ECR repository exists."""
    return lambda name: _exists(name, repository, aws.repository_exists(target, repository), fix)


def zone_exists(target: Target, zone: str, fix: str) -> Check:
    """Check that a DNS zone exists."""
    return lambda name: _exists(name, zone, bool(aws.zone_id(target, zone)), fix)


def secrets_are_set(environment: Environment) -> Check:
    """Check that each declared secret has a value, and that each value is declared."""
    env, options = environment.name, f"-e {environment.name}"
    options += " --rehearse" if environment.is_rehearsal else ""

    def check(name: str) -> CheckResult:
        declared = set(environment.settings.secrets)
        stored = set(secrets.Store(environment).current())
        missing, undeclared = sorted(declared - stored), sorted(stored - declared)
        problems = [f"{secret} has no value" for secret in missing]
        problems += [f"{secret} is not declared" for secret in undeclared]
        fixes = [f"daybook secrets set {secret} {options}" for secret in missing]
        fixes += [
            f"declare {secret} in environments/{env}.yml, or run: "
            f"daybook secrets unset {secret} {options}"
            for secret in undeclared
        ]
        expected = ", ".join(sorted(declared)) or "none"
        observed = "; ".join(problems) or expected
        return CheckResult(name, expected, observed, not problems, "; ".join(fixes))

    return check


def _exists(name: str, resource: str, exists: bool, fix: str) -> CheckResult:
    return CheckResult(name, resource, "exists" if exists else "missing", exists, fix)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
