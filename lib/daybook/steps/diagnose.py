"""Diagnose: what serves, what runs on the hosts, what GitHub knows of them; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import ClassVar

from daybook import aws, checks, github, playbooks, probe, ui
from daybook.errors import DaybookError, VerifyFailed
from daybook.hosts import client
from daybook.plan import Change, Plan
from daybook.steps.base import ReadOnlyStep

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
    """One thing that was checked. next: what to do about a problem, "" when it is ok."""

    what: str
    observed: str
    next: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(Plan):
    """All findings, the innermost problem first: what is further out usually follows from it."""

    findings: tuple[Finding, ...] = ()
    prefix: ClassVar[str] = "findings"

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Return the findings that are not ok, the innermost first."""
        return tuple(each for each in self.findings if each.next)

    def view(self) -> ui.Shown:
        """Show one row per finding, problems first."""
        rows = [
            (
                ui.warn("problem") if each.next else ui.good("ok"),
                each.what,
                each.observed,
                each.next,
            )
            for each in sorted(self.findings, key=lambda each: not each.next)
        ]
        return ui.Table(self.title, ("status", "what", "observed", "next"), rows)


class Diagnose(ReadOnlyStep):
    """Check everything between the application and a visitor, from the hosts outwards."""

    name = "diagnose"
    next = "nothing to do: no problem found in {env}"

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {"inventory": playbooks.inventory_is_known(self.environment)}

    def make_plan(self) -> Diagnosis:
        findings = (*self._hosts(), *self._runners(), *self._from_outside())
        problems = tuple(
            Change("problem", each.what, each.observed) for each in findings if each.next
        )
        basis = {"findings": [astuple(each) for each in findings]}
        return Diagnosis(self.run.title, problems, basis, findings=findings)

    def look(self) -> ui.Shown:
        problems = self._plan.problems
        if not problems:
            return ui.Notice(f"{self.run.title}: no problem found", ui.OK)
        noun = "problem" if len(problems) == 1 else "problems"
        raise VerifyFailed(
            f"{len(problems)} {noun} found in {self.env}.",
            details=[f"{each.what}: {each.observed}; {each.next}" for each in problems],
            next=problems[0].next,
        )

    def _from_outside(self) -> Iterator[Finding]:
        for name in self.settings.domains:
            url = f"https://{name}/"
            try:
                code = probe.fetch(url, self.target.environ).status_code
            except probe.NotYet as err:
                yield Finding(url, str(err), "see the rows of the hosts above")
                continue
            is_well = code < 500
            yield Finding(
                url, f"HTTP {code}", "" if is_well else f"daybook release list {self.env}"
            )

    def _hosts(self) -> Iterator[Finding]:
        known = self.outputs()["instances"]
        running = aws.instance_states(self.target, [host["id"] for host in known])
        names = {host["name"]: running.get(host["id"], "gone") for host in known}
        for host in self.environment.hosts:
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
        self.environment.start(
            host.ssh(FACTS), env=self.target.environ, on_line=said.append, timeout_s=LOOK_S
        )
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
            here = github.repository(self.environment)
            known = {each.name: each for each in here.runners()}
        except DaybookError as err:
            yield Finding("GitHub", err.message, err.next or "try again")
            return
        for host in self.environment.hosts:
            found = known.get(host.name)
            said = "does not know it" if found is None else found.status
            said += ", busy" if found and found.busy else ""
            is_well = found is not None and found.status == "online"
            fix = f"daybook run configure -p env {self.env}"
            yield Finding(f"{host.name}: GitHub", said, "" if is_well else fix)

    @property
    def _has_runner(self) -> bool:
        return self.settings.deploy_via == "runner"
