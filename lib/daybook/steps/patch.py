"""Patch: install updates host by host, with a reboot where one is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daybook import ansible, checks, playbooks, probe, ui
from daybook.errors import CommandFailed, VerifyFailed
from daybook.plan import Change, Plan
from daybook.steps import parameters
from daybook.steps.base import Step

READ = "base : Read the pending updates"
BACK_S = 120
LISTS_S = 24 * 3600
"""The age up to which apply uses the plan's package lists."""


class Patch(Step):
    """Install Debian's updates, and check that each host runs everything again."""

    name = "patch"
    next = "nothing to do: {env} is up to date"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        reboot: bool = True
        """False installs a new kernel without booting it."""

    parameters: Parameters

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {
            "ansible": playbooks.ansible_version(self.environment),
            "SSH key": playbooks.ssh_key_exists(self.environment),
        }

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {
            "inventory": playbooks.inventory_is_known(self.environment),
            "hosts": playbooks.hosts_are_running(self.environment),
        }

    def make_plan(self) -> Plan:
        pending = self._pending()
        self._answers = {site: self._status(*site) for site in self._addresses()}
        changes = [
            change for host, facts in pending.items() for change in self._changes(host, facts)
        ]
        basis = {**self.environment.digest_context, **pending}
        return Plan(f"{self.run.title}: updates", tuple(changes), basis)

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: the hosts of {self.env} are up to date", ui.OK)
        return playbooks.play(
            self.environment,
            "patch.yml",
            variables={
                "base_reboot": self.parameters.reboot,
                "base_package_lists_max_age_s": LISTS_S,
            },
            on_change=self.run.changed,
        )

    def look(self) -> ui.Shown:
        rows = [self._patched(host, facts) for host, facts in self._pending().items()]
        rows += [self._same(name, address) for name, address in self._answers]
        return ui.Table(
            f"{self.run.title}: afterwards", ("status", "host or URL", "observed"), rows
        )

    def _changes(self, host: str, facts: Mapping) -> Iterator[Change]:
        if updates := facts["updates"]:
            yield Change("upgrade", host, f"{len(updates)}: {', '.join(updates)}")
        if self.parameters.reboot and (updates or facts["reboot_for"]):
            yield Change("reboot", host, ", ".join(facts["reboot_for"]) or "if an update needs it")

    def _pending(self) -> dict[str, dict]:
        """Return each host's kernel, updates, reasons to reboot and time of boot."""
        pending: dict[str, dict] = {}

        def on_event(event: ansible.PlayEvent) -> None:
            show(event)
            if event.task == READ and event.state == "ok":
                pending[event.host] = json.loads(event.message)

        with ui.Progress(f"ansible-playbook updates.yml, {self.env}") as progress:
            show = ansible.show_progress(progress)
            playbooks.run(self.environment, "updates.yml", on_event)
        if missing := sorted(set(self._names()) - set(pending)):
            raise CommandFailed(
                f"{', '.join(missing)} did not report pending updates.",
                next=f"write the inventory again: daybook run provision -p env {self.env}",
            )
        return dict(sorted(pending.items()))

    def _names(self) -> list[str]:
        return [host["name"] for host in self.outputs()["instances"]]

    def _patched(self, host: str, facts: Mapping) -> tuple:
        pending = facts["updates"] + (facts["reboot_for"] if self.parameters.reboot else [])
        if pending:
            raise VerifyFailed(
                f"{host} is not up to date.",
                expected="no update and no reboot pending",
                observed=", ".join(pending),
                next=f"daybook run patch -p env {self.env}",
            )
        reboot = "; reboot pending" if facts["reboot_for"] else ""
        observed = f"kernel {facts['kernel']}, up since {facts['up_since']}{reboot}"
        return (ui.warn("patched") if reboot else ui.good("patched")), host, observed

    def _addresses(self) -> list[tuple[str, str]]:
        hosts = self.outputs()["instances"]
        return [(name, host["public_ip"]) for host in hosts for name in self.settings.domains]

    def _status(self, name: str, address: str) -> int | None:
        """Return the HTTP status of a name at a host, None without an answer."""
        try:
            return probe.fetch(f"https://{name}/", self.target.environ, at=address).status_code
        except probe.NotYet:
            return None

    def _same(self, name: str, address: str) -> tuple:
        """Return a row about a name once it answers as before."""
        before, url = self._answers[name, address], f"https://{name}/ at {address}"

        def answer() -> None:
            if (now := self._status(name, address)) != before:
                raise probe.NotYet(f"{now or 'no answer'}, before it was {before or 'none'}")

        probe.wait_until(answer, condition=url, timeout_s=BACK_S)
        return ui.good("as before"), url, f"HTTP {before}" if before else "no answer"
