"""Which commits may run: decided by the note in the account, not by the checkout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from daybook import preconditions, reviews, ui
from daybook.environment import Environment
from daybook.errors import ApprovalNeeded, PreflightFailed, SettingsError
from daybook.plan import Change, Plan
from daybook.record import provenance, signing
from daybook.settings import load
from daybook.steps.base import Step
from daybook.target import Target

SETTINGS = {
    "app": "hello",
    "account": "sandbox",
    "dns_zone": "daybook.test",
    "domains": ["staging.daybook.test"],
    "vpc_cidr": "10.20.0.0/16",
    "ssh_allowed_cidrs": [],
}
REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def git(root: Path, *args: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.test")
    subprocess.run(["git", "-C", str(root), *who, *args], check=True, capture_output=True)


class Project:
    """A checkout of a reviewed repository, and the account with its note."""

    def __init__(self, folder: Path) -> None:
        self.root, bare = folder / "checkout", folder / "team.git"
        self.url = bare.as_uri()
        (self.root / "lib/daybook").mkdir(parents=True)
        (self.root / "lib/daybook/__init__.py").touch()
        self.write(require_git="pushed")
        git(folder, "init", "--bare", "--initial-branch", "main", str(bare))
        git(self.root, "init", "--initial-branch", "main")
        git(self.root, "remote", "add", "origin", self.url)
        self.commit()
        git(self.root, "push", "-u", "origin", "main")

    def write(self, env: str = "staging", **changes: object) -> None:
        file = self.root / f"environments/{env}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(SETTINGS | changes))

    def commit(self) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--allow-empty", "-m", "More")

    def sign(self, *lines: str) -> None:
        """Push a signers file with these lines and a different key in each."""
        text = "".join(f"{line}{PUBLIC[:-1]}{at}\n" for at, line in zip("ABC", lines, strict=False))
        (self.root / "environments/signers").write_text(text)
        self.commit()
        git(self.root, "push")

    def note(self, value: object = None, approvals: int = 0, **require_git: str) -> None:
        asked = {"require_git": require_git, "approvals": dict.fromkeys(require_git, approvals)}
        said = value or json.dumps({"remote": self.url} | asked)
        boto3.client("ssm", region_name="us-east-1").put_parameter(
            Name="/hello/account/review", Value=said, Type="String", Overwrite=True
        )

    def review(
        self, *, is_account: bool = False, env: str = "staging", override: str = ""
    ) -> reviews.Review:
        target = Target("sandbox", "123456789012", "us-east-1", REGION)
        environment = Environment(env, self.root, load(self.root, env), target)
        code = self.root / "lib/daybook"
        is_overridden = bool(override.strip())
        return reviews.Review(environment, is_account, code, is_overridden)

    def check(self, *, override: str = "", **options):
        review = self.review(override=override, **options)
        return preconditions.commit_is_reviewed(review, override=override)("review")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Project(tmp_path)


def test_a_reviewed_commit_passes(project):
    project.note(staging="pushed")
    check = project.check()
    assert check.is_ok, check
    assert check.observed.endswith("of main")


def test_nothing_is_looked_up_unless_required(project):
    project.write()
    project.note(staging="any", production="pushed")
    assert project.check().observed == "not required"


@pytest.mark.attack("F4", "settings of the checkout that ask for less review")
def test_the_checkout_cannot_lower_the_accounts_requirement(project):
    project.note(staging="pushed")
    project.write(require_git="any", git_remote="https://example.com/eve/hello.git")
    with pytest.raises(PreflightFailed, match="differ from the commit"):
        project.check()
    project.commit()
    check = project.check()
    assert not check.is_ok
    assert "not in the reviewed branch" in check.observed


@pytest.mark.attack("F4", "bootstrap by way of an environment that asks for less review")
def test_shared_resources_need_a_review_if_one_environment_does(project):
    project.write("loose")
    project.commit()
    project.note(loose="any", production="pushed")
    assert project.check(env="loose").is_ok
    assert not project.check(env="loose", is_account=True).is_ok


@pytest.mark.attack("F4", "an account without a note, or with a damaged one")
@pytest.mark.parametrize("value", [None, "{", "[]", "{}", '{"remote": 1}', "null"])
def test_only_the_first_bootstrap_passes_without_a_note(project, value):
    if value:
        project.note(value)
        with pytest.raises(PreflightFailed, match="review note is invalid"):
            project.check()
        return
    check = project.check()
    assert (check.is_ok, "bootstrap" in check.fix) == (False, True)
    assert not project.check(is_account=True).is_ok, "the settings name no repository"
    project.write(require_git="pushed", git_remote=project.url)
    project.commit()
    git(project.root, "push")
    assert project.check(is_account=True).is_ok


@pytest.mark.attack("F4", "offline, or with a server that does not answer")
def test_without_an_answer_only_an_override_passes(project, tmp_path):
    project.note(staging="pushed")
    (tmp_path / "team.git").rename(tmp_path / "gone.git")
    check = project.check()
    assert (check.is_ok, "--override-git REASON" in check.fix) == (False, True)
    assert not project.check(override="  ").is_ok
    check = project.check(override="GitHub is down")
    assert (check.is_ok, check.observed.endswith("overridden: GitHub is down")) == (True, True)


@pytest.mark.attack("F4", "files that no commit has, under an override")
def test_an_override_does_not_allow_changed_files(project):
    project.note(staging="pushed")
    (project.root / "lib/daybook/more.py").touch()
    with pytest.raises(PreflightFailed, match="differ from the commit"):
        project.check(override="GitHub is down")


@pytest.mark.attack("F4", "Daybook of another folder than the reviewed one")
def test_the_running_code_is_from_the_reviewed_checkout(project, tmp_path):
    other = reviews.Review(project.review().environment, code=tmp_path)
    with pytest.raises(PreflightFailed, match="own code"):
        other.require_same_files()


BOTH = 'namespaces="daybook-record,daybook-approval"'
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
ANN, EVE = (f'{name}@example.com namespaces="daybook-approval" ' for name in ("ann", "eve"))


def git_head(root: Path) -> str:
    return (root / ".git/refs/heads/main").read_text().strip()


def names(review: reviews.Review) -> list[str]:
    return [each.name for each in review.signers().lines]


@pytest.mark.attack("F4", "a key that is only in the checkout's signers")
def test_signers_come_from_the_reviewed_commit(project):
    project.note(staging="pushed")
    file = project.root / "environments/signers"
    file.write_text(f"{ANN}{PUBLIC}\n")
    project.commit()
    git(project.root, "push")
    file.write_text(f"{EVE}{PUBLIC}\n")
    assert names(project.review()) == ["ann@example.com"]
    project.note(staging="any")
    project.write()
    assert names(project.review()) == ["eve@example.com"], "nothing is required"


@pytest.mark.attack("F4", "a key that was revoked since, from an old reviewed commit")
def test_signers_come_from_the_tip_not_from_an_old_commit(project):
    project.note(staging="pushed", approvals=1)
    project.sign(ANN, EVE)
    project.sign(ANN)
    git(project.root, "checkout", "HEAD~1")
    assert project.check().is_ok
    assert names(project.review()) == ["ann@example.com"]


@pytest.mark.attack("F4", "one's own key in signers, under an override")
@pytest.mark.parametrize("is_answering", [True, False])
def test_an_override_does_not_excuse_approvals(project, tmp_path, is_answering):
    project.note(staging="pushed", approvals=1)
    bucket = "hello-state-123456789012"
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket=bucket)
    project.sign(ANN)
    project.review().store_tip()
    (project.root / "environments/signers").write_text(f"{EVE}{PUBLIC}\n")
    project.write(require_git="any", approvals=0)
    project.commit()
    s3.put_object(Bucket=bucket, Key="reviewed/staging", Body=git_head(project.root).encode())
    if not is_answering:
        (tmp_path / "team.git").rename(tmp_path / "gone.git")
    review = project.review(override="GitHub is down")
    review.store_tip()
    assert project.check(override="GitHub is down").is_ok
    assert (names(review), review.approvals) == (["ann@example.com"], 1)
    if not is_answering:
        with pytest.raises(PreflightFailed, match="lookup of the reviewed branch failed"):
            project.review().signers()


LESS = {
    "an old reviewed commit": lambda project: git(project.root, "checkout", "HEAD~1"),
    "a commit of one's own": lambda project: (project.write(approvals=0), project.commit()),
    "an edited file": lambda project: project.write(approvals=0),
    "no such environment": lambda project: (
        (project.root / "environments/staging.yml").rename(project.root / "environments/old.yml"),
        project.write(require_git="any", domains=["other.daybook.test"]),
        project.commit(),
    ),
}


@pytest.mark.attack("F3", "one person applies alone, from a checkout without `approvals: 1`")
@pytest.mark.parametrize("override", ["", "GitHub is down"])
@pytest.mark.parametrize("is_account", [False, True])
@pytest.mark.parametrize("noted", [0, 1])
@pytest.mark.parametrize("way", LESS)
def test_the_strictest_of_note_tip_and_checkout_applies(project, way, noted, is_account, override):
    """Approvals apply from the account's note and from the reviewed branch."""
    project.write(require_git="pushed", approvals=1)
    project.commit()
    git(project.root, "push")
    project.note(staging="pushed", approvals=noted)
    LESS[way](project)
    assert project.review(is_account=is_account, override=override).approvals == 1


