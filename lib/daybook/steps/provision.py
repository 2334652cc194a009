"""Provision: the environment's network, machine, address and names, with Terraform."""

from __future__ import annotations

from daybook import aws, probe, terraform, ui
from daybook.aws import instances
from daybook.errors import ApplyFailed, PreflightFailed, VerifyFailed
from daybook.hosts import inventory, located
from daybook.steps import infrastructure
from daybook.terraform import extra_changes

MACHINE_S = 180
"""How long a machine may take to boot and to be seen: EC2 takes about a minute."""
DNS_S = 120
"""How long Route53 may take to answer with a new record: about a minute."""
START = "start"
HOSTS = ("aws_instance.host[", "instance i-")


class Provision(infrastructure.TerraformStep):
    """Make or change the environment's infrastructure, then write the Ansible inventory."""

    name = "provision"
    next = "daybook run configure -p env {env}"

    def make_plan(self) -> terraform.Plan:
        plan = super().make_plan()
        if self.settings.protected:
            require_hosts_stay(plan, self.env)
        return plan

    def tasks(self, plan: terraform.Plan) -> list[terraform.Change]:
        """Return what an interrupted run left, and the stopped hosts that stay, to be started."""
        self._to_start = self._stopped_hosts(plan)
        started = [
            terraform.Change(f"{host.name} ({host.id})", START, reason="the host is stopped")
            for host in self._to_start
        ]
        return [*super().tasks(plan), *started]

    def prepare(self) -> None:
        stopped = self._to_start
        if not stopped:
            return
        with ui.Progress(f"hosts, {self.env}") as progress:
            for host in stopped:
                progress.row(host.name, ui.busy("starting"), host.reason)
            self._start(stopped)
            for host in stopped:
                self.run.write("change", tool="ec2", action="started", what=host.name)
                progress.row(host.name, ui.good("started"), host.id)

    def apply_plan(self, plan: terraform.Plan) -> ui.Shown:
        applied = super().apply_plan(plan)
        hosts = infrastructure.hidden_outputs(self)["instances"]
        known = located.kept(self)
        keys = {host["id"]: self._host_keys(host, known) for host in hosts}
        located.keep(self, inventory.known_hosts(hosts, keys))
        located.refresh(self)
        return applied

    def look(self) -> ui.Shown:
        found = infrastructure.hidden_outputs(self)
        rows = [self._ssh_row(host) for host in found["instances"]]
        rows += [self._dns_row(name, found["instances"]) for name in found["names"]]
        return ui.Table(f"{self.run.title}: seen from outside", ("status", "what", "answer"), rows)

    def _stopped_hosts(self, plan: terraform.Plan) -> list[instances.Instance]:
        """Return the stopped hosts in Terraform's state that the plan neither ends nor replaces."""
        losing = {
            change.name
            for change in plan.changes
            if change.action in ("destroy", "replace") and change.address.startswith(HOSTS)
        }
        state = aws.state_text(self.target, *self._state())
        return [
            host
            for host in instances.hosts(self.target, self.settings.app, self.env)
            if host.state in ("stopping", "stopped")
            and f'"{host.id}"' in state
            and host.name not in losing
        ]

    def _start(self, hosts: list[instances.Instance]) -> None:
        try:
            self.turn.require()
            instances.start(self.target, [host.id for host in hosts])
        except aws.FAILURES as err:
            names = ", ".join(host.name for host in hosts)
            raise ApplyFailed(
                f"{names} could not be started.",
                expected="running",
                observed=str(err),
                details=[f"{host.name} ({host.id}): {host.reason}" for host in hosts],
                next="remove what stops it, then run this step again",
            ) from err

    def _ssh_row(self, host: dict) -> tuple[ui.Status, str, str]:
        address = host["public_ip"]
        try:
            banner = probe.wait_until(
                lambda: probe.ssh_banner(address),
                what=f"SSH on {host['name']} ({address})",
                timeout_s=MACHINE_S,
            )
        except VerifyFailed as err:
            health = instances.health(self.target, host["id"])
            err.details += (f"{host['name']} ({host['id']}) is {health}",)
            err.next = (
                f"look at its console, or stop it in EC2: daybook run provision -p env {self.env} "
                "starts it again"
            )
            raise
        return ui.good("answers"), f"{host['name']}, port 22 of {address}", banner

    def _dns_row(self, name: str, hosts: list[dict]) -> tuple[ui.Status, str, str]:
        expected = {host["public_ip"] for host in hosts}

        def look() -> list[str]:
            found = probe.addresses(name, self.target.environ)
            if not set(found) <= expected:
                raise probe.NotYet(f"{name} is {', '.join(found)}")
            return found

        found = probe.wait_until(
            look, what=f"{name} in DNS as {' or '.join(sorted(expected))}", timeout_s=DNS_S
        )
        return ui.good("resolves"), name, ", ".join(found)

    def _host_keys(self, host: dict, known: str) -> list[str]:
        """Learn a host's SSH keys from its console, which speaks with AWS's authority.

        The console shows them at the first boot only, so those that are known are kept.
        """
        if kept := inventory.kept_keys(known, host):
            return kept

        def look() -> list[str]:
            keys = inventory.host_keys(aws.console_output(self.target, host["id"]))
            if not keys:
                raise probe.NotYet("no host keys on the console")
            return keys

        what = f"the SSH host keys of {host['name']} on its console"
        return probe.wait_until(look, what=what, timeout_s=MACHINE_S, every_s=1)


def require_hosts_stay(plan: terraform.Plan, env: str) -> None:
    """Refuse to lose a protected host: the provider would lift its protection without a word."""
    losing = ("replace", "destroy", extra_changes.REMOVE)
    lost = [c for c in plan.changes if c.action in losing and c.address.startswith(HOSTS)]
    if lost:
        raise PreflightFailed(
            f"{env} is protected, and this plan would lose a host with its disk.",
            expected="every host stays",
            observed="; ".join(f"{c.action} {c.address}: {', '.join(c.attributes)}" for c in lost),
            next=f"take the reason back, or set `protected: false` in environments/{env}.yml",
        )
