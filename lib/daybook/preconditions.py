"""The right place and time for a change: region, names, git, clock, disk, freezes."""

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
"""How far this computer's clock may be from AWS's."""
FREE_GIB = 1
PROGRAMS = ("git", "ssh", "ssh-keygen")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def local_checks(environment: Environment, *, override_freeze: str) -> dict[str, Check]:
    """Return the checks of every changing step that need no target."""
    return {
        "programs": programs_are_there(environment.target),
        "region": region_is(environment.target),
        "names": names_are_its_own(environment),
        "git": git_is(environment.root, environment.settings.require_git),
        "disk": disk_has_room(environment.root),
        "freeze": no_freeze(environment.settings, override=override_freeze),
    }


def target_checks(
    environment: Environment, review: reviews.Review, *, override_git: str
) -> dict[str, Check]:
    """Return the checks of every changing step that call the target."""
    return {
        "clock": clock_is_right(environment.target),
        "state's region": bucket_is_in_region(environment.target, environment.state_bucket),
        "review": is_reviewed(review, override=override_git),
    }


def programs_are_there(target: Target) -> Check:
    """Ask for the programs that a record and a host need, whatever the step."""

    def question(name: str) -> CheckResult:
        path = target.environ.get("PATH")
        missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
        observed = f"{', '.join(missing)} not on PATH" if missing else "there"
        fix = "apt install git openssh-client"
        return CheckResult(name, ", ".join(PROGRAMS), observed, not missing, fix)

    return question


def region_is(target: Target) -> Check:
    """Ask where the tools will go."""

    def question(name: str) -> CheckResult:
        found = {target.environ.get(variable, "nowhere") for variable in REGIONS}
        fix = f"unset {' and '.join(REGIONS)}, or correct `region` in the settings"
        observed = " and ".join(sorted(found))
        return CheckResult(name, target.region, observed, found == {target.region}, fix)

    return question


def bucket_is_in_region(target: Target, bucket: str) -> Check:
    """Ask where the state is kept; a bucket that is not there yet will be made in the region."""

    def question(name: str) -> CheckResult:
        if not aws.bucket_exists(target, bucket):
            return CheckResult(name, target.region, "no state yet", is_ok=True)
        answer = aws.client(target, "s3").get_bucket_location(Bucket=bucket)
        found = answer["LocationConstraint"] or "us-east-1"
        fix = f"{bucket} belongs to another region: correct `region`, or choose another `app`"
        return CheckResult(name, target.region, found, found == target.region, fix)

    return question


def names_are_its_own(environment: Environment) -> Check:
    """Check that no other environment of the project has the same DNS name or network."""
    env, own = environment.name, environment.settings

    def question(name: str) -> CheckResult:
        claims = [
            claim
            for other in environment.others.values()
            for claim in _claimed(other.name, other.settings, own)
        ]
        fix = f"give {env} `domains` and a `vpc_cidr` of its own in environments/{env}.yml"
        observed = "; ".join(claims) or ", ".join((*own.domains, str(own.vpc_cidr)))
        # Only a warning: a mistake in staging's file must not stop a rollback of production.
        observed += _not_compared(environment.invalid_others)
        return CheckResult(name, f"{env}'s alone", observed, not claims, fix)

    return question


def github_is_agreed(environment: Environment) -> Check:
    """Check that all environments of the account name the same repositories on GitHub."""
    env, own = environment.name, environment.settings

    def question(name: str) -> CheckResult:
        differing = [f"{other}'s settings cannot be used" for other in environment.invalid_others]
        differing += [
            f"{other} has {_repositories(settings)}"
            for other, settings in environment.of_account.items()
            if _repositories(settings) != _repositories(own)
        ]
        fix = f"write the same repositories into environments/{env}.yml and the others"
        expected = f"{_repositories(own)} in every environment of the account"
        observed = "; ".join(differing) or _repositories(own)
        return CheckResult(name, expected, observed, not differing, fix)

    return question


def branches(environment: Environment) -> list[str]:
    """Return the branches that the account's environments release: `["main", "staging"]`."""
    return sorted({each.github.branch for each in environment.of_account.values()})