@pytest.mark.attack("F3", "an account that requires approvals of any commit, and an edited file")
def test_the_note_alone_is_sufficient(project):
    project.note(staging="any", approvals=1)
    project.write(approvals=0)
    assert project.review().approvals == 1


@pytest.mark.attack("F3", "bootstrap by way of an environment that needs no second person")
def test_shared_resources_need_the_most_approvals_of_any_environment(project):
    project.write("loose")
    project.write("strict", require_git="pushed", approvals=1)
    assert project.review(env="loose", is_account=True).git_required == "pushed"
    project.commit()
    git(project.root, "push")
    project.note(loose="any", staging="any", strict="pushed")
    assert project.review(env="loose").approvals == 0
    (project.root / "environments/strict.yml").unlink()
    for noted in (0, 1):
        project.note(loose="any", staging="any", strict="pushed", approvals=noted)
        assert project.review(env="loose", is_account=True).approvals == 1


@pytest.mark.attack("F3", "bootstrap from an old commit, which notes that less is required")
def test_bootstrap_notes_at_least_the_reviewed_requirements(project):
    project.write(require_git="any")
    project.commit()
    project.write(require_git="pushed", approvals=1)
    project.commit()
    git(project.root, "push")
    project.note(staging="pushed", approvals=1)
    git(project.root, "checkout", "HEAD~1")
    assert project.review(is_account=True).to_note == {
        "staging": reviews.Requirement("pushed", approvals=1)
    }


