"""Preflight checks of every changing step: region, names, git, review, clock, disk, freezes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from botocore.exceptions import ClientError

from daybook import aws, git, reviews
from daybook.aws import errors
from daybook.checks import Check, CheckResult
from daybook.environment import Environment
from daybook.errors import PreflightFailed
from daybook.settings import Settings
from daybook.settings.types import shown
from daybook.target import Target

CLOCK_S = 60
"""The largest accepted difference between this computer's clock and AWS's."""
FREE_GIB = 1
PROGRAMS = ("git", "ssh", "ssh-keygen")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def local_checks(environment: Environment, *, override_freeze: str) -> dict[str, Check]:
    """Return the checks of every changing step that need no target."""
    return {
        "programs": programs_are_installed(environment.target),
        "region": region_matches(environment.target),
        "names": names_are_unique(environment),
        "git": checkout_is_clean(environment.root, environment.settings.require_git),
        "disk": disk_has_space(environment.root),
        "freeze": no_freeze(environment.settings, override=override_freeze),
    }


def target_checks(
    environment: Environment, review: reviews.Review, *, override_git: str
) -> dict[str, Check]:
    """Return the checks of every changing step that call the target."""
    return {
        "clock": clock_is_accurate(environment.target),
        "state's region": bucket_is_in_region(environment.target, environment.state_bucket),
        "review": commit_is_reviewed(review, override=override_git),
    }


def programs_are_installed(target: Target) -> Check:
    """Check for the programs that every step needs for its record and its hosts."""

    def check(name: str) -> CheckResult:
        path = target.environ.get("PATH")
        missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
        observed = f"{', '.join(missing)} not on PATH" if missing else "installed"
        fix = "apt install git openssh-client"
        return CheckResult(name, ", ".join(PROGRAMS), observed, not missing, fix)

    return check


def region_matches(target: Target) -> Check:
    """Check that the environment variables of the tools name the target's region."""

    def check(name: str) -> CheckResult:
        regions = {target.environ.get(variable, "not set") for variable in REGIONS}
        fix = f"unset {' and '.join(REGIONS)}, or correct `region` in the settings"
        observed = " and ".join(sorted(regions))
        return CheckResult(name, target.region, observed, regions == {target.region}, fix)

    return check


def bucket_is_in_region(target: Target, bucket: str) -> Check:
    """Check the region of the state bucket; one that does not exist will be created in it."""

    def check(name: str) -> CheckResult:
        if not aws.bucket_exists(target, bucket):
            return CheckResult(name, target.region, "no state yet", is_ok=True)
        answer = aws.client(target, "s3").get_bucket_location(Bucket=bucket)
        region = answer["LocationConstraint"] or "us-east-1"
        fix = f"{bucket} is in another region: correct `region`, or use another `app`"
        return CheckResult(name, target.region, region, region == target.region, fix)

    return check


def names_are_unique(environment: Environment) -> Check:
    """Check that no other environment of the project has the same DNS name or network."""
    env, settings = environment.name, environment.settings

    def check(name: str) -> CheckResult:
        conflicts = [
            conflict
            for neighbor in environment.others.values()
            for conflict in _conflicts(neighbor, settings)
        ]
        fix = f"give {env} its own domains and vpc_cidr in environments/{env}.yml"
        observed = "; ".join(conflicts) or ", ".join((*settings.domains, str(settings.vpc_cidr)))
        # Only a warning: a mistake in staging's file must not stop a rollback of production.
        observed += _not_compared(environment.invalid_others)
        return CheckResult(name, f"used by {env} only", observed, not conflicts, fix)

    return check


def repositories_match(environment: Environment) -> Check:
    """Check that all environments of the account name the same repositories on GitHub."""
    env, own = environment.name, _repositories(environment.settings)

    def check(name: str) -> CheckResult:
        differing = [f"{invalid}'s settings are invalid" for invalid in environment.invalid_others]
        differing += [
            f"{neighbor} has {_repositories(settings)}"
            for neighbor, settings in environment.of_account.items()
            if _repositories(settings) != own
        ]
        fix = f"set the same repositories in environments/{env}.yml and the other environments"
        expected = f"{own} in every environment of the account"
        observed = "; ".join(differing) or own
        return CheckResult(name, expected, observed, not differing, fix)

    return check


def branches(environment: Environment) -> list[str]:
    """Return the branches that the account's environments release: `["main", "staging"]`."""
    return sorted({settings.github.branch for settings in environment.of_account.values()})