def git_is(root: Path, wanted: str) -> Check:
    """Check that the files are those of the commit that is checked out, byte for byte."""
    expected = "anything" if wanted == reviews.ANY else "a commit, unchanged"

    def question(name: str) -> CheckResult:
        commit = git.head(root)
        if not commit:
            fix = "run from the team's checkout of the project"
            return CheckResult(name, expected, "no commit", wanted == reviews.ANY, fix)
        changed = reviews.files_changed(root, commit)
        if changed:
            observed = f"{commit[:12]} and {len(changed)} changed: {', '.join(changed[:3])}"
            fix = "git commit, git stash, or remove what is not in the commit"
            return CheckResult(name, expected, observed, wanted == reviews.ANY, fix)
        return CheckResult(name, expected, f"{commit[:12]}, unchanged", is_ok=True)

    return question


def is_reviewed(review: reviews.Review, *, override: str = "") -> Check:
    """Check that the commit is in the reviewed repository's default branch, as its server says.

    override: why a commit that is not, or that cannot be looked up, may run this time. The files
    must be those of a commit all the same, so that the record says what ran.
    """
    expected = "a commit of the reviewed branch"

    def question(name: str) -> CheckResult:
        if problem := review.note_problem:
            fix = f"daybook run bootstrap -p env {review.environment.name}"
            fix += " -p rehearse true" if review.environment.is_rehearsal else ""
            return CheckResult(name, "what the account requires", problem, is_ok=False, fix=fix)
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
            fix = f"{err.next}; or give a reason that is recorded: --override-git REASON"
            return CheckResult(name, expected, observed, bool(override.strip()), fix)
        return CheckResult(
            name, expected, f"{commit.id[:12]} of {commit.branch or 'it'}", is_ok=True
        )

    return question


def clock_is_right(target: Target) -> Check:
    """Compare this computer's clock with the one that AWS answers with."""

    def question(name: str) -> CheckResult:
        try:
            answer = aws.client(target, "sts").get_caller_identity()
        except ClientError as err:  # AWS refuses who is too far off, and tells its time.
            answer = err.response
        theirs = errors.time_of(answer, "sts:GetCallerIdentity")
        off_s = round((datetime.now(UTC) - theirs).total_seconds())
        fix = "set the clock: timedatectl set-ntp true"
        return CheckResult(
            name, f"within {CLOCK_S} s of AWS", f"{off_s:+} s", abs(off_s) <= CLOCK_S, fix
        )

    return question


def disk_has_room(root: Path) -> Check:
    """Ask for room for the record, and for the state of an apply that cannot be saved."""

    def question(name: str) -> CheckResult:
        free_gib = shutil.disk_usage(root).free / 2**30
        fix = f"make room where {root.name}/runs is"
        observed = f"{free_gib:.1f} GiB free"
        return CheckResult(name, f">= {FREE_GIB} GiB free", observed, free_gib >= FREE_GIB, fix)

    return question


def no_freeze(settings: Settings, *, override: str, now: datetime | None = None) -> Check:
    """Ask whether a freeze window is in force; `override` is why it does not count this time."""

    def question(name: str) -> CheckResult:
        moment = now or datetime.now(UTC)
        active = [f for f in settings.freezes if f.since <= moment < f.until]
        if not active:
            return CheckResult(name, "none in force", "none", is_ok=True)
        said = "; ".join(f"until {freeze.until.isoformat()}: {freeze.reason}" for freeze in active)
        if override.strip():
            said += f"; overridden: {override.strip()}"
        fix = "wait, or give a reason that is recorded: --override-freeze REASON"
        return CheckResult(name, "none in force", said, bool(override.strip()), fix)

    return question


def _not_compared(unread: Sequence[str]) -> str:
    """Return "; not compared: staging, see daybook env check"."""
    names = ", ".join(map(shown, unread[:5]))
    return f"; not compared with {names}: see daybook env check" if unread else ""


def _claimed(other: str, theirs: Settings, ours: Settings) -> list[str]:
    same = sorted(set(theirs.domains) & set(ours.domains))
    claims = [f"{name} is {other}'s" for name in same]
    if theirs.vpc_cidr.overlaps(ours.vpc_cidr):
        claims.append(f"{ours.vpc_cidr} overlaps {other}'s {theirs.vpc_cidr}")
    return claims


def _repositories(settings: Settings) -> str:
    github = settings.github
    return ", ".join(filter(None, (github.repository, github.application))) or "nobody"