@pytest.mark.attack(
    "F3", "settings edited while the step is constructed, and put back before preflight"
)
def test_the_loaded_settings_must_match_the_commit(project):
    project.write(require_git="pushed", approvals=1)
    project.commit()
    git(project.root, "push")
    project.note(staging="pushed", approvals=0)
    project.write(require_git="any", ssh_allowed_cidrs=["203.0.113.9/32"])
    review = project.review()
    git(project.root, "checkout", "environments")
    assert review.approvals == 1
    with pytest.raises(PreflightFailed, match="differ from the commit") as caught:
        review.require_same_files()
    assert "changed at the start of the run: environments/staging.yml" in caught.value.details[0]


@pytest.mark.attack("F4", "a note taken away, of an older bootstrap, or of other environments")
@pytest.mark.parametrize("note", ["none", "older", "another's", "whole"])
def test_an_account_with_a_state_needs_a_note(project, note):
    project.write()
    assert project.check().is_ok, "there is nothing yet"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="hello-state-123456789012")
    if note == "older":
        project.note(json.dumps({"remote": "", "require_git": {"staging": "any"}}))
    elif note != "none":
        project.note(**{"staging" if note == "whole" else "qa": "any"})
    check = project.check()
    assert check.is_ok == (note == "whole")
    assert check.is_ok or check.fix == "daybook run bootstrap -p env staging"
    assert project.check(is_account=True).is_ok, "bootstrap writes it"


