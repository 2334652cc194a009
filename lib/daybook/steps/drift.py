"""Drift: what is not as the code says, seen by Terraform, AWS and Ansible; nothing is changed."""

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

SEEN = {"changed": "would change", "failed": "cannot be checked", "unreachable": "is unreachable"}


@dataclass(frozen=True)
class Difference:
    """One difference between an environment and its code. id: the resource's id in CloudTrail."""

    seen_by: str
    address: str
    action: str
    detail: str = ""
    id: str = ""
    who: str = "not known"

    @property
    def change(self) -> Change:
        """Return it as a change of a plan."""
        return Change(self.action, self.address, self.detail)


@dataclass(frozen=True, repr=False)
class Differences(Plan):
    """All differences between an environment and its code."""

    found: tuple[Difference, ...] = ()
    prefix: ClassVar[str] = "drift"

    def view(self) -> ui.Shown:
        """Show one row per difference, with who last changed the resource."""
        if self.is_empty:
            return ui.Notice(f"{self.title}: no drift", ui.OK)
        rows = [(ui.warn(d.action), d.address, d.detail, d.seen_by, d.who) for d in self.found]
        columns = ("differs", "what", "how", "seen by", "last changed by")
        return ui.Table(f"{self.title}: {len(rows)} differences", columns, rows, ui.WARNING)


class Drift(ReadOnlyStep):
    """Compare an environment with terraform/ and ansible/, and report who last changed what.

    Fit for a nightly job: exit code 0 without drift, 7 with a list of it.
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
        found = tuple(self._with_who(differences))
        return Differences(self.run.title, tuple(each.change for each in found), {}, found=found)

    def look(self) -> ui.Shown:
        found = self._plan.found
        if not found:
            return ui.Notice(f"{self.run.title}: no drift", ui.OK)
        raise VerifyFailed(
            f"{self.env} differs from its code in {len(found)} points.",
            expected="no drift",
            details=[
                f"{each.seen_by}: {each.address} {each.action}"
                + (f" ({each.detail})" if each.detail else "")
                + f"; last changed by: {each.who}"
                for each in found
            ],
            next=f"put it right with daybook run provision -p env {self.env}, and configure,"
            " or write into the code what is to stay",
        )

    def _terraform(self) -> tuple[terraform.SavedPlan, dict]:
        """Return what Terraform would do, and its description with the state it rests on."""
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
        """Give what the environment owns in AWS and Terraform does not manage."""
        state = json.dumps(described.get("prior_state", {}))
        for resource in orphans.unmanaged(self.environment, state):
            yield Difference("AWS", str(resource), "is not in the code", id=resource.id)
        for rule in rules(self.environment):
            if f'"{rule.id}"' not in state:
                what = f"a rule of security group {rule.group}"
                yield Difference("AWS", what, "is not in the code", rule.text, rule.group)

    def _not_running(self, hosts: list[Mapping]) -> Iterator[Difference]:
        """Give the hosts that do not run: Ansible cannot check them."""
        states = {each.id: each.state for each in instances.instances_of(self.environment)}
        for host in hosts:
            if (state := states.get(host["id"], "gone")) != "running":
                yield Difference("AWS", host["name"], f"is {state}", id=host["id"])

    def _by_ansible(self) -> list[Difference]:
        """Return each task that would change a host, or cannot tell whether it would."""
        found: list[Difference] = []

        def on_event(event: ansible.Event) -> None:
            show(event)
            if event.state in SEEN:
                detail = event.message.partition("\n")[0]
                where = f"{event.host}: {event.task}"
                found.append(Difference("Ansible", where, SEEN[event.state], detail))

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
                if not found:
                    raise
        return found

    def _with_who(self, found: list[Difference]) -> Iterator[Difference]:
        names = {each.address: each.address.partition(": ")[2] or each.address for each in found}
        recorded = history.by_records(
            self.environment.root, self.env, self.target.name, set(names.values())
        )
        trail = history.by_trail(self.target, [each.id for each in found if each.id])
        for each in found:
            known = (trail.get(each.id, ""), recorded.get(names[each.address], ""))
            said = "; ".join(filter(None, known))
            yield replace(each, who=said) if said else each


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
