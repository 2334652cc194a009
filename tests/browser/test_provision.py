"""Provision in JupyterLab: the gate stops the run until approval, then the environment exists."""

from __future__ import annotations

import boto3
import nbformat
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.timeout(900)]

PREFLIGHT, PLAN, APPROVE, APPLY, VERIFY, RECORD = range(1, 7)


@pytest.fixture(scope="module")
def project(sandbox):
    """Return JupyterLab's project: the one with the sandbox."""
    return sandbox.root


@pytest.fixture(scope="module")
def account(sandbox):
    """Yield the sandbox with a bootstrapped account; tear staging down afterwards."""
    sandbox.succeed("run", "bootstrap", "-p", "env", "staging", "-p", "approve", "auto")
    yield sandbox
    sandbox.step("teardown", "staging")


def instances(sandbox) -> list[str]:
    """Return the states of staging's instances in the API."""
    env = sandbox.env
    ec2 = boto3.client(
        "ec2",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    mine = {"app": "hello", "environment": "staging"}
    filters = [{"Name": f"tag:{name}", "Values": [value]} for name, value in mine.items()]
    found = ec2.describe_instances(Filters=filters)
    return [i["State"]["Name"] for r in found["Reservations"] for i in r["Instances"]]


def test_a_declined_plan_changes_nothing_and_reports_it(account, open_notebook, screenshot):
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


def test_run_all_stops_at_the_gate_and_continues_after_approval(account, open_notebook, screenshot):
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
