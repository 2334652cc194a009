"""An interrupted step: nothing is lost, and the next run continues from there."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from botocore.exceptions import ClientError

BUCKET = "hello-state-123456789012"
ACCOUNT_STATE = "account/terraform.tfstate"
STATE = "env:/{env}/environment/terraform.tfstate"

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")


def read(client, key: str) -> dict | None:
    """Return an object of the state bucket, or None."""
    try:
        return json.load(client("s3").get_object(Bucket=BUCKET, Key=key)["Body"])
    except ClientError:
        return None


def start(here, step: str, env: str = "staging"):
    return here.start("daybook", "run", step, "-p", "env", env, "-p", "approve", "auto")


def kernel_of(here, step: str) -> int:
    folder = max((here.root / "runs/staging").glob(f"*-{step}-*"))
    return json.loads((folder / "journal.jsonl").read_text().splitlines()[0])["kernel"]["pid"]


def test_a_bootstrap_killed_before_its_state_was_pushed_is_completed_by_the_next(here, client):
    here.set("production", approvals=0)  # Otherwise a change of the account needs two people.
    with start(here, "bootstrap") as process:
        here.wait_for(process, r"created +aws_s3_bucket")
        os.kill(kernel_of(here, "bootstrap"), signal.SIGKILL)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "Next: run this step again" in said
    assert here.record("staging", "bootstrap")["status"] == "interrupted"
    assert read(client, ACCOUNT_STATE) is None
    here.step("bootstrap", "staging")
    kept = [resource["type"] for resource in read(client, ACCOUNT_STATE)["resources"]]
    assert {"aws_s3_bucket", "aws_ecr_repository", "aws_route53_zone"} <= set(kept)
    assert "no changes" in here.step("bootstrap", "staging", approve="").lower()


@pytest.mark.parametrize(
    ("env", "signum"),
    [("staging", signal.SIGINT), ("production", signal.SIGTERM)],
    ids=["SIGINT", "SIGTERM"],
)
def test_after_a_signal_terraform_saves_its_state(here, client, env, signum):
    with start(here, "provision", env) as process:
        here.wait_for(process, r"created +aws_subnet")
        process.send_signal(signum)
        said = process.communicate(timeout=240)[0]
    assert process.returncode == 130, said
    assert f"{signum.name}: waiting for the running tool to end" in said
    assert "Changed by then:" in said
    record = here.record(env, "provision")
    assert record["status"] == "interrupted"
    assert [phase["name"] for phase in record["phases"]] == [
        "preflight",
        "plan",
        "approve",
        "apply",
    ]
    made = [resource["type"] for resource in read(client, STATE.format(env=env))["resources"]]
    assert "aws_vpc" in made
    assert "aws_instance" not in made
    assert locks(client) == []


def test_a_signal_at_the_start_changes_nothing(here):
    before = set(here.root.glob("runs/staging/*-provision-*"))
    with start(here, "provision") as process:
        here.wait_for(process, "preflight")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 130
    for folder in set(here.root.glob("runs/staging/*-provision-*")) - before:
        assert json.loads((folder / "record.json").read_text())["changes"] == []


def locks(client) -> list[str]:
    """Return the locks in the bucket: Terraform's and Daybook's."""
    found = client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [
        item["Key"] for item in found if item["Key"].endswith(".tflock") or "lock" in item["Key"]
    ]
