"""The monthly cost of a plan: known prices are added up, unknown ones are named."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest

from daybook.terraform import prices

REGION = "us-east-1"
TERRAFORM = Path(__file__).parents[3] / "terraform"
DISK = {"volume_type": "gp3", "volume_size": 20}


def change(kind, before=None, after=None, mode="managed"):
    return {"type": kind, "mode": mode, "change": {"before": before, "after": after}}


def host(kind="t3.small", **disk):
    return {"instance_type": kind, "root_block_device": [DISK | disk]}


@pytest.mark.parametrize(
    ("kind", "values", "usd"),
    [
        ("aws_instance", host(), 0.0208 * 730 + 1.60),
        ("aws_instance", host("t4g.medium", volume_size=100), 0.0336 * 730 + 8),
        ("aws_ebs_volume", {"type": "gp3", "size": 50}, 4),
        ("aws_eip", {}, 3.65),
        ("aws_route53_zone", {"name": "daybook.test"}, 0.5),
        ("aws_cloudwatch_metric_alarm", {}, 0.1),
    ],
)
def test_a_known_resource_has_a_list_price(kind, values, usd):
    assert prices.monthly(kind, values, REGION) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("kind", "values", "region"),
    [
        ("aws_instance", host("m7g.large"), REGION),
        ("aws_instance", host(), "eu-central-1"),
        ("aws_instance", host(volume_type="io2"), REGION),
        ("aws_instance", host(volume_size=None), REGION),
        ("aws_db_instance", {}, REGION),
    ],
)
def test_a_resource_missing_from_the_table_has_no_price(kind, values, region):
    assert prices.monthly(kind, values, region) is None


def test_the_sums_cover_the_whole_environment():
    cost = prices.estimate(
        [
            change("aws_eip", {}, {}),
            change("aws_instance", host("t3.small"), host("t3.medium")),
            change("aws_route53_zone", {}, {}, mode="data"),
            change("aws_vpc", None, {}),
        ],
        REGION,
    )
    assert cost.before == pytest.approx(3.65 + 15.184 + 1.6)
    assert cost.after == pytest.approx(3.65 + 30.368 + 1.6)
    assert "about 35.62 USD per month after the apply, 20.43 before" in cost.lines()[0]
    assert (cost.by_use, cost.unknown) == ((), ())


def test_resources_that_are_not_counted_are_named():
    created = [change("aws_s3_bucket", None, {}), change("aws_instance", None, host("m7g.large"))]
    cost = prices.estimate([*created, change("aws_lb", {}, None)], REGION)
    assert cost.after == cost.before == 0
    assert cost.lines()[1:] == (
        "billed by usage, not counted: aws_s3_bucket",
        "price unknown, not counted: aws_instance m7g.large in us-east-1, aws_lb in us-east-1",
    )


def test_every_resource_type_of_terraform_is_in_the_table():
    text = "".join(path.read_text() for path in TERRAFORM.glob("*/*.tf"))
    kinds = set(re.findall(r'^resource "(\w+)"', text, re.M))
    priced = {"aws_instance", "aws_ebs_volume", "aws_eip", "aws_route53_zone"}
    priced.add("aws_cloudwatch_metric_alarm")
    known = priced | set(prices.table()["free"]) | set(prices.table()["by_use"])
    assert kinds
    assert kinds <= known, "add a price, or list the type under free or by_use"


def test_the_table_has_a_date_and_sources():
    table = prices.table()
    assert isinstance(table["as_of"], datetime.date)
    assert all(url.startswith("https://aws.amazon.com/") for url in table["sources"].values())
