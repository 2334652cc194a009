"""The base of provision and teardown: Terraform in the environment's workspace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from daybook import checks, infrastructure, terraform
from daybook.steps.base import Step

KEY_FIX = "ssh-keygen -t ed25519, or correct ssh_key in the settings"


class InfrastructureStep(Step):
    """A step that plans and applies terraform/environment."""

    @cached_property
    def terraform(self) -> terraform.Terraform:
        """Return Terraform; the run notes the locks that it takes."""
        log = self.run.folder / "attachments" / terraform.state_lock.LOG
        return self.environment.terraform(log=log, on_lock=self.lock.note_state_lock)

    def terraform_checks(self) -> Mapping[str, checks.Check]:
        """Return the checks of Terraform and of the hosts' SSH key."""
        environment = self.environment
        key = checks.file_exists(environment.ssh_public_key, environment.root, KEY_FIX)
        return {**infrastructure.local_checks(environment), "SSH public key": key}

    def target_checks(self) -> Mapping[str, checks.Check]:
        return infrastructure.target_checks(self.environment)

    def state(self) -> str:
        return self.environment.state_version()

    def plan_terraform(self, *, destroy: bool = False) -> terraform.SavedPlan:
        """Return Terraform's plan; refuse one that changes another environment's resources."""
        self.terraform.init(self.environment.backend)
        plan = infrastructure.plan(
            self.terraform,
            self.run.plan_file,
            title=f"{self.name} {self.env}",
            variables=infrastructure.variables(self.environment),
            context=self.environment.digest_context,
            saved=self.approval.has_saved_plan,
            destroy=destroy,
        )
        return infrastructure.require_own(self.environment, plan)