@pytest.mark.attack("F3", "a reviewed branch that requires more since the plan was shown")
def test_refresh_reads_server_and_account_again(project):
    project.note(staging="pushed", approvals=0)
    review = project.review()
    assert review.approvals == 0
    project.write(require_git="pushed", approvals=1)
    project.commit()
    git(project.root, "push")
    assert review.approvals == 0
    review.refresh()
    assert review.approvals == 1


@pytest.mark.attack("F4", "one's own key in signers, under an override and without a last commit")
def test_without_a_reviewed_commit_there_are_no_signers(project, tmp_path):
    project.note(staging="pushed")
    (tmp_path / "team.git").rename(tmp_path / "gone.git")
    with pytest.raises(PreflightFailed, match="lookup of the reviewed branch failed"):
        project.review().signers()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"github": {"repository": "o@1/hello@2"}}, "https://github.com/o/hello.git"),
        ({"git_remote": "ssh://git@git.example.com/a.git"}, "ssh://git@git.example.com/a.git"),
    ],
)
def test_the_remote_comes_from_the_settings(project, monkeypatch, changes, expected):
    project.write(**changes)
    chosen = load(project.root, "staging")
    environ = {"GITHUB_SERVER_URL": "http://127.0.0.1:9"}
    assert reviews.remote(chosen, Target("aws", "1", "us-east-1", environ)) == expected


class Migrate(Step):
    """A step with one change."""

    name = "provision"
    next = "nothing"
    lock_name = None

    def make_plan(self):
        return Plan("Change", (Change("destroy", "db", "all of it"),), {})

    def apply_plan(self, _plan):
        pytest.fail("it was applied by one person")

    def look(self):
        return ui.Notice("seen")


@pytest.mark.attack("F3", "one person applies alone, from a checkout without `approvals: 1`")
@pytest.mark.parametrize("way", LESS)
def test_the_gate_still_requires_a_second_person(project, monkeypatch, key, way):
    project.write(require_git="pushed", approvals=1, ssh_key=str(key))
    project.sign(f"ann@example.com {BOTH} {signing.public_key(key)} #")
    project.note(staging="pushed", approvals=0)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="hello-state-123456789012")
    LESS[way](project)
    (project.root / ".sandbox").mkdir()
    (project.root / ".sandbox/target.env").write_text("AWS_REGION=us-east-1\n")
    monkeypatch.setenv("DAYBOOK_ROOT", str(project.root))
    monkeypatch.setenv("DAYBOOK_SSH_KEY", str(key))
    monkeypatch.setattr(provenance, "versions", lambda _root: {})
    monkeypatch.setattr(reviews.Review, "require_same_files", lambda _review: None)
    monkeypatch.setattr(Migrate, "preflight", lambda self: self.run.phase("preflight"))
    step = Migrate("staging", override_git="GitHub is down")
    try:
        with step.preflight():
            pass
        plan = step.plan()
        with pytest.raises(ApprovalNeeded, match="is waiting for the approval of a second person"):
            step.approve(plan.digest)
        with pytest.raises(SettingsError, match="apply cannot run yet"):
            step.apply()
    finally:
        step.run.recorder.abandon("the test is over")
