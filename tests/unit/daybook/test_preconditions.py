"""Each precondition, met and not met."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws

from daybook import aws, checks, preconditions, reviews
from daybook.environment import Environment
from daybook.settings import Freeze, load
from daybook.target import Target

SETTINGS = {
    "app": "hello",
    "account": "sandbox",
    "dns_zone": "daybook.test",
    "domains": ["staging.daybook.test"],
    "vpc_cidr": "10.20.0.0/16",
    "ssh_allowed_cidrs": ["203.0.113.7/32"],
}
REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
TARGET = Target("sandbox", "123456789012", "us-east-1", REGION)
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
FREEZE = Freeze(since=NOON, until=NOON + timedelta(hours=1), reason="the shop's busiest hour")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "environments").mkdir()
    return tmp_path


def write(root, env: str, target: Target = TARGET, **changes) -> Environment:
    (root / "environments" / f"{env}.yml").write_text(yaml.safe_dump(SETTINGS | changes))
    return Environment(env, root, load(root, env), target)


def git(root, *args: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.test")
    subprocess.run(["git", "-C", root, *who, *args], check=True, capture_output=True)


@pytest.fixture
def checkout(root):
    """Return a project with one commit, which is pushed to a bare repository beside it."""
    write(root, "staging")
    git(root, "init", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-m", "Begin")
    git(root, "init", "--bare", root.with_name(f"{root.name}.git"))
    git(root, "remote", "add", "origin", root.with_name(f"{root.name}.git"))
    git(root, "push", "-u", "origin", "main")
    return root


def test_environments_of_an_account_have_the_same_repositories(root):
    ours = {"repository": "ann/shop", "branch": "main"}
    staging = write(root, "staging", github=ours)
    write(root, "production", github=ours | {"branch": "release"})
    assert preconditions.branches(staging) == ["main", "release"]
    write(root, "elsewhere", account="210987654321")
    check = preconditions.repositories_match(write(root, "staging", github=ours))("github")
    assert (check.is_ok, check.observed) == (True, "ann/shop")
    write(root, "production")
    check = preconditions.repositories_match(write(root, "staging", github=ours))("github")
    assert (check.is_ok, check.observed) == (False, "production has no repository")


def test_the_region_of_the_tools():
    assert preconditions.region_matches(TARGET)("region").is_ok
    other = Target("aws", "1", "eu-north-1", REGION | {"AWS_REGION": "eu-north-1"})
    check = preconditions.region_matches(other)("region")
    assert (check.is_ok, check.observed) == (False, "eu-north-1 and us-east-1")


@mock_aws
@pytest.mark.parametrize(("region", "is_ok"), [("us-east-1", True), ("eu-north-1", False)])
def test_the_state_is_in_the_region(region, is_ok):
    s3 = boto3.client("s3", region_name=region)
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket="hello-state", **({} if region == "us-east-1" else where))
    check = preconditions.bucket_is_in_region(TARGET, "hello-state")("state's region")
    assert (check.is_ok, check.observed) == (is_ok, region)


@mock_aws
def test_a_missing_state_passes():
    assert preconditions.bucket_is_in_region(TARGET, "hello-state")("state's region").is_ok


def test_unique_names_and_network_pass(root):
    staging = write(root, "staging")
    write(root, "production", domains=["daybook.test"], vpc_cidr="10.30.0.0/16")
    assert preconditions.names_are_unique(staging)("names").is_ok


@pytest.mark.attack("F12", "another environment's broken settings")
@pytest.mark.parametrize("text", ["app: [", "a: &r [*r]", "[" * 1_000, "since: 2026-02-30"])
def test_invalid_settings_of_another_environment_are_a_warning(root, text):
    """A mistake in staging's file must not stop a rollback of production."""
    staging = write(root, "staging")
    (root / "environments/broken.yml").write_text(text)
    check = preconditions.names_are_unique(staging)("names")
    assert check.is_ok
    assert "not compared with 'broken': see daybook env check" in check.observed
    agreed = preconditions.repositories_match(staging)("github")
    assert (agreed.is_ok, agreed.observed) == (False, "broken's settings are invalid")


def test_names_and_network_of_another_environment_fail(root):
    staging = write(root, "staging")
    write(root, "production", vpc_cidr="10.20.128.0/17")
    check = preconditions.names_are_unique(staging)("names")
    assert not check.is_ok
    assert "staging.daybook.test belongs to production" in check.observed
    assert "10.20.0.0/16 overlaps 10.20.128.0/17 of production" in check.observed


