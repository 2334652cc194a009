"""Teardown: destroy one environment, and verify that nothing of it remains."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from daybook import aws, checks, git, github, infrastructure, probe, ui
from daybook.approval import gate
from daybook.errors import (
    ApplyFailed,
    ApprovalNeeded,
    ApprovalRefused,
    DaybookError,
    VerifyFailed,
)
from daybook.plan import Change, Plan
from daybook.resources import instances
from daybook.resources.owned import owned_resources
from daybook.resources.snapshots import FinalSnapshots
from daybook.steps import parameters
from daybook.steps.infrastructure_step import InfrastructureStep
from daybook.terraform import SavedPlan, extra_changes


class Teardown(InfrastructureStep):
    """Destroy one environment after a final snapshot of each disk, unless declined."""

    name = "teardown"
    next = "nothing; `daybook run provision -p env {env}` creates it again, with empty disks"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        confirm: str = ""
        """The environment's name, typed once more."""
        skip_snapshots: str = ""
        """Volumes or hosts without a final snapshot, or `all`: "vol-0abc, web-1"."""

    parameters: Parameters

    def local_checks(self) -> Mapping[str, checks.Check]:
        allowed = (
            {"teardown allowed": self._is_allowed} if self.settings.deletion_protection else {}
        )
        return {**self.terraform_checks(), **allowed}

    def make_plan(self) -> Plan:
        self._final_snapshots().require_names()
        plan = self.plan_terraform(destroy=True)
        return extra_changes.added(plan, self._extra_changes())

    def approve(self, given: str = "", confirm: str = "") -> gate.Approval:
        """Pass only for this plan, and only with the environment's name typed as well."""
        self._confirmed = confirm
        return super().approve(given)

    def apply_plan(self, plan: SavedPlan) -> ui.Shown:
        extra_changes.require_same(plan, self._extra_changes())
        self._save_data()
        self._deregister_runners()
        infrastructure.remove_orphans(
            self.environment, plan, self.run.changed, self.lock.verify_held
        )
        applied = infrastructure.apply(self.terraform, plan, self.run.changed)
        self.lock.verify_held()
        self.environment.inventory.remove()
        self.environment.host_keys.delete()
        return applied

    def look(self) -> ui.Shown:
        remaining = [str(resource) for resource in owned_resources(self.environment)]
        domains = self.settings.domains
        remaining += [f"DNS record of {name}" for name in domains if self._resolves(name)]
        if remaining:
            raise VerifyFailed(
                f"{len(remaining)} resources of {self.env} remain.",
                expected="nothing with its tags or its name",
                details=remaining,
                changed="Everything else was destroyed.",
                next=f"daybook run teardown -p env {self.env}, or delete these by hand",
            )
        title = f"{self.run.title}: nothing with its tags or its name remains"
        rows = [(ui.quiet("kept"), name, reason) for name, reason in self._kept()]
        return ui.Table(title, ("status", "resource", "reason"), rows, ui.good("gone"))

    def _extra_changes(self) -> list[Change]:
        return [*self._final_snapshots().changes(), *infrastructure.orphaned(self.environment)]

    def _final_snapshots(self) -> FinalSnapshots:
        skipped = frozenset(self.parameters.skip_snapshots.replace(",", " ").split())
        return FinalSnapshots(instances.instances_of(self.environment), skipped)

    def _decide(self, given: str) -> gate.Approval:
        try:
            approval = super()._decide(given)
        except ApprovalNeeded as needed:
            needed.details += (
                f"the environment's name is required as well: -p confirm {self.env}",
            )
            raise
        is_typed = self.approval.is_approved_by_hand or self._confirmed == self.env
        if approval.how == gate.NOT_NEEDED or is_typed:
            return approval
        error = ApprovalRefused if self._confirmed else ApprovalNeeded
        raise error(
            f"The teardown of {self.env} is not confirmed with its name.",
            expected=f"-p confirm {self.env}",
            observed=f"-p confirm {self._confirmed}" if self._confirmed else "no name",
            next=self.run.command(approve=given, confirm=self.env),
        )

    def _save_data(self) -> None:
        """Stop the hosts and take a final snapshot of each disk, before anything is destroyed."""
        with ui.Progress(f"hosts and disks, {self.env}") as progress:

            def on_change(action: str, resource: str) -> None:
                self.run.changed(tool="ec2", action=action, what=resource)
                progress.row(f"{action} {resource}", ui.good(action), resource, label="")
                self.lock.verify_held()

            try:
                self.lock.verify_held()
                tags = self.environment.tags
                self._final_snapshots().carry_out(self.target, tags, on_change)
            except aws.FAILURES as err:
                raise ApplyFailed(
                    f"The hosts of {self.env} could not be prepared.",
                    details=str(err).splitlines(),
                    changed="They may be stopped; nothing was destroyed.",
                    next="run this step again: it continues from here",
                ) from err

    def _deregister_runners(self) -> None:
        """Remove the hosts' runners from GitHub; continue if GitHub refuses."""
        self._is_left_on_github = self.settings.deploy_via == "runner"
        with suppress(DaybookError):
            if self._is_left_on_github:
                github.deregister_runners(self.environment, self.run.changed)
                self._is_left_on_github = False

    def _kept(self) -> list[tuple[str, str]]:
        app = self.settings.app
        runs = sum(1 for path in self.run.folder.parent.glob("[!.]*") if path.is_dir())
        refused = [(f"runners of {self.settings.github.path}", "GitHub refused; remove them there")]
        snapshots = instances.snapshots(self.environment)
        bucket = self.environment.state_bucket
        return [
            *(refused if getattr(self, "_is_left_on_github", False) else ()),
            *((f"snapshot {id}", disk) for id, disk in snapshots),
            (f"images in ECR repository {app}", "shared by all environments"),
            (f"DNS zone {self.settings.dns_zone}", "shared by all environments"),
            (f"bucket {bucket}", "the Terraform state of all environments"),
            (f"{runs} records in runs/{self.env}/", "the history of this environment"),
        ]

    def _is_allowed(self, name: str) -> checks.CheckResult:
        """Check that a commit allows the teardown, so that it has been reviewed."""
        file = f"environments/{self.env}.yml"
        is_committed = git.is_clean(self.environment.root, file)
        observed = f"allow_teardown: {str(self.settings.allow_teardown).lower()}"
        return checks.CheckResult(
            name,
            "allow_teardown: true, committed",
            observed if is_committed else f"{observed}, not committed",
            self.settings.allow_teardown and is_committed,
            f"set allow_teardown: true in {file}, commit it, and remove it afterwards",
        )

    def _resolves(self, name: str) -> bool:
        try:
            return bool(probe.addresses(name, self.target.environ))
        except probe.NotYet:
            return False
