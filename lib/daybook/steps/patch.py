"""Patch: the hosts' updates, one host after the other, with a reboot where they need it."""

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
"""Package lists of this age are used as they are: those of the plan."""


class Patch(Step):
    """Install what Debian has published since, and see that each host came back whole."""

    name = "patch"
    next = "nothing to do: {env} is up to date"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        reboot: bool = True
        """False leaves a reboot that updates need to the next time."""

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
        self._answers = {where: self._status(*where) for where in self._addresses()}
        changes = [
            change for host, found in pending.items() for change in self._changes(host, found)
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
        rows = [self._patched(host, found) for host, found in self._pending().items()]
        rows += [self._same(name, address) for name, address in self._answers]
        return ui.Table(f"{self.run.title}: afterwards", ("status", "what", "seen"), rows)

    def _changes(self, host: str, found: Mapping) -> Iterator[Change]:
        if updates := found["updates"]:
            yield Change("upgrade", host, f"{len(updates)}: {', '.join(updates)}")
        if self.parameters.reboot and (updates or found["reboot_for"]):
            yield Change("reboot", host, ", ".join(found["reboot_for"]) or "if these need it")

    def _pending(self) -> dict[str, dict]:
        """Return each host's kernel, updates, reasons to reboot and time of boot."""
        found: dict[str, dict] = {}

        def on_event(event: ansible.Event) -> None:
            show(event)
            if event.task == READ and event.state == "ok":
                found[event.host] = json.loads(event.message)

        with ui.Progress(f"ansible-playbook updates.yml, {self.env}") as progress:
            show = ansible.show_progress(progress)
            playbooks.run(self.environment, "updates.yml", on_event)
        if missing := sorted(set(self._names()) - set(found)):
            raise CommandFailed(
                f"{', '.join(missing)} did not say what is pending.",
                next=f"write the inventory anew: daybook run provision -p env {self.env}",
            )
        return dict(sorted(found.items()))

    def _names(self) -> list[str]:
        return [host["name"] for host in self.outputs()["instances"]]

    def _patched(self, host: str, found: Mapping) -> tuple:
        left = found["updates"] + (found["reboot_for"] if self.parameters.reboot else [])
        if left:
            raise VerifyFailed(
                f"{host} is not up to date.",
                expected="no update and no reboot pending",
                observed=", ".join(left),
                next=f"daybook run patch -p env {self.env}",
            )
        waits = "; a reboot waits" if found["reboot_for"] else ""
        said = f"kernel {found['kernel']}, up since {found['up_since']}{waits}"
        return (ui.warn("patched") if waits else ui.good("patched")), host, said

    def _addresses(self) -> list[tuple[str, str]]:
        hosts = self.outputs()["instances"]
        return [(name, host["public_ip"]) for host in hosts for name in self.settings.domains]

    def _status(self, name: str, address: str) -> int | None:
        """Return the HTTP status of a name at a host, None when nothing answers."""
        try:
            return probe.fetch(f"https://{name}/", self.target.environ, at=address).status_code
        except probe.NotYet:
            return None

    def _same(self, name: str, address: str) -> tuple:
        """Return a row about a name once it answers as it did before."""
        before, url = self._answers[name, address], f"https://{name}/ at {address}"

        def answer() -> None:
            if (now := self._status(name, address)) != before:
                raise probe.NotYet(f"{now or 'no answer'}, before it was {before or 'none'}")

        probe.wait_until(answer, what=url, timeout_s=BACK_S)
        return ui.good("as before"), url, f"HTTP {before}" if before else "no answer"
