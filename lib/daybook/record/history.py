"""Find the last change of a resource, in the records and in CloudTrail."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC
from pathlib import Path

from daybook import aws
from daybook.private_files import NoFile
from daybook.record import journal
from daybook.record.search import Archive, Filters
from daybook.target import Target
from daybook.ui import formats


def by_records(root: Path, env: str, target: str, addresses: Collection[str]) -> dict[str, str]:
    """Return the last run that changed each resource: {"aws_vpc.this": "Ann in 2026…"}.

    target: `aws` or `sandbox`; rehearsals are not mixed with changes in AWS.
    """
    last: dict[str, str] = {}
    archive = Archive(root)
    try:
        for row in archive.list(Filters(environment=env), limit=-1):
            if last.keys() >= set(addresses):
                break
            if row.target != target:  # The target of a broken run is unknown.
                continue
            try:
                entries = journal.read(root / "runs" / env / row.run / journal.NAME)
            except (FileNotFoundError, NoFile):
                continue
            for change in entries.of("change"):
                if change.get("what") in addresses:
                    operator = formats.name_of(row.operator)
                    last.setdefault(change["what"], f"{operator} in {row.run}")
    finally:
        archive.close()
    return last


def by_trail(target: Target, ids: Iterable[str]) -> dict[str, str]:
    """Return the last change of each AWS id in CloudTrail: {"sg-0a": "Authorize… by ann at …"}.

    The event history needs no setup, covers 90 days, and is delayed by about 15 minutes. Without
    permission to read it, the result is incomplete.
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/view-cloudtrail-events.html
    """
    last: dict[str, str] = {}
    with suppress(*aws.FAILURES):
        trail = aws.client(target, "cloudtrail")
        for id in dict.fromkeys(ids):
            key = {"AttributeKey": "ResourceName", "AttributeValue": id}
            for event in trail.lookup_events(LookupAttributes=[key])["Events"]:
                if event.get("ReadOnly") != "true":
                    time = event["EventTime"].astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
                    last[id] = f"{event['EventName']} by {event.get('Username', '?')} at {time}"
                    break
    return last
