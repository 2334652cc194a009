"""Diagnose: check releases, hosts, runners and public names; nothing is changed."""

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
"""The percentage from which a disk counts as full."""
LOOK_S = 30
FACTS = (
    "df --output=pcent / | tail -n 1; "
    "systemctl is-active docker caddy github-runner; "
    "journalctl --unit github-runner --lines 3 --output cat --quiet 2>/dev/null; true"
)
"""Run on each host at once: disk usage, three units, the runner's last log lines."""


@dataclass(frozen=True)
class Finding:
    """A checked part of the environment. next: how to fix a problem, "" if it is ok."""

    subject: str
    observed: str
    next: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(Plan):
    """All findings, the innermost problem first: outer problems usually follow from it."""

    findings: tuple[Finding, ...] = ()
    prefix: ClassVar[str] = "findings"

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Return the findings that are not ok, the innermost first."""
        return tuple(finding for finding in self.findings if finding.next)

    def view(self) -> ui.Shown:
        """Show one row per finding, problems first."""
        rows = [
            (
                ui.warn("problem") if finding.next else ui.good("ok"),
                finding.subject,
                finding.observed,
                finding.next,
            )
            for finding in sorted(self.findings, key=lambda finding: not finding.next)
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
            Change("problem", finding.subject, finding.observed)
            for finding in findings
            if finding.next
        )
        basis = {"findings": [astuple(finding) for finding in findings]}
        return Diagnosis(self.run.title, problems, basis, findings=findings)

    def look(self) -> ui.Shown:
        problems = self._plan.problems
        if not problems:
            return ui.Notice(f"{self.run.title}: no problem found", ui.OK)
        noun = "problem" if len(problems) == 1 else "problems"
        raise VerifyFailed(
            f"{len(problems)} {noun} found in {self.env}.",
            details=[f"{p.subject}: {p.observed}; {p.next}" for p in problems],
            next=problems[0].next,
        )

    def _from_outside(self) -> Iterator[Finding]:
        for name in self.settings.domains:
            url = f"https://{name}/"
            try:
                code = probe.fetch(url, self.target.environ).status_code
            except probe.NotYet as err:
                yield Finding(url, str(err), "fix the hosts first")
                continue
            hint = "" if code < 500 else f"daybook release list {self.env}"
            yield Finding(url, f"HTTP {code}", hint)

    def _hosts(self) -> Iterator[Finding]:
        known = self.outputs()["instances"]
        running = aws.instance_states(self.target, [host["id"] for host in known])
        names = {host["name"]: running.get(host["id"], "gone") for host in known}
        for host in self.environment.hosts:
            state = names.get(host.name, "gone")
            if state != "running":
                yield Finding(
                    host.name, f"is {state}", f"start it: daybook run provision -p env {self.env}"
                )
                continue
            try:
                yield self._release(host)
                yield from self._facts(host)
            except DaybookError as err:
                yield Finding(host.name, err.message, err.next or "look at its console")

    def _release(self, host: client.Host) -> Finding:
        status, name = host.status(), f"{host.name}: release"
        if status.interrupted:
            observed = f"interrupted in {status.interrupted.get('phase')}"
            return Finding(name, observed, f"on {host.name}: sudo release repair")
        if status.maintenance:
            return Finding(
                name, "maintenance is on", f"on {host.name}: sudo release maintenance off"
            )
        if not status.current:
            return Finding(name, "no release yet", f"daybook run first-deploy -p env {self.env}")
        observed = f"{status.current}, version {status.serving_version or 'unknown'}"
        hint = f"daybook run rollback -p env {self.env}"
        return Finding(name, observed, "" if status.healthy else hint)

    def _facts(self, host: client.Host) -> Iterator[Finding]:
        facts: list[str] = []
        host.run(FACTS, on_line=facts.append, timeout_s=LOOK_S)
        disk, docker, caddy, runner, *log = facts
        configure = f"daybook run configure -p env {self.env}"
        full = int(disk.strip().rstrip("%"))
        prune = f"on {host.name}: sudo release prune; or a larger disk_gib"
        yield Finding(f"{host.name}: disk", f"{full} % full", "" if full < FULL else prune)
        for unit, state in (("docker", docker), ("caddy", caddy)):
            yield Finding(f"{host.name}: {unit}", state, "" if state == "active" else configure)
        if self._has_runner:
            observed = "; ".join([runner, *log[-1:]])
            yield Finding(f"{host.name}: runner", observed, "" if runner == "active" else configure)

    def _runners(self) -> Iterator[Finding]:
        """Yield the state of each host's runner on GitHub."""
        if not self._has_runner:
            return
        try:
            runners = github.repository(self.environment).runners()
            known = {runner.name: runner for runner in runners}
        except DaybookError as err:
            yield Finding("GitHub", err.message, err.next or "try again")
            return
        for host in self.environment.hosts:
            runner = known.get(host.name)
            observed = "not registered" if runner is None else runner.status
            observed += ", busy" if runner and runner.busy else ""
            is_online = runner is not None and runner.status == "online"
            fix = f"daybook run configure -p env {self.env}"
            yield Finding(f"{host.name}: GitHub", observed, "" if is_online else fix)

    @property
    def _has_runner(self) -> bool:
        return self.settings.deploy_via == "runner"
