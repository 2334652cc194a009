"""Diagnose: what serves, what runs on the hosts, what GitHub knows of them; nothing is changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass

from daybook import aws, checks, github, probe, process, ui
from daybook.approval import gate
from daybook.errors import DaybookError, VerifyFailed
from daybook.hosts import client, located, states
from daybook.steps import infrastructure
from daybook.steps.read_only import ReadOnlyStep

FULL = 90
"""From here on a disk is called full, percent."""
LOOK_S = 30
FACTS = (
    "df --output=pcent / | tail -n 1; "
    "systemctl is-active docker caddy github-runner; "
    "journalctl --unit github-runner --lines 3 --output cat --quiet 2>/dev/null; true"
)
"""Asked of each host at once: how full its disk is, three units, the runner's last words."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. next: what to do about it, "" when it is well."""

    what: str
    said: str
    next: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(ui.Shown):
    """All that was looked at, what is not well on top."""

    title: str
    all: tuple[Finding, ...]

    @property
    def ill(self) -> tuple[Finding, ...]:
        """Return what is not well."""
        return tuple(each for each in self.all if each.next)

    @property
    def changes(self) -> tuple[gate.Task, ...]:
        """Return what is not well, as a record keeps it."""
        return tuple(gate.Task("see to", each.what, each.said) for each in self.ill)

    @property
    def is_empty(self) -> bool:
        """True when all is well."""
        return not self.ill

    @property
    def digest(self) -> str:
        """Return `sight-` and 32 hex digits, the same for the same sight."""
        canonical = json.dumps([astuple(each) for each in self.all])
        return f"sight-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"

    def view(self) -> ui.Shown:
        """Show one row a thing."""
        rows = [
            (ui.warn("look") if each.next else ui.good("well"), each.what, each.said, each.next)
            for each in sorted(self.all, key=lambda each: not each.next)
        ]
        return ui.Table(self.title, ("status", "what", "seen", "next"), rows)


class Diagnose(ReadOnlyStep):
    """Look at all that lies between a visitor and the application, from outside inwards."""

    name = "diagnose"
    next = "nothing to do: {env} is well"

    def questions_there(self) -> Mapping[str, checks.Check]:
        return {"inventory": located.are_known(self)}

    def make_plan(self) -> Diagnosis:
        found = [*self._from_outside(), *self._hosts(), *self._runners()]
        return Diagnosis(self.run.title, tuple(found))

    def look(self) -> ui.Shown:
        ill = self._plan.ill
        if not ill:
            return ui.Notice(f"{self.run.title}: all is well", ui.OK)
        raise VerifyFailed(
            f"{len(ill)} things of {self.env} are not well.",
            details=[f"{each.what}: {each.said}; {each.next}" for each in ill],
            next=ill[0].next,
        )

    def _from_outside(self) -> Iterator[Finding]:
        for name in self.settings.names:
            url = f"https://{name}/"
            try:
                code = probe.fetch(url, self.target.environ).status_code
            except probe.NotYet as err:
                yield Finding(url, str(err), "look at the rows about the hosts below")
                continue
            is_well = code < 500
            yield Finding(
                url, f"HTTP {code}", "" if is_well else f"daybook release list {self.env}"
            )

    def _hosts(self) -> Iterator[Finding]:
        known = infrastructure.outputs(self)["instances"]
        running = aws.instance_states(self.target, [host["id"] for host in known])
        names = {host["name"]: running.get(host["id"], "gone") for host in known}
        for host in states.of(self, self.run.start):
            state = names.get(host.name, "gone")
            if state != "running":
                yield Finding(host.name, f"is {state}", "start it: aws ec2 start-instances")
                continue
            try:
                yield self._release(host)
                yield from self._facts(host)
            except DaybookError as err:
                yield Finding(host.name, err.message, err.next or "look at its console")

    def _release(self, host: client.Host) -> Finding:
        status, what = host.status(), f"{host.name}: release"
        if status.interrupted:
            said = f"interrupted in {status.interrupted.get('phase')}"
            return Finding(what, said, f"on {host.name}: sudo release repair")
        if status.maintenance:
            return Finding(
                what, "maintenance is on", f"on {host.name}: sudo release maintenance off"
            )
        if not status.current:
            return Finding(what, "nothing yet", f"daybook run first-deploy -p env {self.env}")
        said = f"{status.current}, version {status.serving_version or 'unknown'}"
        hint = f"daybook run rollback -p env {self.env}"
        return Finding(what, said, "" if status.healthy else hint)

    def _facts(self, host: client.Host) -> Iterator[Finding]:
        said: list[str] = []
        start: process.Start = self.run.start
        start(host.ssh(FACTS), env=self.target.environ, on_line=said.append, timeout_s=LOOK_S)
        disk, docker, caddy, runner, *words = said
        configure = f"daybook run configure -p env {self.env}"
        full = int(disk.strip().rstrip("%"))
        prune = f"on {host.name}: sudo release prune; or a larger disk_gib"
        yield Finding(f"{host.name}: disk", f"{full} % full", "" if full < FULL else prune)
        for unit, state in (("docker", docker), ("caddy", caddy)):
            yield Finding(f"{host.name}: {unit}", state, "" if state == "active" else configure)
        if self._has_runner:
            told = "; ".join([runner, *words[-1:]])
            yield Finding(f"{host.name}: runner", told, "" if runner == "active" else configure)

    def _runners(self) -> Iterator[Finding]:
        """Give what GitHub says of each host's runner."""
        if not self._has_runner:
            return
        try:
            here = github.repository(self.target, self.env, self.settings)
            known = {each.name: each for each in here.runners()}
        except DaybookError as err:
            yield Finding("GitHub", err.message, err.next or "try again")
            return
        for host in states.of(self, self.run.start):
            found = known.get(host.name)
            said = "does not know it" if found is None else found.status
            said += ", busy" if found and found.busy else ""
            is_well = found is not None and found.status == "online"
            fix = f"daybook run configure -p env {self.env}"
            yield Finding(f"{host.name}: GitHub", said, "" if is_well else fix)

    @property
    def _has_runner(self) -> bool:
        return self.settings.deploy_via == "runner"
