"""Teardown: everything of one environment goes, and it is shown that nothing is left."""

from __future__ import annotations

from collections.abc import Mapping

from daybook import aws, checks, probe, terraform, ui
from daybook.approval import gate
from daybook.aws import instances, owned
from daybook.errors import (
    ApplyFailed,
    ApprovalNeeded,
    ApprovalRefused,
    DaybookError,
    VerifyFailed,
)
from daybook.hosts import located
from daybook.steps import common, infrastructure, runners
from daybook.steps.retirement import Retirement


class Teardown(infrastructure.TerraformStep):
    """Destroy one environment; a last snapshot of each disk stays unless it is declined.

    skip_snapshots: volumes or hosts, or `all`, whose data may go for good: "vol-0abc, web-1".
    """

    name = "teardown"
    next = "nothing; `daybook run provision -p env {env}` makes it again, with empty disks"

    def __init__(self, env: str, skip_snapshots: str = "", **parameters: object) -> None:
        super().__init__(env, skip_snapshots=skip_snapshots, **parameters)
        self._skipped = frozenset(skip_snapshots.replace(",", " ").split())
        self._confirmed = ""
        self._is_left_on_github = False

    def approve(self, given: str = "", confirm: str = "") -> gate.Approval:
        """Pass only for this plan, and only with the environment's name typed besides."""
        self._confirmed = confirm
        return super().approve(given)

    def questions_here(self) -> Mapping[str, checks.Check]:
        allowed = {"teardown allowed": self._is_allowed} if self.settings.protected else {}
        return {**super().questions_here(), **allowed}

    def make_plan(self) -> terraform.Plan:
        self._retirement().require_names()
        return super().make_plan(destroy=True)

    def tasks(self, plan: terraform.Plan) -> list[terraform.Change]:
        return [*self._retirement().tasks(), *super().tasks(plan)]

    def prepare(self) -> None:
        self._retire(self._retirement())
        self._let_github_forget()

    def apply_plan(self, plan: terraform.Plan) -> ui.Shown:
        applied = super().apply_plan(plan)
        common.inventory_path(self).unlink(missing_ok=True)
        common.known_hosts_path(self).unlink(missing_ok=True)
        located.forget(self)
        return applied

    def look(self) -> ui.Shown:
        settings = self.settings
        left = owned.owned_resources(
            self.target, settings.app, self.env, settings.zone, settings.names
        )
        left += [f"an answer of DNS for {name}" for name in settings.names if self._resolves(name)]
        if left:
            raise VerifyFailed(
                f"{len(left)} things of {self.env} are left.",
                expected="nothing with its tags or its name",
                details=left,
                changed="Everything else was destroyed.",
                next=f"daybook run teardown -p env {self.env}, or remove these by hand",
            )
        title = f"{self.run.title}: nothing with its tags or its name is left"
        rows = [(ui.quiet("kept"), what, why) for what, why in self._kept()]
        return ui.Table(title, ("status", "what", "why"), rows, ui.good("gone"))

    def _decide(self, given: str) -> gate.Approval:
        try:
            approval = super()._decide(given)
        except ApprovalNeeded as needed:
            needed.details += (f"besides, the name has to be typed: -p confirm {self.env}",)
            raise
        is_typed = self.desk.is_approved_by_hand or self._confirmed == self.env
        if approval.how == gate.NOT_NEEDED or is_typed:
            return approval
        error = ApprovalRefused if self._confirmed else ApprovalNeeded
        raise error(
            f"The teardown of {self.env} is not confirmed by its name.",
            expected=f"-p confirm {self.env}",
            observed=f"-p confirm {self._confirmed}" if self._confirmed else "no name",
            next=self.run.command(approve=given, confirm=self.env),
        )

    def _retirement(self) -> Retirement:
        hosts = instances.hosts(self.target, self.settings.app, self.env)
        return Retirement(hosts, self._skipped)

    def _retire(self, retirement: Retirement) -> None:
        tags = {"app": self.settings.app, "environment": self.env, "managed_by": "daybook"}
        with ui.Progress(f"machines and disks, {self.env}") as progress:

            def did(what: str, detail: str) -> None:
                self.run.write("change", tool="ec2", action=what, what=detail)
                progress.row(f"{what} {detail}", ui.good(what), detail, label="")
                self.turn.require()

            try:
                self.turn.require()
                retirement.carry_out(self.target, tags, did)
            except aws.FAILURES as err:
                raise ApplyFailed(
                    f"The machines of {self.env} could not be made ready to go.",
                    details=str(err).splitlines(),
                    changed="They may be stopped; nothing was destroyed.",
                    next="run this step again: it goes on from here",
                ) from err

    def _let_github_forget(self) -> None:
        """Remove the hosts' runners; a GitHub that does not let us stops no teardown."""
        if self.settings.deploy_via != "runner":
            return
        try:
            runners.forget(self)
        except DaybookError:
            self._is_left_on_github = True

    def _kept(self) -> list[tuple[str, str]]:
        target, app = self.target, self.settings.app
        runs = sum(1 for path in self.run.folder.parent.glob("[!.]*") if path.is_dir())
        refused = [(f"runners of {self.settings.github.path}", "GitHub refused; remove them there")]
        return [
            *(refused if self._is_left_on_github else ()),
            *((f"snapshot {id}", what) for id, what in instances.snapshots(target, app, self.env)),
            (f"images in ECR repository {app}", "of the account, for all environments"),
            (f"DNS zone {self.settings.zone}", "of the account, for all environments"),
            (f"bucket {aws.state_bucket(target, app)}", "Terraform's state, of all environments"),
            (f"{runs} records in runs/{self.env}/", "what was done, by whom and when"),
        ]

    def _is_allowed(self, name: str) -> checks.CheckResult:
        """Ask for leave in the settings, and for its commit: nobody gives it alone and unseen."""
        file = f"environments/{self.env}.yml"
        git = ("git", "-C", str(self.root), "status", "--porcelain", "--", file)
        status = self.run.start(git, env=self.target.environ, check=False)
        is_committed = status.returncode == 0 and not status.tail
        observed = f"allow_teardown: {str(self.settings.allow_teardown).lower()}"
        return checks.CheckResult(
            name,
            "allow_teardown: true, committed",
            observed if is_committed else f"{observed}, not committed",
            self.settings.allow_teardown and is_committed,
            f"set allow_teardown: true in {file}, commit it, and take it out again afterwards",
        )

    def _resolves(self, name: str) -> bool:
        try:
            return bool(probe.addresses(name, self.target.environ))
        except probe.NotYet:
            return False
