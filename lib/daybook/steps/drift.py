"""Drift: what is not as the code says, seen by Terraform, AWS and Ansible; nothing is changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace

from daybook import ansible, aws, checks, terraform, ui
from daybook.aws import instances, orphans, owned
from daybook.errors import CommandFailed, VerifyFailed
from daybook.hosts import located
from daybook.record import history
from daybook.steps import common, infrastructure
from daybook.steps.configure import Configure
from daybook.steps.read_only import ReadOnlyStep

SEEN = {"changed": "would change", "failed": "cannot be checked", "unreachable": "is unreachable"}


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the code says. id: what CloudTrail may know it by."""

    seen_by: str
    address: str
    action: str
    detail: str = ""
    id: str = ""
    who: str = "not known"


@dataclass(frozen=True, repr=False)
class Findings(ui.Shown):
    """All that differs between an environment and its code."""

    title: str
    changes: tuple[Difference, ...]

    @property
    def is_empty(self) -> bool:
        """True when everything is as the code says."""
        return not self.changes

    @property
    def digest(self) -> str:
        """Return `drift-` and 32 hex digits, the same for the same differences."""
        canonical = json.dumps([astuple(found)[:4] for found in self.changes])
        return f"drift-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"

    def view(self) -> ui.Shown:
        """Show one row a difference, with who last changed it."""
        if self.is_empty:
            return ui.Notice(f"{self.title}: no drift", ui.OK)
        rows = [(ui.warn(d.action), d.address, d.detail, d.seen_by, d.who) for d in self.changes]
        columns = ("differs", "what", "how", "seen by", "last changed by")
        return ui.Table(f"{self.title}: {len(rows)} differences", columns, rows, ui.WARNING)


class Drift(ReadOnlyStep):
    """Compare an environment with terraform/ and ansible/, and tell who last changed what differs.

    Fit for a nightly job: exit code 0 without drift, 7 with a list of it.
    """

    name = "drift"
    next = "nothing to do: {env} is as its code says"

    def questions_here(self) -> Mapping[str, checks.Check]:
        return {
            "terraform": infrastructure.terraform_is_there(self),
            **Configure.questions_here(self),
        }

    def questions_there(self) -> Mapping[str, checks.Check]:
        fix = common.BOOTSTRAP_FIRST.format(env=self.env)
        bucket = aws.state_bucket(self.target, self.settings.app)
        return {
            "state bucket": checks.bucket_exists(self.target, bucket, fix),
            "inventory": located.are_known(self),
        }

    def make_plan(self) -> Findings:
        hosts = infrastructure.outputs(self)["instances"]
        plan, described = self._terraform()
        found = [*_by_terraform(plan, described), *self._strangers(described)]
        asleep = list(self._asleep(hosts))
        found += asleep or self._by_ansible()
        return Findings(f"{self.run.title}", tuple(self._with_who(found)))

    def look(self) -> ui.Shown:
        found = self._plan.changes
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

    def _terraform(self) -> tuple[terraform.Plan, dict]:
        """Return what Terraform would do, and its description with the state it rests on."""
        tool = infrastructure.environment_terraform(self)
        with ui.Progress(f"terraform plan, {self.env}") as progress:
            plan = tool.plan(
                self.run.plan_file,
                variables=infrastructure.environment_variables(self),
                on_event=terraform.show_progress(progress),
            )
        try:
            return plan, tool.describe(plan.path)
        finally:
            plan.discard()

    def _strangers(self, described: Mapping) -> Iterator[Difference]:
        """Give what is there in the environment's name, and Terraform knows nothing of."""
        settings, state = self.settings, json.dumps(described.get("prior_state", {}))
        for thing in orphans.unmanaged(self.target, settings, self.env, state):
            yield Difference("AWS", thing, "is not in the code", id=thing.split()[-1])
        for rule in owned.rules(self.target, settings.app, self.env):
            if f'"{rule.id}"' not in state:
                what = f"a rule of security group {rule.group}"
                yield Difference("AWS", what, "is not in the code", rule.says, rule.group)

    def _asleep(self, hosts: list[dict]) -> Iterator[Difference]:
        """Give the hosts that do not run: Ansible cannot look at them."""
        found = instances.hosts(self.target, self.settings.app, self.env)
        states = {host.id: host.state for host in found}
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
                    self.root / "ansible" / f"{self.env}.yml",
                    inventory=located.refresh(self),
                    env=self.target.environ,
                    private_key=self.run.ssh_key,
                    project_dir=self.root,
                    check=True,
                    start=self.run.start,
                    on_event=on_event,
                )
            except CommandFailed:
                if not found:
                    raise
        return found

    def _with_who(self, found: list[Difference]) -> Iterator[Difference]:
        names = {each.address: each.address.partition(": ")[2] or each.address for each in found}
        recorded = history.by_records(self.root, self.env, self.target.name, set(names.values()))
        trail = history.by_trail(self.target, [each.id for each in found if each.id])
        for each in found:
            known = (trail.get(each.id, ""), recorded.get(names[each.address], ""))
            said = "; ".join(filter(None, known))
            yield replace(each, who=said) if said else each


def _by_terraform(plan: terraform.Plan, described: Mapping) -> Iterator[Difference]:
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
