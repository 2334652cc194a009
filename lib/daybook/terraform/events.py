"""Terraform's machine-readable output as events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from daybook import ui

# The words for Terraform's actions: in progress, completed.
VERBS = {
    "create": ("creating", "created"),
    "update": ("updating", "updated"),
    "delete": ("destroying", "destroyed"),
    "read": ("reading", "read"),
    "refresh": ("refreshing", "refreshed"),
}


@dataclass(frozen=True)
class TerraformEvent:
    """One message of Terraform: kind "apply_progress", resource "aws_vpc.this", …

    https://developer.hashicorp.com/terraform/internals/machine-readable-ui
    """

    kind: str
    resource: str = ""
    action: str = ""
    elapsed_s: float = 0.0
    message: str = ""
    diagnostic: Diagnostic | None = None
    changed_outputs: tuple[str, ...] = ()


OnEvent = Callable[[TerraformEvent], None]


@dataclass(frozen=True)
class Diagnostic:
    """An error or warning of Terraform, with its resource address and its location in a file."""

    severity: str
    summary: str
    detail: str = ""
    address: str = ""
    location: str = ""

    def lines(self) -> list[str]:
        """Return the summary with its resource and location, then the detail, as lines."""
        origin = ", ".join(filter(None, [self.address, self.location]))
        # In errors of backends and providers, the summary can be several paragraphs long.
        head, *rest = self.summary.splitlines()
        lines = [f"{head} ({origin})" if origin else head, *rest, *self.detail.splitlines()]
        return [line for line in lines if line.strip()]


def parse(line: str) -> TerraformEvent:
    """Return a line of `-json` output as an event; its kind is "text" if the line is not JSON."""
    try:
        message = json.loads(line)
        kind = message["type"]
    except (ValueError, TypeError, KeyError):
        return TerraformEvent("text", message=line)
    hook = message.get("hook") or message.get("change") or {}
    outputs = message.get("outputs") or {}
    return TerraformEvent(
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


def read_diagnostic(message: dict) -> Diagnostic:
    """Return a diagnostic of `-json` output."""
    source = message.get("range") or {}
    location = f"{source['filename']}:{source['start']['line']}" if source else ""
    return Diagnostic(
        message["severity"],
        message["summary"],
        message["detail"],
        message.get("address", ""),
        location,
    )


def show_progress(progress: ui.Progress) -> OnEvent:
    """Return a listener that shows each resource while it is read, changed or destroyed."""

    def on_event(event: TerraformEvent) -> None:
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