def checkout_is_clean(root: Path, require_git: str) -> Check:
    """Check that the files are those of the commit that is checked out, byte for byte."""
    is_optional = require_git == reviews.ANY
    expected = "anything" if is_optional else "a commit, unchanged"

    def check(name: str) -> CheckResult:
        commit = git.head(root)
        if not commit:
            fix = "run Daybook from the team's checkout of the project"
            return CheckResult(name, expected, "no commit", is_optional, fix)
        changed = reviews.files_changed(root, commit)
        if changed:
            observed = f"{commit[:12]} and {len(changed)} changed: {', '.join(changed[:3])}"
            fix = "git commit, git stash, or remove the files that are not in the commit"
            return CheckResult(name, expected, observed, is_optional, fix)
        return CheckResult(name, expected, f"{commit[:12]}, unchanged", is_ok=True)

    return check


def commit_is_reviewed(review: reviews.Review, *, override: str = "") -> Check:
    """Check that the commit is in the reviewed repository's default branch on its server.

    override: the reason to run a commit that is not reviewed or cannot be looked up. The files
    must still be those of a commit, so that the record identifies the code that ran.
    """
    expected = "a commit of the reviewed branch"

    def check(name: str) -> CheckResult:
        if problem := review.note_problem:
            fix = f"daybook run bootstrap -p env {review.environment.name}"
            fix += " -p rehearse true" if review.environment.is_rehearsal else ""
            return CheckResult(name, "the account's requirement", problem, is_ok=False, fix=fix)
        if review.git_required != reviews.ANY:
            review.require_same_files()
        if not review.is_required:
            return CheckResult(name, "not required", "not required", is_ok=True)
        try:
            commit = review.commit
        except PreflightFailed as err:
            observed = "; ".join(filter(None, (err.message.rstrip("."), err.observed)))
            if override.strip():
                observed += f"; overridden: {override.strip()}"
            remedies = filter(None, (err.next, "give a recorded reason: --override-git REASON"))
            fix = "; or ".join(remedies)
            return CheckResult(name, expected, observed, bool(override.strip()), fix)
        branch = f" of {commit.branch}" if commit.branch else ""
        return CheckResult(name, expected, f"{commit.id[:12]}{branch}", is_ok=True)

    return check


def clock_is_accurate(target: Target) -> Check:
    """Compare this computer's clock with the time in AWS's answer."""

    def check(name: str) -> CheckResult:
        try:
            answer = aws.client(target, "sts").get_caller_identity()
        except ClientError as err:  # AWS rejects a clock that is far off, and sends its own time.
            answer = err.response
        aws_time = errors.time_of(answer, "sts:GetCallerIdentity")
        off_s = round((datetime.now(UTC) - aws_time).total_seconds())
        fix = "set the clock: timedatectl set-ntp true"
        return CheckResult(
            name, f"within {CLOCK_S} s of AWS", f"{off_s:+} s", abs(off_s) <= CLOCK_S, fix
        )

    return check


def disk_has_space(root: Path) -> Check:
    """Check for space for the record, and for a state that Terraform cannot push."""

    def check(name: str) -> CheckResult:
        free_gib = shutil.disk_usage(root).free / 2**30
        fix = f"free space on the disk of {root.name}/runs"
        observed = f"{free_gib:.1f} GiB free"
        return CheckResult(name, f">= {FREE_GIB} GiB free", observed, free_gib >= FREE_GIB, fix)

    return check


def no_freeze(settings: Settings, *, override: str, now: datetime | None = None) -> Check:
    """Check that no freeze window is in force. override: the reason to run in one."""

    def check(name: str) -> CheckResult:
        moment = now or datetime.now(UTC)
        active = [freeze for freeze in settings.freezes if freeze.since <= moment < freeze.until]
        if not active:
            return CheckResult(name, "none in force", "none", is_ok=True)
        observed = "; ".join(
            f"until {freeze.until.isoformat()}: {freeze.reason}" for freeze in active
        )
        if override.strip():
            observed += f"; overridden: {override.strip()}"
        fix = "wait until it ends, or give a recorded reason: --override-freeze REASON"
        return CheckResult(name, "none in force", observed, bool(override.strip()), fix)

    return check


def _not_compared(invalid: Sequence[str]) -> str:
    """Return `; not compared with 'staging': see daybook env check`, or "" for no names."""
    names = ", ".join(map(shown, invalid[:5]))
    return f"; not compared with {names}: see daybook env check" if invalid else ""


def _conflicts(neighbor: Environment, own: Settings) -> list[str]:
    """Return the names and the network that another environment has too."""
    env, settings = neighbor.name, neighbor.settings
    shared = sorted(set(settings.domains) & set(own.domains))
    conflicts = [f"{domain} belongs to {env}" for domain in shared]
    if settings.vpc_cidr.overlaps(own.vpc_cidr):
        conflicts.append(f"{own.vpc_cidr} overlaps {settings.vpc_cidr} of {env}")
    return conflicts


def _repositories(settings: Settings) -> str:
    github = settings.github
    return ", ".join(filter(None, (github.repository, github.application))) or "no repository"
