"""The right place and time for a change: region, names, git, clock, disk, freezes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from botocore.exceptions import ClientError

from daybook import aws, aws_errors, settings
from daybook.checks import Check, Question
from daybook.errors import SettingsError
from daybook.settings import Settings
from daybook.target import Target

CLOCK_S = 60
"""How far this computer's clock may be from AWS's."""
FREE_GIB = 1
PROGRAMS = ("git", "ssh", "ssh-keygen")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def here(
    root: Path, env: str, chosen: Settings, target: Target, *, override_freeze: str
) -> dict[str, Question]:
    """Return the checks of every changing step that need no target."""
    return {
        "programs": programs_are_there(target),
        "region": region_is(target),
        "names": names_are_its_own(root, env, chosen),
        "git": git_is(root, chosen.git),
        "disk": disk_has_room(root),
        "freeze": no_freeze(chosen, override=override_freeze),
    }


def there(chosen: Settings, target: Target) -> dict[str, Question]:
    """Return the checks of every changing step that ask the target."""
    bucket = aws.state_bucket(target, chosen.app)
    return {"clock": clock_is_right(target), "state's region": bucket_is_in_region(target, bucket)}


def programs_are_there(target: Target) -> Question:
    """Ask for the programs that a record and a host need, whatever the step."""

    def question(name: str) -> Check:
        path = target.environ.get("PATH")
        missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
        observed = f"{', '.join(missing)} not on PATH" if missing else "there"
        fix = "apt install git openssh-client"
        return Check(name, ", ".join(PROGRAMS), observed, not missing, fix)

    return question


def region_is(target: Target) -> Question:
    """Ask where the tools will go."""

    def question(name: str) -> Check:
        found = {target.environ.get(variable, "nowhere") for variable in REGIONS}
        fix = f"unset {' and '.join(REGIONS)}, or correct `region` in the settings"
        observed = " and ".join(sorted(found))
        return Check(name, target.region, observed, found == {target.region}, fix)

    return question


def bucket_is_in_region(target: Target, bucket: str) -> Question:
    """Ask where the state is kept; a bucket that is not there yet will be made in the region."""

    def question(name: str) -> Check:
        if not aws.bucket_exists(target, bucket):
            return Check(name, target.region, "no state yet", is_ok=True)
        answer = aws.client(target, "s3").get_bucket_location(Bucket=bucket)
        found = answer["LocationConstraint"] or "us-east-1"
        fix = f"{bucket} belongs to another region: correct `region`, or choose another `app`"
        return Check(name, target.region, found, found == target.region, fix)

    return question


def names_are_its_own(root: Path, env: str, chosen: Settings) -> Question:
    """Ask whether another environment of the application claims a DNS name or the network."""

    def question(name: str) -> Check:
        claims = [claim for other in _others(root, env) for claim in _claimed(*other, chosen)]
        fix = f"give {env} names and a cidr of its own in environments/{env}.yml"
        observed = "; ".join(claims) or ", ".join((*chosen.names, str(chosen.cidr)))
        return Check(name, f"{env}'s alone", observed, not claims, fix)

    return question


def github_is_agreed(root: Path, env: str, chosen: Settings) -> Question:
    """Ask whether the account's other environments mean the same repositories on GitHub."""

    def question(name: str) -> Check:
        shared = (chosen.app, chosen.account)
        other = [
            f"{other} has {_told(theirs)}"
            for other, theirs in _others(root, env)
            if (theirs.app, theirs.account) == shared and _told(theirs) != _told(chosen)
        ]
        fix = f"write the same repositories into environments/{env}.yml and the others"
        expected = f"{_told(chosen)} in every environment of the account"
        return Check(name, expected, "; ".join(other) or _told(chosen), not other, fix)

    return question


def branches(root: Path, env: str, chosen: Settings) -> list[str]:
    """Return the branches that the account's environments release: `["main", "staging"]`."""
    shared = (chosen.app, chosen.account)
    others = [theirs for _, theirs in _others(root, env) if (theirs.app, theirs.account) == shared]
    return sorted({each.github.branch for each in (chosen, *others)})


