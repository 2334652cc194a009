"""The gate in JupyterLab: outdated gates, incomplete names and repeated cells."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PREFLIGHT, PLAN, APPROVE, APPLY, VERIFY, RECORD = range(1, 7)
REPOSITORY = {"repositoryName": "hello"}


@pytest.fixture(scope="module")
def project(here):
    """Return JupyterLab's project; its account is an API without machines."""
    # If an environment of the account requires approvals, bootstrap needs two people.
    here.set("production", approvals=0)
    here.step("bootstrap", "staging")
    return here.root


def scan(client, *, is_on: bool) -> None:
    """Change a setting that the next plan must revert."""
    configuration = {"scanOnPush": is_on}
    client("ecr").put_image_scanning_configuration(
        **REPOSITORY, imageScanningConfiguration=configuration
    )


@pytest.mark.attack("A1", "in JupyterLab: a gate left standing from an earlier plan")
def test_a_gate_is_valid_only_for_its_plan(project, here, client, open_notebook, screenshot):
    client("ecr").delete_lifecycle_policy(**REPOSITORY)
    notebook = open_notebook("notebooks/bootstrap.ipynb")
    notebook.run_all()
    notebook.wait(APPROVE, timeout_s=240)
    gate = notebook.output(APPROVE)
    expect(gate).to_contain_text("1 to create")
    screenshot(notebook, "1-gate")

    name, approve = gate.get_by_role("textbox"), gate.get_by_role("button", name="Approve")
    name.fill("stag")
    name.press("Tab")
    notebook.page.keyboard.press("Enter")
    expect(gate).to_contain_text("Type staging to approve")
    gate.get_by_role("button", name="Decline").click()
    expect(gate).to_contain_text("Nothing was changed yet")

    name.fill("staging")
    scan(client, is_on=False)
    notebook.run(PLAN, timeout_s=240)
    expect(gate).to_contain_text("A newer plan was made (digest plan-")
    for control in (name, approve, gate.get_by_role("button", name="Decline")):
        expect(control).to_be_disabled()
    screenshot(notebook, "2-outdated")
    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("run the approve cell")

    notebook.run(APPROVE, timeout_s=60)
    expect(gate).to_contain_text("1 to create, 1 to update")
    name.fill("staging")
    name.press("Tab")
    notebook.page.keyboard.press("Enter")
    expect(gate).to_contain_text("Approved. Run the next cell")
    notebook.run(APPLY, timeout_s=240)
    notebook.run(APPLY)
    expect(notebook.output(APPLY)).to_contain_text("Already applied at")
    for cell in (VERIFY, RECORD):
        notebook.run(cell, timeout_s=240)
    expect(notebook.output(RECORD)).to_contain_text("Record: runs/staging/")
    screenshot(notebook, "3-recorded")

    record = here.record("staging", "bootstrap")
    assert record["status"] == "succeeded"
    assert [approval["digest"] for approval in record["approvals"]] == [record["plan"]["digest"]]
    assert "intact" in here.succeed("runs", "verify", record["run"])
