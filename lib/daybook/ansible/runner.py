"""Run playbooks in a child process; an interrupted play stops after its current task."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daybook import process, ui
from daybook.ansible.events import STATUSES, OnEvent, PlayEvent, parse
from daybook.errors import NOTHING_CHANGED, ApplyFailed, CommandFailed, DaybookError, Interrupted

CHILD = Path(__file__).with_name("child.py")
# No credentials, because ansible-runner writes its environment to disk.
PASSED = ("HOME", "LANG", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TMPDIR", "USER")
PASSED += ("AWS_ACCOUNT_ID", "AWS_REGION", "DAYBOOK_RUNNER_SHA256", "GITHUB_SERVER_URL")
PASSED_PREFIXES = ("LC_",)
# An interrupted play completes its current task; an upgrade of packages may take minutes.
GRACE_S = 600.0


@dataclass(frozen=True)
class Stats:
    """Ansible's task counts for one host; ok includes changed."""

    ok: int = 0
    changed: int = 0
    failures: int = 0
    unreachable: int = 0
    skipped: int = 0


@dataclass(frozen=True, repr=False)
class PlayResult(ui.Shown):
    """The result of a play. changed: {"web-1": ("base : Upgrade packages", …)}."""

    playbook: str
    hosts: Mapping[str, Stats]
    changed: Mapping[str, tuple[str, ...]]
    duration_s: float = 0.0
    is_check: bool = False

    @property
    def is_unchanged(self) -> bool:
        return not self.changed

    def __str__(self) -> str:
        """Return one line: `web-1: base : Upgrade packages, docker : Install Docker`."""
        would = "would change " if self.is_check else ""
        hosts = [f"{would}{host}: {', '.join(tasks)}" for host, tasks in self.changed.items()]
        return "; ".join(hosts) or "No changes."

    def view(self) -> ui.Table:
        """Show one row per host, and each task that changed something."""
        rows = [
            (host, stats.ok, stats.changed, stats.failures, stats.skipped)
            for host, stats in self.hosts.items()
        ]
        notes = [f"~ {host}: {task}" for host, tasks in self.changed.items() for task in tasks]
        changed = "would change" if self.is_check else "changed"
        summary = "no changes" if self.is_unchanged else f"{len(notes)} {changed}"
        title = f"{self.playbook}: {summary} in {ui.duration(self.duration_s)}"
        columns = ("host", "ok", "changed", "failed", "skipped")
        return ui.Table(title, columns, rows, ui.OK, notes)


def play(
    playbook: Path,
    *,
    inventory: Path,
    env: Mapping[str, str],
    project_dir: Path,
    variables: Mapping[str, object] | None = None,
    private_key: Path | None = None,
    check: bool = False,
    start: process.Start = process.run,
    on_event: OnEvent | None = None,
) -> PlayResult:
    """Run a playbook on the hosts of an inventory; with check, only report possible changes.

    Raises ApplyFailed if a task failed and Interrupted after Ctrl-C, both with `result`;
    CommandFailed if no task was run, for example because no host answers.
    """
    _require(playbook, inventory, project_dir / "ansible.cfg")
    options = {"private_key": private_key, "check": check}
    events: list[PlayEvent] = []

    def on_line(line: str) -> None:
        events.append(parse(line))
        if on_event:
            on_event(events[-1])

    try:
        result = start(
            command(playbook, inventory, project_dir, **options),
            env=minimal_environment(env),
            cwd=project_dir,
            stdin=json.dumps(dict(variables or {})).encode(),
            on_line=on_line,
            grace_s=GRACE_S,
            check=False,
            shown=typed(playbook, inventory, **options),
        )
    except KeyboardInterrupt as err:
        raise _interrupted(read_result(events, playbook.name, is_check=check)) from err
    played = read_result(events, playbook.name, result.duration_s, is_check=check)
    if result.returncode or not played.hosts:
        raise _failure(played, events, result)
    return played


def _require(*files: Path) -> None:
    # Ansible would interpret the name of a missing inventory as a host.
    for path in files:
        if not path.exists():
            raise CommandFailed(
                f"{path.name} is missing.",
                expected=str(path),
                next="run provision, which writes the inventory; restore other files from git",
            )


