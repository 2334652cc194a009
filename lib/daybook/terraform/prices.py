"""Monthly cost of the resources of a plan, from the committed price table."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

EVERYWHERE = {"aws_route53_zone": "zone", "aws_cloudwatch_metric_alarm": "alarm"}


@dataclass(frozen=True)
class Cost:
    """Monthly cost in USD before and after the apply; resource types that the sums leave out."""

    before: float
    after: float
    as_of: str
    by_use: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """Return the cost as lines for an operator."""
        sums = f"about {self.after:.2f} USD per month after the apply, {self.before:.2f} before"
        lines = [f"cost: {sums} (AWS list prices of {self.as_of})"]
        if self.by_use:
            lines.append(f"billed by usage, not counted: {', '.join(self.by_use)}")
        if self.unknown:
            lines.append(f"price unknown, not counted: {', '.join(self.unknown)}")
        return tuple(lines)


@functools.cache
def table() -> dict[str, Any]:
    """Return the committed price table."""
    return yaml.safe_load(
        resources.files("daybook.terraform").joinpath("prices.yml").read_text("utf-8")
    )


def estimate(changes: Iterable[Mapping[str, Any]], region: str) -> Cost:
    """Add up the cost of all resources of a plan, including unchanged ones.

    changes: `resource_changes` of `terraform show -json`.
    """
    sums = {"before": 0.0, "after": 0.0}
    by_use: set[str] = set()
    unknown: set[str] = set()
    for change in changes:
        kind = change["type"]
        if change.get("mode", "managed") != "managed" or kind in table()["free"]:
            continue
        if kind in table()["by_use"]:
            by_use.add(kind)
            continue
        for when in sums:
            if (values := change["change"].get(when)) is not None:
                price = monthly(kind, values, region)
                sums[when] += price or 0
                unknown |= {_named(kind, values, region)} if price is None else set()
    as_of = str(table()["as_of"])
    return Cost(**sums, as_of=as_of, by_use=tuple(sorted(by_use)), unknown=tuple(sorted(unknown)))


def monthly(kind: str, values: Mapping[str, Any], region: str) -> float | None:
    """Return the monthly cost of one resource in USD; None if the table has no price."""
    local, hours = table()["regions"].get(region, {}), table()["hours_a_month"]
    try:
        if kind == "aws_instance":
            machine = local["instance"][values["instance_type"]] * hours
            return machine + sum(_disk(disk, local) for disk in _disks(values))
        if kind == "aws_ebs_volume":
            return _disk({"volume_size": values["size"], "volume_type": values["type"]}, local)
        if kind == "aws_eip":
            return local["public_ipv4"] * hours
        if kind == "aws_cloudwatch_metric_alarm":
            return local["alarm"]
        return table()["everywhere"].get(EVERYWHERE.get(kind))
    except (KeyError, TypeError):
        return None


def _disks(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(values.get("root_block_device") or ()), *(values.get("ebs_block_device") or ())]


def _disk(disk: Mapping[str, Any], local: Mapping[str, Any]) -> float:
    return {"gp3": local["gp3"]}[disk["volume_type"]] * disk["volume_size"]


def _named(kind: str, values: Mapping[str, Any], region: str) -> str:
    detail = values.get("instance_type") or values.get("type") or ""
    return " ".join(filter(None, [kind, detail if isinstance(detail, str) else "", f"in {region}"]))
