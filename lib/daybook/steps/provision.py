"""Provision: create the environment's network, hosts, addresses and names with Terraform."""

from __future__ import annotations

from collections.abc import Mapping

from daybook import aws, checks, infrastructure, probe, terraform, ui
from daybook.errors import ApplyFailed, PreflightFailed, VerifyFailed
from daybook.hosts import inventory
from daybook.plan import Change, Plan
from daybook.resources import instances
from daybook.resources.instances import Instance
from daybook.steps.infrastructure_step import InfrastructureStep
from daybook.terraform import SavedPlan, extra_changes

MACHINE_S = 180
"""How long an instance may take to boot: EC2 takes about a minute."""
DNS_S = 120
"""How long a new record may take to be served: Route53 takes about a minute."""
START = "start"
HOSTS = ("aws_instance.host[", "instance i-")


class Provision(InfrastructureStep):
    """Create or change the environment's infrastructure, then write the Ansible inventory."""

    name = "provision"
    next = "daybook run configure -p env {env}"

    def local_checks(self) -> Mapping[str, checks.Check]:
        return self.terraform_checks()

    def make_plan(self) -> Plan:
        plan = self.plan_terraform()
        self._to_start = self._stopped_hosts(plan)
        plan = extra_changes.added(plan, self._extra_changes())
        if self.settings.deletion_protection:
            require_hosts_stay(plan, self.env)
        return plan

    def apply_plan(self, plan: SavedPlan) -> ui.Shown:
        self._to_start = self._stopped_hosts(plan)
        extra_changes.require_same(plan, self._extra_changes())
        self._start_hosts()
        infrastructure.remove_orphans(
            self.environment, plan, self.run.changed, self.lock.verify_held
        )
        applied = infrastructure.apply(self.terraform, plan, self.run.changed)
        self.lock.verify_held()
        self._save_host_keys()
        self.environment.write_inventory()
        return applied

    def look(self) -> ui.Shown:
        outputs = self.outputs()
        rows = [self._ssh_row(host) for host in outputs["instances"]]
        rows += [self._dns_row(name, outputs["instances"]) for name in outputs["names"]]
        by_hand = [
            *(
                f"By hand: ssh {inventory.LOGIN}@{host['public_ip']}"
                for host in outputs["instances"]
            ),
            *(f"By hand: dig +short {name}" for name in outputs["names"]),
        ]
        title = f"{self.run.title}: seen from outside"
        return ui.Table(title, ("status", "host or name", "answer"), rows, notes=by_hand)

    def _extra_changes(self) -> list[Change]:
        """Return the orphaned resources to remove, and the stopped hosts to start."""
        starts = [
            Change(START, f"{host.name} ({host.id})", "the host is stopped")
            for host in self._to_start
        ]
        return [*infrastructure.orphaned(self.environment), *starts]

    def _stopped_hosts(self, plan: SavedPlan) -> list[Instance]:
        """Return the stopped hosts in Terraform's state that the plan keeps."""
        losing = {
            change.name
            for change in plan.of("destroy", "replace")
            if change.address.startswith(HOSTS)
        }
        state = self.environment.state()
        return [
            host
            for host in instances.instances_of(self.environment)
            if host.state in ("stopping", "stopped")
            and f'"{host.id}"' in state
            and host.name not in losing
        ]

    def _start_hosts(self) -> None:
        """Start the stopped hosts, so that they can be configured and verified."""
        stopped = self._to_start
        if not stopped:
            return
        with ui.Progress(f"hosts, {self.env}") as progress:
            for host in stopped:
                progress.row(host.name, ui.busy("starting"), host.reason)
            self._start(stopped)
            for host in stopped:
                self.run.changed(tool="ec2", action="started", what=host.name)
                progress.row(host.name, ui.good("started"), host.id)

    def _start(self, hosts: list[Instance]) -> None:
        try:
            self.lock.verify_held()
            instances.start(self.target, [host.id for host in hosts])
        except aws.FAILURES as err:
            names = ", ".join(host.name for host in hosts)
            raise ApplyFailed(
                f"{names} could not be started.",
                expected="running",
                observed=str(err),
                details=[f"{host.name} ({host.id}): {host.reason}" for host in hosts],
                next="remove the cause, then run this step again",
            ) from err

    def _save_host_keys(self) -> None:
        hosts, known = self.outputs()["instances"], self.environment.host_keys.read()
        keys = {host["id"]: self._host_keys(host, known) for host in hosts}
        self.environment.host_keys.write(inventory.known_hosts(hosts, keys))

    def _host_keys(self, host: Mapping, known: str) -> list[str]:
        """Read a host's SSH keys from its console, which AWS authenticates.

        The console shows them at the first boot only; known keys are kept.
        """
        if kept := inventory.kept_keys(known, host):
            return kept

        def read() -> list[str]:
            keys = inventory.host_keys(aws.console_output(self.target, host["id"]))
            if not keys:
                raise probe.NotYet("no host keys on the console")
            return keys

        subject = f"the SSH host keys of {host['name']} on its console"
        return probe.wait_until(read, condition=subject, timeout_s=MACHINE_S, every_s=1)

    def _ssh_row(self, host: Mapping) -> tuple[ui.Status, str, str]:
        address = host["public_ip"]
        try:
            banner = probe.wait_until(
                lambda: probe.ssh_banner(address),
                condition=f"SSH on {host['name']} ({address})",
                timeout_s=MACHINE_S,
            )
        except VerifyFailed as err:
            health = instances.health(self.target, host["id"])
            err.details += (f"{host['name']} ({host['id']}) is {health}",)
            err.next = (
                "look at its console; or stop it in EC2, then start it again: "
                f"daybook run provision -p env {self.env}"
            )
            raise
        return ui.good("answers"), f"{host['name']}, port 22 of {address}", banner

    def _dns_row(self, name: str, hosts: list[Mapping]) -> tuple[ui.Status, str, str]:
        expected = {host["public_ip"] for host in hosts}

        def resolve() -> list[str]:
            addresses = probe.addresses(name, self.target.environ)
            if not set(addresses) <= expected:
                raise probe.NotYet(f"{name} is {', '.join(addresses)}")
            return addresses

        subject = f"{name} in DNS as {' or '.join(sorted(expected))}"
        addresses = probe.wait_until(resolve, condition=subject, timeout_s=DNS_S)
        return ui.good("resolves"), name, ", ".join(addresses)


def require_hosts_stay(plan: terraform.SavedPlan, env: str) -> None:
    """Refuse to lose a protected host: the provider would lift its protection silently."""
    losing = plan.of("replace", "destroy", extra_changes.REMOVE)
    lost = [change for change in losing if change.address.startswith(HOSTS)]
    if lost:
        raise PreflightFailed(
            f"{env} is protected, and this plan would lose a host with its disk.",
            expected="every host stays",
            observed="; ".join(f"{c.action} {c.address}: {', '.join(c.attributes)}" for c in lost),
            next="revert the setting that causes it, or set `deletion_protection: false` in "
            f"environments/{env}.yml",
        )
