"""Play a playbook in a process that ends with its task, not in it, when it is interrupted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daybook import process, ui
from daybook.ansible.events import STATUSES, Event, OnEvent, parse
from daybook.errors import NOTHING_CHANGED, ApplyFailed, CommandFailed, DaybookError, Interrupted

CHILD = Path(__file__).with_name("child.py")
# ansible-runner writes its environment to disk: no credentials may be in it.
PASSED_ON = ("HOME", "LANG", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TMPDIR", "USER")
PASSED_ON += ("AWS_ACCOUNT_ID", "AWS_REGION", "DAYBOOK_RUNNER_SHA256", "GITHUB_SERVER_URL")
PASSED_ON_PREFIXES = ("LC_",)
# An interrupted play ends its task first: upgrading packages may take minutes.
GRACE_S = 600.0


@dataclass(frozen=True)
class Stats:
    """What Ansible counts for one host; ok includes changed."""

    ok: int = 0
    changed: int = 0
    failures: int = 0
    unreachable: int = 0
    skipped: int = 0


@dataclass(frozen=True, repr=False)
class PlayResult(ui.Shown):
    """What a play did. changed: {"web-1": ("base : Upgrade packages", …)}."""

    playbook: str
    hosts: Mapping[str, Stats]
    changed: Mapping[str, tuple[str, ...]]
    duration_s: float = 0.0
    is_check: bool = False

    @property
    def is_unchanged(self) -> bool:
        return not self.changed

    def __str__(self) -> str:
        """Say it in a line: `web-1: base : Upgrade packages, docker : Install Docker`."""
        would = "would change " if self.is_check else ""
        said = [f"{would}{host}: {', '.join(tasks)}" for host, tasks in self.changed.items()]
        return "; ".join(said) or "No changes."

    def view(self) -> ui.Table:
        """Show one row a host, and every task that changed something."""
        rows = [(h, s.ok, s.changed, s.failures, s.skipped) for h, s in self.hosts.items()]
        notes = [f"~ {host}: {task}" for host, tasks in self.changed.items() for task in tasks]
        changed = "would change" if self.is_check else "changed"
        how = "no changes" if self.is_unchanged else f"{len(notes)} {changed}"
        title = f"{self.playbook}: {how} in {ui.duration(self.duration_s)}"
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
    """Play a playbook on the hosts of an inventory; check: only look what would change.

    Raises ApplyFailed when a task failed, Interrupted after Ctrl-C, both with `result`;
    CommandFailed when nothing was begun, for example because no host answers.
    """
    _require(playbook, inventory, project_dir / "ansible.cfg")
    heard: list[Event] = []

    def on_line(line: str) -> None:
        heard.append(parse(line))
        if on_event:
            on_event(heard[-1])

    try:
        result = start(
            command(playbook, inventory, project_dir, private_key=private_key, check=check),
            env=minimal_environment(env),
            cwd=project_dir,
            stdin=json.dumps(dict(variables or {})).encode(),
            on_line=on_line,
            grace_s=GRACE_S,
            check=False,
        )
    except KeyboardInterrupt as err:
        raise _interrupted(read_result(heard, playbook.name, is_check=check)) from err
    played = read_result(heard, playbook.name, result.duration_s, is_check=check)
    if result.returncode or not played.hosts:
        raise _failure(played, heard, result)
    return played


def _require(*files: Path) -> None:
    # Ansible takes the name of a missing inventory for a host's.
    for path in files:
        if not path.exists():
            raise CommandFailed(
                f"{path.name} is missing.",
                expected=str(path),
                next="provision writes the inventory; the playbooks are in git",
            )


def command(
    playbook: Path,
    inventory: Path,
    project_dir: Path,
    *,
    private_key: Path | None = None,
    check: bool = False,
) -> list[str]:
    """Return the command that plays; variables go through its standard input, not here."""
    files = [str(path.absolute()) for path in (playbook, inventory, project_dir)]
    key = ["--private-key", str(private_key.absolute())] if private_key else []
    look = ["--check", "--diff"] if check else []
    return [sys.executable, str(CHILD), *files, *key, *look]


def minimal_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that Ansible needs, with our own tools first on PATH.

    None of ANSIBLE_*: those say which plugins run and which tasks do not.
    """
    kept = {k: v for k, v in env.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}
    ours = str(Path(sys.executable).parent)
    return {**kept, "PATH": os.pathsep.join(filter(None, [ours, kept.get("PATH")]))}


def read_result(
    heard: Sequence[Event], playbook: str, duration_s: float = 0.0, *, is_check: bool = False
) -> PlayResult:
    """Return what the events of a play say was done."""
    counts = next((event.stats for event in heard if event.kind == "stats"), {})
    fields = (("ok", "ok"), ("changed", "changed"), ("failures", "failures"))
    fields += (("unreachable", "dark"), ("skipped", "skipped"))
    hosts = {
        host: Stats(**{name: counts.get(key, {}).get(host, 0) for name, key in fields})
        for host in sorted(counts.get("processed", ()))
    }
    changed: dict[str, tuple[str, ...]] = {}
    for event in heard:
        if event.state == "changed":
            changed[event.host] = (*changed.get(event.host, ()), event.task)
    return PlayResult(playbook, hosts, dict(sorted(changed.items())), duration_s, is_check)


def _interrupted(played: PlayResult) -> DaybookError:
    error = Interrupted(
        f"{played.playbook} was interrupted, between two tasks.",
        changed=_changed(played),
        next="run this step again: what is done already stays as it is",
    )
    error.result = played
    return error


def _failure(played: PlayResult, heard: Sequence[Event], result: process.Result) -> DaybookError:
    bad = [event for event in heard if event.state in ("failed", "unreachable")]
    has_begun = any(event.state == "failed" for event in bad) or not played.is_unchanged
    cls = ApplyFailed if has_begun and not played.is_check else CommandFailed
    details = [line for event in bad for line in _told(event, heard)]
    if not details:
        complaints = [event.message for event in heard if event.kind in ("error", "warning")]
        details = [line for text in complaints for line in text.splitlines()] or result.tail
    error = cls(
        f"{played.playbook} failed{_where(bad)}.",
        details=details,
        changed=_changed(played),
        next=_next(bad),
    )
    error.result = played
    return error


def _where(bad: Sequence[Event]) -> str:
    hosts = dict.fromkeys(event.host for event in bad)
    return f" on {', '.join(hosts)}" if hosts else ": no task was run"


def _told(event: Event, heard: Sequence[Event]) -> list[str]:
    """Return a failed task as lines, with the items that failed if it is a loop."""
    items = [e for e in heard if (e.key, e.host, e.state) == (event.key, event.host, "item failed")]
    texts = [e.message for e in items] or [event.message]
    head = f"{STATUSES[event.state].mark} {event.host}: {event.task}: {event.state}"
    return [head, *(f"  {line}" for text in texts for line in text.splitlines())]


def _next(bad: Sequence[Event]) -> str:
    if any(event.state == "unreachable" for event in bad):
        return "see that the host runs and that your address may reach its port 22, then run again"
    return "mend what the task complains about, then run this step again"


def _changed(played: PlayResult) -> str:
    if played.is_unchanged or played.is_check:
        return NOTHING_CHANGED
    return f"Changed by then: {played}"
