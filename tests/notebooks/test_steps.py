"""The notebooks, in every front end, with the AWS API without machines."""

from __future__ import annotations

import shutil

import nbformat
import pytest

OTHER_ACCOUNT = "210987654321"
BEFORE_THE_GATE = ["preflight", "plan", "approve"]
ALL = [*BEFORE_THE_GATE, "apply", "verify", "record"]

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")


@pytest.fixture(scope="module")
def digest(here) -> str:
    """Run bootstrap up to its gate and return its digest."""
    here.set("production", approvals=0)  # Otherwise a change of the account needs two people.
    done = here.run("run", "bootstrap", "-p", "env", "staging")
    assert done.returncode == 4, done.stdout
    record = here.record("staging", "bootstrap")
    assert record["status"] == "waiting"
    digest = record["plan"]["digest"]
    assert f"daybook run bootstrap -p env staging -p approve {digest}" in done.stdout
    return digest


@pytest.fixture(scope="module")
def bootstrapped(here, digest) -> str:
    """Approve the digest and return the run's output."""
    return here.step("bootstrap", "staging", digest)


@pytest.fixture(scope="module")
def again(here, bootstrapped) -> str:
    """Run bootstrap again without an approval and return its output."""
    return here.step("bootstrap", "staging", approve="")


def buckets(client) -> list[str]:
    return [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]


def phases(record) -> list[str]:
    return [phase["name"] for phase in record["phases"]]


def test_a_failed_preflight_ends_the_run(here):
    done = here.run("run", "provision", "-p", "env", "staging", "-p", "approve", "auto")
    assert done.returncode == 3
    assert "state bucket: expected hello-state-123456789012, observed missing" in done.stdout
    assert "fix: daybook run bootstrap -p env staging" in done.stdout
    assert "Nothing was changed." in done.stdout
    record = here.record("staging", "provision")
    assert (record["status"], phases(record)) == ("failed", ["preflight"])
    assert [cell["status"] for cell in record["cells"]][-1] == "error"


def test_all_missing_requirements_are_listed_with_their_fixes(copy_project, make_project, tmp_path):
    """PATH has only the virtual environment, and the sandbox is not running."""
    nowhere = make_project(copy_project("nowhere"), extra={"PATH": str(tmp_path)})
    done = nowhere.run("run", "first-deploy", "-p", "env", "staging")
    assert done.returncode == 3
    assert "fix: apt install docker-cli" in done.stdout
    assert "target: expected the sandbox is up, observed not up" in done.stdout
    assert "fix: daybook sandbox up" in done.stdout
    assert "Nothing was changed." in done.stdout
    assert nowhere.record("staging", "first-deploy")["status"] == "failed"


@pytest.mark.attack("F3", "a variable that names another server for AWS")
def test_another_server_for_aws_is_not_called(here, aws, make_project):
    own = {"domains": ["real.daybook.test"], "vpc_cidr": "10.40.0.0/16"}
    here.set("real", **own, account=OTHER_ACCOUNT, ssh_key=aws["DAYBOOK_SSH_KEY"])
    abroad = make_project(here.root, extra=aws)
    done = abroad.run("run", "bootstrap", "-p", "env", "real", "-p", "approve", "auto")
    assert done.returncode == 3
    assert f"expected signed in to AWS account {OTHER_ACCOUNT}" in done.stdout
    assert "123456789012" not in done.stdout, "AWS_ENDPOINT_URL was not asked"
    record = abroad.record("real", "bootstrap")
    assert (record["account"], record["target"]) == (OTHER_ACCOUNT, "aws")


def test_without_an_approval_nothing_is_changed(here, digest, client):
    record = here.record("staging", "bootstrap")
    assert phases(record) == BEFORE_THE_GATE
    assert record["changes"] == []
    assert buckets(client) == []


def test_another_digest_is_refused(here, digest, client):
    wrong = f"plan-{'0' * 32}"
    done = here.run("run", "bootstrap", "-p", "env", "staging", "-p", "approve", wrong)
    assert done.returncode == 4
    assert f"expected: {digest}" in done.stdout
    assert f"observed: {wrong}" in done.stdout
    assert here.record("staging", "bootstrap")["status"] == "failed"
    assert buckets(client) == []


def test_the_digest_approves(here, digest, bootstrapped, client):
    record = here.record("staging", "bootstrap")
    assert (record["status"], phases(record)) == ("succeeded", ALL)
    assert record["approvals"][0]["digest"] == record["plan"]["digest"] == digest
    assert "hello-state-123456789012" in buckets(client)


def test_a_second_run_has_no_changes_and_needs_no_approval(here, again):
    assert "no changes" in again.lower()
    assert here.record("staging", "bootstrap")["approvals"][0]["how"] == "not needed"


@pytest.mark.parametrize(
    "command",
    [
        ("papermill", "--no-progress-bar", "notebooks/bootstrap.ipynb", "out.ipynb"),
        ("jupyter-execute", "notebooks/bootstrap.ipynb", "--output", "executed"),
    ],
    ids=["papermill", "jupyter execute"],
)
def test_other_front_ends_write_the_same_record(here, again, command):
    ours = here.record("staging", "bootstrap")
    here.succeed(*command[1:], program=command[0])
    theirs = here.record("staging", "bootstrap")
    assert theirs["run"] != ours["run"]
    same = ("step", "environment", "target", "parameters", "plan", "approvals", "status")
    own = {"time", "made_by"}
    assert {name: _without(own, theirs[name]) for name in same} == {
        name: _without(own, ours[name]) for name in same
    }
    assert phases(theirs) == phases(ours) == ALL
    assert [tool["args"][1] for tool in theirs["tools"]] == [
        tool["args"][1] for tool in ours["tools"]
    ]


def test_no_run_writes_to_a_template(here, bootstrapped):
    notebook = nbformat.read(here.root / "notebooks/bootstrap.ipynb", as_version=4)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []


def test_nbval_runs_the_read_only_cells_and_stops_at_the_gate(here, bootstrapped, client):
    options = ("--nbval-lax", "-x", "-p", "no:cacheprovider", "notebooks/provision.ipynb")
    done = here.run(*options, program="pytest")
    assert done.returncode == 1, done.stdout
    assert "3 passed" in done.stdout
    assert "Waiting for approval of plan-" in done.stdout
    record = here.record("staging", "provision")
    assert (record["status"], phases(record)) == ("waiting", BEFORE_THE_GATE)
    mine = [{"Name": "tag:app", "Values": ["hello"]}]
    assert client("ec2").describe_vpcs(Filters=mine)["Vpcs"] == []


def test_the_zone_of_another_application_is_used_and_not_changed(here, bootstrapped, client):
    here.set("second", app="second", domains=["second.daybook.test"], vpc_cidr="10.41.0.0/16")
    here.step("bootstrap", "second")
    (zone,) = client("route53").list_hosted_zones()["HostedZones"]
    assert zone["Config"]["Comment"] == "hello, by Daybook"
    assert "no changes" in here.step("bootstrap", "second", approve="").lower()


def _without(names: set[str], value: object) -> object:
    if isinstance(value, dict):
        return {key: _without(names, inner) for key, inner in value.items() if key not in names}
    return [_without(names, inner) for inner in value] if isinstance(value, list) else value
