"""Drift: compare an environment with its code; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from daybook import ansible, checks, infrastructure, playbooks, terraform, ui
from daybook.errors import CommandFailed, VerifyFailed
from daybook.plan import Change, Plan
from daybook.record import history
from daybook.resources import instances, orphans
from daybook.resources.owned import rules
from daybook.steps.base import ReadOnlyStep

FINDINGS = {
    "changed": "would change",
    "failed": "cannot be checked",
    "unreachable": "is unreachable",
}


@dataclass(frozen=True)
class Difference:
    """One difference between an environment and its code. id: the resource's id in CloudTrail."""

    seen_by: str
    address: str
    action: str
    detail: str = ""
    id: str = ""
    author: str = "not known"

    @property
    def change(self) -> Change:
        """Return it as a change of a plan."""
        return Change(self.action, self.address, self.detail)


@dataclass(frozen=True, repr=False)
class Differences(Plan):
    """All differences between an environment and its code."""

    differences: tuple[Difference, ...] = ()
    prefix: ClassVar[str] = "drift"

    def view(self) -> ui.Shown:
        """Show one row per difference, with the author of the last change."""
        if self.is_empty:
            return ui.Notice(f"{self.title}: no drift", ui.OK)
        rows = [
            (ui.warn(d.action), d.address, d.detail, d.seen_by, d.author) for d in self.differences
        ]
        columns = ("differs", "resource", "how", "seen by", "last changed by")
        return ui.Table(
            f"{self.title}: {ui.count(len(rows), 'difference')}", columns, rows, ui.WARNING
        )


class Drift(ReadOnlyStep):
    """Compare an environment with terraform/ and ansible/, and report the last changes.

    Suitable for a nightly job: exit code 0 without drift, 7 with a list.
    """

    name = "drift"
    next = "nothing to do: {env} matches its code"

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {
            "terraform": infrastructure.terraform_version(self.environment),
            "ansible": playbooks.ansible_version(self.environment),
            "SSH key": playbooks.ssh_key_exists(self.environment),
        }

    def target_checks(self) -> Mapping[str, checks.Check]:
        fix = infrastructure.BOOTSTRAP_FIRST.format(env=self.env)
        bucket = self.environment.state_bucket
        return {
            "state bucket": checks.bucket_exists(self.target, bucket, fix),
            "inventory": playbooks.inventory_is_known(self.environment),
        }

    def make_plan(self) -> Differences:
        hosts = self.outputs()["instances"]
        plan, described = self._terraform()
        differences = [*_by_terraform(plan, described), *self._unmanaged(described)]
        differences += list(self._not_running(hosts)) or self._by_ansible()
        known = tuple(self._with_authors(differences))
        changes = tuple(difference.change for difference in known)
        return Differences(self.run.title, changes, {}, differences=known)

    def look(self) -> ui.Shown:
        differences = self._plan.differences
        if not differences:
            return ui.Notice(f"{self.run.title}: no drift", ui.OK)
        raise VerifyFailed(
            f"{self.env} has {ui.count(len(differences), 'difference')} from its code.",
            expected="no drift",
            details=[
                f"{difference.seen_by}: {difference.address} {difference.action}"
                + (f" ({difference.detail})" if difference.detail else "")
                + f"; last changed by: {difference.author}"
                for difference in differences
            ],
            next=f"restore the code's state: daybook run provision -p env {self.env}, then "
            "configure; or write the change into the code",
        )

    def _terraform(self) -> tuple[terraform.SavedPlan, dict]:
        """Return Terraform's plan, and its description with the state that it is based on."""
        tool = self.environment.terraform()
        tool.init(self.environment.backend)
        with ui.Progress(f"terraform plan, {self.env}") as progress:
            plan = tool.plan(
                self.run.plan_file,
                variables=infrastructure.variables(self.environment),
                on_event=terraform.show_progress(progress),
            )
        try:
            return plan, tool.describe(plan.path)
        finally:
            plan.discard()

    def _unmanaged(self, described: Mapping) -> Iterator[Difference]:
        """Yield the environment's resources in AWS that Terraform does not manage."""
        state = json.dumps(described.get("prior_state", {}))
        for resource in orphans.unmanaged(self.environment, state):
            yield Difference("AWS", str(resource), "is not in the code", id=resource.id)
        for rule in rules(self.environment):
            if f'"{rule.id}"' not in state:
                address = f"a rule of security group {rule.group}"
                yield Difference("AWS", address, "is not in the code", rule.text, rule.group)

    def _not_running(self, hosts: list[Mapping]) -> Iterator[Difference]:
        """Yield the hosts that do not run, and that Ansible checks none while one does not."""
        states = {
            instance.id: instance.state for instance in instances.instances_of(self.environment)
        }
        for host in hosts:
            if (state := states.get(host["id"], "gone")) != "running":
                yield Difference("AWS", host["name"], f"is {state}", id=host["id"])
        if any(states.get(host["id"]) != "running" for host in hosts):
            yield Difference("Ansible", f"hosts of {self.env}", "not checked", "start all hosts")

    def _by_ansible(self) -> list[Difference]:
        """Return each task that would change a host or that cannot be checked."""
        differences: list[Difference] = []

        def on_event(event: ansible.PlayEvent) -> None:
            show(event)
            if event.state in FINDINGS:
                detail = event.message.partition("\n")[0]
                address = f"{event.host}: {event.task}"
                differences.append(Difference("Ansible", address, FINDINGS[event.state], detail))

        with ui.Progress(f"ansible-playbook --check --diff, {self.env}") as progress:
            show = ansible.show_progress(progress)
            try:
                ansible.play(
                    self.environment.root / "ansible" / f"{self.env}.yml",
                    inventory=self.environment.write_inventory().path,
                    env=self.target.environ,
                    private_key=self.environment.ssh_key,
                    project_dir=self.environment.root,
                    check=True,
                    start=self.environment.start,
                    on_event=on_event,
                )
            except CommandFailed:
                if not differences:
                    raise
        return differences

    def _with_authors(self, differences: list[Difference]) -> Iterator[Difference]:
        names = {d.address: d.address.partition(": ")[2] or d.address for d in differences}
        recorded = history.by_records(
            self.environment.root, self.env, self.target.name, set(names.values())
        )
        trail = history.by_trail(self.target, [d.id for d in differences if d.id])
        for difference in differences:
            known = (trail.get(difference.id, ""), recorded.get(names[difference.address], ""))
            authors = "; ".join(filter(None, known))
            yield replace(difference, author=authors) if authors else difference


def _by_terraform(plan: terraform.SavedPlan, described: Mapping) -> Iterator[Difference]:
    before = {
        change["address"]: change["change"].get("before") or {}
        for change in described.get("resource_changes", ())
    }
    for change in plan.changes:
        detail = ", ".join(change.attributes)
        id = before.get(change.address, {}).get("id", "")
        yield Difference("Terraform", change.address, f"would {change.action}", detail, id)
    for name in plan.outputs:
        yield Difference("Terraform", f"output {name}", "would update")
