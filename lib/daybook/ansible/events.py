"""Events of a running play."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daybook import ui

STATES = {
    "runner_on_start": "running",
    "runner_on_ok": "ok",
    "runner_on_skipped": "skipped",
    "runner_on_failed": "failed",
    "runner_item_on_failed": "item failed",
    "runner_on_unreachable": "unreachable",
    "runner_retry": "retrying",
}
# From best to worst. A task on several hosts has the worst status of any host.
STATUSES = {
    "skipped": ui.SKIPPED,
    "ok": ui.OK,
    "changed": ui.Status(ui.Kind.WARN, "changed", "~"),
    "ignored": ui.warn("failed, ignored"),
    "unreachable": ui.bad("unreachable"),
    "failed": ui.FAILED,
}
MESSAGE_LINES = 10


@dataclass(frozen=True)
class PlayEvent:
    """A task's state on a host, the statistics of a play, or a message of Ansible.

    kind: "host", "stats", "error", "warning" or "text". state: running, ok, changed, skipped,
    failed, item failed, ignored, unreachable, retrying. stats: {"ok": {"web-1": 7}, …}.
    """

    kind: str
    host: str = ""
    task: str = ""
    key: str = ""
    state: str = ""
    elapsed_s: float = 0.0
    message: str = ""
    stats: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


OnEvent = Callable[[PlayEvent], None]


def parse(line: str) -> PlayEvent:
    """Parse a line of the child process; a line that is not an event has kind "text"."""
    try:
        parts = json.loads(line)
        name = parts["event"]
    except (ValueError, TypeError, KeyError):
        return PlayEvent("text", message=line)
    if name == "playbook_on_stats":
        return PlayEvent("stats", stats=parts["stats"])
    if name not in STATES:
        return PlayEvent(
            name if name in ("error", "warning") else "text", message=parts.get("text", "")
        )
    result = parts.get("res", {})
    return PlayEvent(
        "host",
        host=parts.get("host", ""),
        task=" : ".join(filter(None, [parts.get("role"), parts.get("task")])),
        key=parts.get("task_uuid", ""),
        state=_state(name, parts, result),
        elapsed_s=parts.get("duration", 0.0),
        message=_message(result),
    )


def _state(name: str, parts: Mapping, result: Mapping) -> str:
    state = STATES[name]
    if state == "ok" and result.get("changed"):
        return "changed"
    return "ignored" if state == "failed" and parts.get("ignore_errors") else state


def _message(result: Mapping) -> str:
    """Return a module's message, then the last lines of its output."""
    head = str(result.get("censored") or result.get("msg", "")).strip().splitlines()
    head += [f"return code {result['rc']}"] if result.get("rc") else []
    head += [f"item: {result['item']}"] if result.get("item") else []
    output = [str(result.get(key, "")).strip() for key in ("stderr", "stdout")]
    tail = [line for text in output for line in text.splitlines()[-MESSAGE_LINES:]]
    return "\n".join(dict.fromkeys(head + tail))


def show_progress(progress: ui.Progress) -> OnEvent:
    """Return a listener that shows each task while it runs, and its result."""
    tasks: dict[str, dict[str, str]] = {}

    def on_event(event: PlayEvent) -> None:
        if event.kind in ("error", "warning"):
            progress.say(event.message)
        if event.kind != "host" or event.state == "item failed":
            return
        states = tasks.setdefault(event.key, {})
        states[event.host] = event.state
        is_done = all(state in STATUSES for state in states.values())
        worst = max(states.values(), key=list(STATUSES).index) if is_done else ""
        status = STATUSES[worst] if worst else ui.busy("running")
        detail = _summary(states) if len(states) > 1 else ""
        if event.state in ("failed", "unreachable", "retrying"):
            detail = event.message.partition("\n")[0]
        progress.row(event.key, status, detail, label=event.task)

    return on_event


def _summary(states: Mapping[str, str]) -> str:
    """Count the hosts in each state: `2 ok, 1 changed`."""
    counts = {state: list(states.values()).count(state) for state in states.values()}
    return ", ".join(f"{count} {state}" for state, count in counts.items())