def git_is(root: Path, wanted: str) -> Question:
    """Ask for the state of the project's git that the environment asks for."""
    expected = {"any": "anything", "clean": "clean", "pushed": "clean and pushed"}[wanted]

    def question(name: str) -> Check:
        status = _git(root, "status", "--porcelain", "--untracked-files=all")
        commit = _git(root, "rev-parse", "--short", "HEAD")
        if status is None or commit is None:
            fix = "run from the team's checkout of the project"
            return Check(name, expected, "no commit", wanted == "any", fix)
        changed = [line[3:] for line in status.splitlines()]
        if changed:
            observed = f"{commit} and {len(changed)} changed: {', '.join(changed[:3])}"
            return Check(name, expected, observed, wanted == "any", "git commit, or git stash")
        if _git(root, "branch", "--remotes", "--contains", "HEAD"):
            return Check(name, expected, f"{commit}, pushed", is_ok=True)
        return Check(name, expected, f"{commit}, not pushed", wanted != "pushed", "git push")

    return question


def clock_is_right(target: Target) -> Question:
    """Compare this computer's clock with the one that AWS answers with."""

    def question(name: str) -> Check:
        try:
            answer = aws.client(target, "sts").get_caller_identity()
        except ClientError as err:  # AWS refuses who is too far off, and tells its time.
            answer = err.response
        theirs = aws_errors.time_of(answer, "sts:GetCallerIdentity")
        off_s = round((datetime.now(UTC) - theirs).total_seconds())
        fix = "set the clock: timedatectl set-ntp true"
        return Check(name, f"within {CLOCK_S} s of AWS", f"{off_s:+} s", abs(off_s) <= CLOCK_S, fix)

    return question


def disk_has_room(root: Path) -> Question:
    """Ask for room for the record, and for the state of an apply that cannot be saved."""

    def question(name: str) -> Check:
        free_gib = shutil.disk_usage(root).free / 2**30
        fix = f"make room where {root.name}/runs is"
        observed = f"{free_gib:.1f} GiB free"
        return Check(name, f">= {FREE_GIB} GiB free", observed, free_gib >= FREE_GIB, fix)

    return question


def no_freeze(chosen: Settings, *, override: str, now: datetime | None = None) -> Question:
    """Ask whether a freeze window is in force; `override` is why it does not count this time."""

    def question(name: str) -> Check:
        moment = now or datetime.now(UTC)
        active = [f for f in chosen.freezes if f.since <= moment < f.until]
        if not active:
            return Check(name, "none in force", "none", is_ok=True)
        said = "; ".join(f"until {freeze.until.isoformat()}: {freeze.reason}" for freeze in active)
        if override.strip():
            said += f"; overridden: {override.strip()}"
        fix = "wait, or give a reason that is recorded: --override-freeze REASON"
        return Check(name, "none in force", said, bool(override.strip()), fix)

    return question


def _others(root: Path, env: str) -> list[tuple[str, Settings]]:
    """Return the other environments; one whose settings cannot be used claims nothing."""
    found = []
    for name in settings.environments(root):
        try:
            found += [(name, settings.load(root, name))] if name != env else []
        except SettingsError:
            continue
    return found


def _claimed(other: str, theirs: Settings, ours: Settings) -> list[str]:
    same = sorted(set(theirs.names) & set(ours.names))
    claims = [f"{name} is {other}'s" for name in same]
    if theirs.cidr.overlaps(ours.cidr):
        claims.append(f"{ours.cidr} overlaps {other}'s {theirs.cidr}")
    return claims


def _told(chosen: Settings) -> str:
    github = chosen.github
    return ", ".join(filter(None, (github.repository, github.application))) or "nobody"


def _git(root: Path, *args: str) -> str | None:
    """Ask git; None where there is no git, no repository or no commit."""
    if not shutil.which("git"):
        return None
    environ: Mapping[str, str] = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", "-C", str(root), *args],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
