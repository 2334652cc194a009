"""What Terraform says while it works, as events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from daybook import ui

# How Terraform's actions are said: while under way, afterwards.
VERBS = {
    "create": ("creating", "created"),
    "update": ("updating", "updated"),
    "delete": ("destroying", "destroyed"),
    "read": ("reading", "read"),
    "refresh": ("refreshing", "refreshed"),
}


@dataclass(frozen=True)
class Event:
    """One message of Terraform's: kind "apply_progress", resource "aws_vpc.this", …

    https://developer.hashicorp.com/terraform/internals/machine-readable-ui
    """

    kind: str
    resource: str = ""
    action: str = ""
    elapsed_s: float = 0.0
    message: str = ""
    diagnostic: Diagnostic | None = None
    changed_outputs: tuple[str, ...] = ()


OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Diagnostic:
    """What Terraform complains about, where, and what to do in its own words."""

    severity: str
    summary: str
    detail: str = ""
    address: str = ""
    place: str = ""

    def lines(self) -> list[str]:
        """Return it as lines: what, for which resource in which file, why."""
        where = ", ".join(filter(None, [self.address, self.place]))
        # Errors of backends and providers put whole paragraphs into the summary.
        head, *rest = self.summary.splitlines()
        lines = [f"{head} ({where})" if where else head, *rest, *self.detail.splitlines()]
        return [line for line in lines if line.strip()]


def parse(line: str) -> Event:
    """Return what a line of `-json` output says; kind "text" for one that is not JSON."""
    try:
        message = json.loads(line)
        kind = message["type"]
    except (ValueError, TypeError, KeyError):
        return Event("text", message=line)
    hook = message.get("hook") or message.get("change") or {}
    outputs = message.get("outputs") or {}
    return Event(
        kind,
        resource=hook.get("resource", {}).get("addr", ""),
        action=hook.get("action", "refresh" if kind.startswith("refresh") else ""),
        elapsed_s=hook.get("elapsed_seconds", 0),
        message=message.get("@message", ""),
        diagnostic=read_diagnostic(message["diagnostic"]) if "diagnostic" in message else None,
        changed_outputs=tuple(
            name for name, output in outputs.items() if output.get("action", "noop") != "noop"
        ),
    )


def read_diagnostic(found: dict) -> Diagnostic:
    """Return one complaint of `-json` output."""
    source = found.get("range") or {}
    place = f"{source['filename']}:{source['start']['line']}" if source else ""
    return Diagnostic(
        found["severity"], found["summary"], found["detail"], found.get("address", ""), place
    )


def show_progress(progress: ui.Progress) -> OnEvent:
    """Return a listener that shows each resource as it is read, made or destroyed."""

    def on_event(event: Event) -> None:
        if event.kind == "change_summary":
            progress.say(event.message)
        doing, done = VERBS.get(event.action, (event.action, event.action))
        key = f"{event.action} {event.resource}"
        statuses = {
            "start": ui.busy(doing),
            "progress": ui.busy(doing),
            "complete": ui.good(done),
            "errored": ui.bad("failed"),
        }
        operation, _, phase = event.kind.partition("_")
        if operation in ("apply", "refresh") and phase in statuses:
            is_minor = event.action in ("read", "refresh") and phase != "errored"
            progress.row(key, statuses[phase], label=event.resource, is_minor=is_minor)

    return on_event
