"""Teardown: the first leaves the other environment intact, the last leaves no resources."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dns.resolver
import httpx
import pytest

CHECKOUT = Path(__file__).parents[3]
MODELS = {"bootstrap", "provision", "configure", "first-deploy", "teardown"}

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_teardown_leaves_the_other_environment_intact(serving, life):
    gone = life.address("staging")
    assert "remains" in serving.step("teardown", "staging")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{gone}/", timeout=5)
    with pytest.raises(dns.resolver.NXDOMAIN):
        life.resolve(life.names["staging"])
    assert life.version("production")["environment"] == "production"


def test_the_last_teardown_leaves_no_resources(serving, life, aws):
    serving.step("teardown", "production")
    assert remaining_resources(aws("ec2"), life.app) == []
    assert "-1 " not in serving.succeed("github", "runners", "production")


def remaining_resources(ec2, app: str) -> list[str]:
    """Return the resources of both environments that still exist in EC2."""
    filters = [{"Name": "tag:app", "Values": [app]}]
    reservations = ec2.describe_instances(Filters=filters)["Reservations"]
    living = [i for r in reservations for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    vpcs = ec2.describe_vpcs(Filters=filters)["Vpcs"]
    addresses = ec2.describe_addresses(Filters=filters)["Addresses"]
    return [str(resource) for resource in (*living, *vpcs, *addresses)]


def test_the_results_that_notebooks_expect_have_the_columns_that_runs_show(life):
    compared = set()
    for template in [*CHECKOUT.glob("notebooks/*.ipynb"), *CHECKOUT.glob("runbooks/*.ipynb")]:
        shown = results(life.root, template.stem)
        for cell in json.loads(template.read_text())["cells"] if shown else ():
            if cell["cell_type"] == "raw":
                compared.add(template.stem)
                for columns in tables("".join(cell["source"])):
                    assert columns in tables(shown), (template.stem, columns)
    assert compared >= MODELS


def results(root: Path, step: str) -> str:
    """Return all that the runs of a step showed, as text."""
    return "\n".join(
        "".join(output.get("data", {}).get("text/plain", ""))
        for record in root.glob(f"runs/*/*-{step}-??????/notebook.ipynb")
        for cell in json.loads(record.read_text())["cells"]
        for output in cell.get("outputs", ())
    )


def tables(text: str) -> list[list[str]]:
    """Return the columns of each table in a text: a line of words apart, before a row."""
    return [
        re.split(r" {2,}", line.strip())
        for line in text.splitlines()
        if re.fullmatch(r" +[A-Za-z]+( [A-Za-z]+)*( {2,}[A-Za-z]+( [A-Za-z]+)*)*", line.rstrip())
    ]
