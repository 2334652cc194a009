"""Provision, stepped through in JupyterLab: the gate holds, then the environment is there."""

from __future__ import annotations

import boto3
import nbformat
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.timeout(900)]

MINE = [
    {"Name": "tag:app", "Values": ["hello"]},
    {"Name": "tag:environment", "Values": ["staging"]},
]
PREFLIGHT, PLAN, APPROVE, APPLY, VERIFY, RECORD = range(1, 7)


@pytest.fixture(scope="module")
def project(sandbox):
    """Return the project that JupyterLab is opened on: the one that has the sandbox."""
    return sandbox.root


@pytest.fixture(scope="module")
def account(sandbox):
    """Return the sandbox with its account prepared; what is provisioned here is torn down."""
    sandbox.succeed("run", "bootstrap", "-p", "env", "staging", "-p", "approve", "auto")
    yield sandbox
    sandbox.step("teardown", "staging")


def instances(sandbox) -> list[str]:
    """Return the states of staging's instances, as the API tells them."""
    found = ec2_of(sandbox).describe_instances(Filters=MINE)
    return [i["State"]["Name"] for r in found["Reservations"] for i in r["Instances"]]


def ec2_of(sandbox):
    env = sandbox.env
    return boto3.client(
        "ec2",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def ports(sandbox) -> set[int]:
    """Return the ports that staging's security groups open."""
    groups = ec2_of(sandbox).describe_security_groups(Filters=MINE)["SecurityGroups"]
    return {rule["FromPort"] for g in groups for rule in g["IpPermissions"] if "FromPort" in rule}


def close_port(sandbox, port: int) -> None:
    """Take a port away, as somebody does in AWS's console."""
    ec2 = ec2_of(sandbox)
    for group in ec2.describe_security_groups(Filters=MINE)["SecurityGroups"]:
        rules = [each for each in group["IpPermissions"] if each.get("FromPort") == port]
        if rules:
            ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=rules)


def test_a_declined_plan_changes_nothing_and_says_so(account, open_notebook, screenshot):
    notebook = open_notebook("notebooks/provision.ipynb")
    notebook.run_all()
    notebook.wait(APPROVE, timeout_s=180)
    decline = notebook.output(APPROVE).get_by_role("button", name="Decline")
    decline.click()
    expect(notebook.output(APPROVE)).to_contain_text("Nothing was changed yet")
    decline.click()
    expect(notebook.output(APPROVE)).to_contain_text("Declined. Nothing was changed")
    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("The plan was declined.")
    screenshot(notebook, "declined")
    assert "running" not in instances(account)


def test_run_all_stops_at_the_gate_and_a_person_takes_it_from_there(
    account, open_notebook, screenshot
):
    notebook = open_notebook("notebooks/provision.ipynb")
    notebook.run_all()
    notebook.wait(APPROVE, timeout_s=180)
    gate = notebook.output(APPROVE)
    expect(gate).to_contain_text("Waiting for approval of plan-")
    for after in (APPLY, VERIFY, RECORD):
        expect(notebook.prompt(after)).to_have_text("[ ]:")
    screenshot(notebook, "1-gate")

    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("run the approve cell")
    assert "running" not in instances(account)

    approve = gate.get_by_role("button", name="Approve")
    typed = gate.get_by_role("textbox")
    typed.fill("stag")
    typed.press("Tab")
    notebook.page.keyboard.press("Enter")
    expect(gate).to_contain_text("Type staging to approve")
    typed.fill("staging")
    typed.press("Tab")
    notebook.page.keyboard.press("Enter")
    expect(gate).to_contain_text("Approved. Run the next cell")
    expect(approve).to_be_disabled()
    screenshot(notebook, "2-approved")

    notebook.run(APPLY, timeout_s=300)
    screenshot(notebook, "3-applied")
    assert instances(account) == ["running"]
    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("Already applied at")
    notebook.run(VERIFY, timeout_s=300)
    expect(notebook.output(VERIFY)).to_contain_text("staging.daybook.test")
    notebook.run(RECORD)
    expect(notebook.output(RECORD)).to_contain_text("daybook run configure -p env staging")
    screenshot(notebook, "4-recorded")

    notebook.save()
    model = nbformat.read(account.root / "notebooks/provision.ipynb", as_version=4)
    assert [cell.outputs for cell in model.cells if cell.cell_type == "code"] == [[]] * 7


@pytest.mark.attack("A1", "in JupyterLab: a gate left standing from an earlier plan")
def test_a_gate_that_is_left_standing_is_disabled_by_a_newer_plan(
    account, open_notebook, screenshot
):
    close_port(account, 80)
    notebook = open_notebook("notebooks/provision.ipynb")
    notebook.run_all()
    notebook.wait(APPROVE, timeout_s=180)
    gate = notebook.output(APPROVE)
    expect(gate).to_contain_text("1 to create")
    gate.get_by_role("textbox").fill("staging")

    close_port(account, 443)
    notebook.run(PLAN, timeout_s=180)
    expect(gate).to_contain_text("A newer plan was made (digest plan-")
    for name in ("Approve", "Decline"):
        expect(gate.get_by_role("button", name=name)).to_be_disabled()
    screenshot(notebook, "outdated")
    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("run the approve cell")
    assert not ports(account) & {80, 443}

    notebook.run(APPROVE)
    expect(gate).to_contain_text("2 to create")
    gate.get_by_role("textbox").fill("staging")
    gate.get_by_role("button", name="Approve").click()
    expect(gate).to_contain_text("Approved. Run the next cell")
    notebook.run(APPLY, timeout_s=300)
    assert ports(account) >= {80, 443}
    for cell in (VERIFY, RECORD):
        notebook.run(cell, timeout_s=300)
    expect(notebook.output(RECORD)).to_contain_text("Record: runs/staging/")
