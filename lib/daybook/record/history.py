"""Who last changed something: what the records say, and what CloudTrail says."""

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


def by_records(root: Path, env: str, target: str, what: Collection[str]) -> dict[str, str]:
    """Return for each thing the last run that changed it: {"aws_vpc.this": "Ann in 2026…"}.

    target: `aws` or `sandbox`, so that a rehearsal is not taken for the real thing.
    """
    wanted, found = set(what), {}
    archive = Archive(root)
    try:
        for row in archive.list(Filters(environment=env), limit=-1):
            if wanted <= found.keys():
                break
            if row.target != target:  # That of a broken run is not known.
                continue
            try:
                entries = journal.read(root / "runs" / env / row.run / journal.NAME)
            except (FileNotFoundError, NoFile):
                continue
            said = f"{row.operator.partition(' <')[0]} in {row.run}"
            for change in entries.of("change"):
                if change.get("what") in wanted:
                    found.setdefault(change["what"], said)
    finally:
        archive.close()
    return found


def by_trail(target: Target, ids: Iterable[str]) -> dict[str, str]:
    """Return for each AWS id the last change that CloudTrail knows: {"sg-0a": "Auth… by ann …"}.

    Its event history needs no setting up, holds 90 days, and lags a quarter of an hour. Where it
    may not be asked, nothing is known.
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/view-cloudtrail-events.html
    """
    found = {}
    with suppress(*aws.FAILURES):
        trail = aws.client(target, "cloudtrail")
        for each in dict.fromkeys(ids):
            key = {"AttributeKey": "ResourceName", "AttributeValue": each}
            for event in trail.lookup_events(LookupAttributes=[key])["Events"]:
                if event.get("ReadOnly") != "true":
                    when = event["EventTime"].astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
                    found[each] = f"{event['EventName']} by {event.get('Username', '?')} at {when}"
                    break
    return found
