"""Runs in CI: this repository's workflow on clean machines with only a role."""

from __future__ import annotations

import re
import shutil

import pytest

from .shop import at_github

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(2400)]
ACCOUNT = "123456789012"
BRANCH = "infrastructure"
RUN_S = 900
"""Each run starts with `make setup` on a clean machine."""
REACHABLE = {
    "lib/daybook/target.py": (
        ("return name in PASSED or name.startswith(PASSED_PREFIXES)", "return True"),
        ('"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",', ""),
    ),
    "lib/daybook/aws/__init__.py": (
        ("if target.is_sandbox:", 'if target.environ.get("AWS_ENDPOINT_URL"):'),
    ),
}
"""Changes to the clone's library that let a run for an account reach the sandbox. Daybook ignores
variables that redirect such a run from AWS."""


@pytest.fixture(scope="module")
def operations(serving, life, copy_project, make_project):
    """Return the infrastructure's repository at GitHub, for an account and not for a rehearsal.

    The workflows have a key on the hosts as described in docs/delivery.md.
    """
    output = serving.succeed("github", "key", "staging")
    line = next(text for text in output.splitlines() if "namespaces=" in text)
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
    repository = at_github(life, root)
    repository.git("init", "--quiet", "--initial-branch", BRANCH)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "-m", "All of it")
    url = f"{repository.server}/{repository.name}.git"
    repository.git("push", "--quiet", url, f"HEAD:{BRANCH}")
    return repository


@pytest.fixture(scope="module")
def run(operations):
    """Return a function that runs a step on GitHub, which must succeed, and returns its page."""

    def go(step: str, **inputs: str) -> str:
        parameters = {"step": step, "environment": "staging", **inputs}
        number = operations.dispatch("run.yml", BRANCH, **parameters)
        conclusion = operations.conclusion(number, RUN_S)
        page = operations.page(number)
        assert conclusion == "success", page
        return page

    return go


def digest_in(page: str) -> str:
    """Return the digest in a run's request for approval."""
    return re.search(r"pending approval of.*?(plan-[0-9a-f]{32})", page, re.DOTALL)[1]


def test_a_release_is_planned_on_one_machine_and_applied_on_another(serving, life, run, aws):
    life.set_secret("staging", "set for the clone")
    plan_page = run("deploy", parameters="image staging")
    assert life.secret_in_use("staging") != "set for the clone"
    page = run("deploy", parameters="image staging", approve=digest_in(plan_page))
    assert "written from the state" in page
    assert "exit code 0" in page
    assert "[The record, as this run keeps it](http" in page
    assert life.secret_in_use("staging") == "set for the clone"
    record = re.search(r"\d{8}T\d{6}Z-deploy-[0-9a-f]{6}", page)[0]
    kept = aws("s3").list_objects_v2(
        Bucket=f"{life.app}-records-{ACCOUNT}", Prefix=f"staging/{record}/record.json"
    )
    assert kept["KeyCount"] == 2, "record.json and its signature"


def test_hosts_are_configured_with_the_role_and_the_workflows_ssh_key(life, run):
    removed = "/etc/cron.d/daybook-image-cleanup"
    life.out("staging", f"sudo rm {removed}")
    page = run("configure", approve=digest_in(run("configure")))
    assert "exit code 0" in page
    life.out("staging", f"sudo test -s {removed}")
