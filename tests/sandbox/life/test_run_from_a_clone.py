"""Daybook without a laptop: this repository's workflow, on machines with nothing but a role."""

from __future__ import annotations

import re
import shutil

import pytest

from .shop import at_github

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(2400)]
ACCOUNT = "123456789012"
BRANCH = "infrastructure"
RUN_S = 900
"""Each run begins with `make setup` on an empty machine."""
REACHABLE = {
    "lib/daybook/target.py": (
        ("return name in PASSED or name.startswith(PASSED_PREFIXES)", "return True"),
        ('"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",', ""),
    ),
    "lib/daybook/aws/__init__.py": (
        ("if target.is_sandbox:", 'if target.environ.get("AWS_ENDPOINT_URL"):'),
    ),
}
"""What the clone's library has otherwise: no variable may lead an account's run to another AWS than
the real one, and the sandbox is another."""


@pytest.fixture(scope="module")
def operations(serving, life, copy_project, make_project):
    """Return the infrastructure's repository at GitHub, as an account's own and not a rehearsal's.

    The workflows have a key on the hosts, as docs/delivery.md says.
    """
    said = serving.succeed("github", "key", "staging")
    line = next(each for each in said.splitlines() if "namespaces=" in each)
    kind, own, *_ = (serving.root / ".sandbox/ssh/id_ed25519.pub").read_text().split()
    signers = serving.root / "environments/signers"
    signers.write_text(f"{signers.read_text().rstrip()}\nann@example.com {kind} {own}\n{line}\n")
    serving.step("configure", "staging")
    root = copy_project(f"{life.app}-operations")
    for folder in ("environments", "app"):
        shutil.copytree(serving.root / folder, root / folder, dirs_exist_ok=True)
    make_project(root).set("staging", account=ACCOUNT)
    for file, changes in REACHABLE.items():
        text = (root / file).read_text()
        for before, after in changes:
            assert text.count(before) == 1
            text = text.replace(before, after)
        (root / file).write_text(text)
    it = at_github(life, root)
    it.git("init", "--quiet", "--initial-branch", BRANCH)
    it.git("add", "--all")
    it.git("commit", "--quiet", "-m", "All of it")
    it.git("push", "--quiet", f"{it.server}/{it.name}.git", f"HEAD:{BRANCH}")
    return it


@pytest.fixture(scope="module")
def run(operations):
    """Return what runs a step by hand on GitHub: the page of the run, which has to end well."""

    def go(step: str, **inputs: str) -> str:
        given = {"step": step, "environment": "staging", **inputs}
        number = operations.dispatch("run.yml", BRANCH, **given)
        conclusion = operations.ends(number, RUN_S)
        said = operations.said(number)
        assert conclusion == "success", said
        return said

    return go


def digest_in(said: str) -> str:
    """Return the digest that a run's summary asks approval of."""
    return re.search(r"waits for approval of.*?(plan-[0-9a-f]{32})", said, re.DOTALL)[1]


def test_a_release_is_planned_by_one_machine_and_made_by_another(serving, life, run, aws):
    life.set_secret("staging", "set for the clone")
    waits = run("deploy", parameters="image staging")
    assert life.secret_in_use("staging") != "set for the clone"
    said = run("deploy", parameters="image staging", approve=digest_in(waits))
    assert "written from the state" in said
    assert "exit code 0" in said
    assert "[The record, as this run keeps it](http" in said
    assert life.secret_in_use("staging") == "set for the clone"
    record = re.search(r"\d{8}T\d{6}Z-deploy-[0-9a-f]{6}", said)[0]
    kept = aws("s3").list_objects_v2(
        Bucket=f"{life.app}-records-{ACCOUNT}", Prefix=f"staging/{record}/record.json"
    )
    assert kept["KeyCount"] == 2, "record.json and its signature"


def test_hosts_are_configured_with_the_role_and_the_workflows_key(life, run):
    lost = "/etc/cron.d/daybook-image-cleanup"
    life.out("staging", f"sudo rm {lost}")
    said = run("configure", approve=digest_in(run("configure")))
    assert "exit code 0" in said
    life.out("staging", f"sudo test -s {lost}")