@pytest.mark.parametrize("wanted", ["any", "clean", "pushed"])
def test_an_unchanged_commit_passes(checkout, wanted):
    check = preconditions.checkout_is_clean(checkout, wanted)("git")
    assert check.is_ok
    assert check.observed.endswith(", unchanged")


@pytest.mark.parametrize(("wanted", "is_ok"), [("any", True), ("clean", False), ("pushed", False)])
def test_changed_files(checkout, wanted, is_ok):
    (checkout / "new.txt").touch()
    check = preconditions.checkout_is_clean(checkout, wanted)("git")
    assert (check.is_ok, "1 changed: not in the commit: new.txt" in check.observed) == (is_ok, True)


@pytest.mark.parametrize(("wanted", "is_ok"), [("any", True), ("clean", False), ("pushed", False)])
def test_a_folder_without_a_commit(root, wanted, is_ok):
    assert preconditions.checkout_is_clean(root, wanted)("git").is_ok is is_ok


@pytest.mark.parametrize(("off_s", "is_ok"), [(0, True), (-59, True), (120, False), (-120, False)])
@pytest.mark.parametrize("is_refused", [False, True])
def test_the_clock(monkeypatch, off_s, is_ok, is_refused):
    theirs = datetime.now(UTC) - timedelta(seconds=off_s)
    headers = {"date": f"{theirs:%a, %d %b %Y %H:%M:%S} GMT"}
    answer = {"ResponseMetadata": {"HTTPHeaders": headers}}

    def call() -> dict:
        if is_refused:
            raise ClientError({"Error": {"Code": "SignatureDoesNotMatch"}, **answer}, "Call")
        return answer

    sts = SimpleNamespace(get_caller_identity=call)
    monkeypatch.setattr(aws, "client", lambda _target, _service: sts)
    check = preconditions.clock_is_accurate(TARGET)("clock")
    assert check.is_ok is is_ok
    assert int(check.observed.removesuffix(" s")) == pytest.approx(off_s, abs=2)


@pytest.mark.parametrize(("free_gib", "is_ok"), [(0.9, False), (1.0, True), (500, True)])
def test_the_disk(root, monkeypatch, free_gib, is_ok):
    usage = SimpleNamespace(free=int(free_gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert preconditions.disk_has_space(root)("disk").is_ok is is_ok


@pytest.mark.parametrize(("minutes", "is_ok"), [(-1, True), (0, False), (59, False), (60, True)])
def test_a_freeze_window(root, minutes, is_ok):
    chosen = write(root, "staging").settings.model_copy(update={"freezes": (FREEZE,)})
    moment = NOON + timedelta(minutes=minutes)
    check = preconditions.no_freeze(chosen, override="", now=moment)("freeze")
    assert check.is_ok is is_ok
    if not is_ok:
        assert FREEZE.reason in check.observed
        assert "--override-freeze" in check.fix


@pytest.mark.parametrize(("reason", "is_ok"), [("the shop is down", True), ("  ", False)])
def test_overriding_a_freeze_requires_a_reason(root, reason, is_ok):
    chosen = write(root, "staging").settings.model_copy(update={"freezes": (FREEZE,)})
    check = preconditions.no_freeze(chosen, override=reason, now=NOON)("freeze")
    assert check.is_ok is is_ok
    assert ("overridden: the shop is down" in check.observed) is is_ok
    assert FREEZE.reason in check.observed


def test_all_failures_are_listed_at_once(checkout, monkeypatch):
    since = datetime.now(UTC) - timedelta(hours=1)
    freeze = {"since": since.isoformat(), "until": "2999-01-01T00:00:00Z", "reason": "moving house"}
    write(checkout, "production")
    usage = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    down = Target("sandbox", "123456789012", "us-east-1", {}, is_up=False)
    staging = write(checkout, "staging", down, require_git="clean", freezes=[freeze])
    answers = checks.run_checks(
        down,
        preconditions.local_checks(staging, override_freeze=""),
        preconditions.target_checks(staging, reviews.Review(staging), override_git=""),
    )
    failed = {check.name for check in answers.failed}
    assert failed == {"region", "names", "git", "disk", "freeze", "target"}
    assert [check.is_ok for check in answers.answers if check.name == "clock"] == [None]