def command(
    playbook: Path,
    inventory: Path,
    project_dir: Path,
    *,
    private_key: Path | None = None,
    check: bool = False,
) -> list[str]:
    """Return the command that runs a playbook; variables are passed on standard input instead."""
    files = [str(path.absolute()) for path in (playbook, inventory, project_dir)]
    return [sys.executable, str(CHILD), *files, *_options(private_key, check)]


def typed(
    playbook: Path, inventory: Path, *, private_key: Path | None = None, check: bool = False
) -> str:
    """Return the command as an operator types it, with the same result."""
    options = ["-i", str(inventory.absolute()), *_options(private_key, check)]
    return shlex.join(["ansible-playbook", *options, str(playbook.absolute())])


def _options(private_key: Path | None, check: bool) -> list[str]:
    key = ["--private-key", str(private_key.absolute())] if private_key else []
    return [*key, *(["--check", "--diff"] if check else [])]


def minimal_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Ansible needs, with Daybook's own tools first on PATH.

    ANSIBLE_* is excluded, because it can add plugins and skip tasks.
    """
    kept = {k: v for k, v in env.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    own_tools = str(Path(sys.executable).parent)
    return {**kept, "PATH": os.pathsep.join(filter(None, [own_tools, kept.get("PATH")]))}


def read_result(
    events: Sequence[PlayEvent], playbook: str, duration_s: float = 0.0, *, is_check: bool = False
) -> PlayResult:
    """Return the result of a play from its events."""
    counts = next((event.stats for event in events if event.kind == "stats"), {})
    fields = (("ok", "ok"), ("changed", "changed"), ("failures", "failures"))
    fields += (("unreachable", "dark"), ("skipped", "skipped"))
    hosts = {
        host: Stats(**{name: counts.get(key, {}).get(host, 0) for name, key in fields})
        for host in sorted(counts.get("processed", ()))
    }
    changed: dict[str, tuple[str, ...]] = {}
    for event in events:
        if event.state == "changed":
            changed[event.host] = (*changed.get(event.host, ()), event.task)
    return PlayResult(playbook, hosts, dict(sorted(changed.items())), duration_s, is_check)


def _interrupted(played: PlayResult) -> DaybookError:
    error = Interrupted(
        f"{played.playbook} was interrupted between two tasks.",
        changed=_changed(played),
        next="run this step again; completed tasks are not repeated",
    )
    error.result = played
    return error


def _failure(
    played: PlayResult, events: Sequence[PlayEvent], result: process.Result
) -> DaybookError:
    failed = [event for event in events if event.state in ("failed", "unreachable")]
    has_started = any(event.state == "failed" for event in failed) or not played.is_unchanged
    cls = ApplyFailed if has_started and not played.is_check else CommandFailed
    details = [line for event in failed for line in _failure_lines(event, events)]
    if not details:
        messages = [event.message for event in events if event.kind in ("error", "warning")]
        details = [line for text in messages for line in text.splitlines()] or result.tail
    error = cls(
        f"{played.playbook} failed{_on_hosts(failed)}.",
        details=details,
        changed=_changed(played),
        next=_next(failed),
    )
    error.result = played
    return error


def _on_hosts(failed: Sequence[PlayEvent]) -> str:
    hosts = dict.fromkeys(event.host for event in failed)
    return f" on {', '.join(hosts)}" if hosts else ": no task was run"


def _failure_lines(event: PlayEvent, events: Sequence[PlayEvent]) -> list[str]:
    """Return a failed task as lines, with the failed items of a loop."""
    loop = (event.key, event.host, "item failed")
    items = [item.message for item in events if (item.key, item.host, item.state) == loop]
    head = f"{STATUSES[event.state].mark} {event.host}: {event.task}: {event.state}"
    return [head, *(f"  {line}" for text in items or [event.message] for line in text.splitlines())]


def _next(failed: Sequence[PlayEvent]) -> str:
    if any(event.state == "unreachable" for event in failed):
        return (
            "check that the host is running and that its security group admits your address to"
            " port 22, then run this step again"
        )
    return "fix the cause that the failed task reports, then run this step again"


def _changed(played: PlayResult) -> str:
    if played.is_unchanged or played.is_check:
        return NOTHING_CHANGED
    return f"Changed by then: {played}"
