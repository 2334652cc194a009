"""Bootstrap: the resources that an account's environments share, and the state bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from daybook import aws, checks, infrastructure, preconditions, reviews, terraform, ui
from daybook.environment import ACCOUNT
from daybook.errors import VerifyFailed
from daybook.plan import Plan
from daybook.steps.base import Step

STATE = terraform.state_lock.state_key("account", "default")
"""The account's own state, in the bucket that it describes."""
SHARED_ROLES = ("plan", "push")
"""The roles of terraform/account/github.tf that all environments share."""


class Bootstrap(Step):
    """Create the account's shared resources; their state moves into the bucket that they include.

    A new account has no bucket to keep state in, so the first apply works on a local state that
    is then pushed. Interrupted in between, the next run finds the bucket without a state and
    imports existing resources: docs/adr/0001-state-bucket.md.
    """

    name = "bootstrap"
    next = "daybook run provision -p env {env}"

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {
            **infrastructure.local_checks(self.environment, "account"),
            "github": preconditions.repositories_match(self.environment),
        }

    @property
    def lock_name(self) -> str:
        """Return the name of the account's lock."""
        return ACCOUNT

    @property
    def bucket(self) -> str:
        """Return the name of the state bucket."""
        return self._environment.state_bucket

    def make_plan(self) -> Plan:
        self._is_new = not aws.bucket_exists(self.target, self.bucket)
        has_state = not self._is_new and aws.object_exists(self.target, self.bucket, STATE)
        tool = self._local() if self._is_new else self._shared()
        return infrastructure.plan(
            tool,
            self.run.plan_file,
            title=f"{self.name} {self.env}",
            variables=self._variables(has_state),
            context=self.environment.digest_context,
            saved=self.approval.has_saved_plan,
        )

    def state(self) -> str:
        return aws.state_version(self.target, self.bucket, STATE)

    def can_publish_plans(self) -> bool:
        return aws.bucket_exists(self.target, self.bucket)

    def apply_plan(self, plan: terraform.SavedPlan) -> ui.Shown:
        tool = self._terraform(self._workshop if self._is_new else None)
        applied = infrastructure.apply(tool, plan, self.run.changed)
        if self._is_new:
            self._shared().push_state(self._workshop / "terraform.tfstate")
            shutil.rmtree(self._workshop)
        return applied

    def look(self) -> ui.Shown:
        resources = {
            f"state bucket {self.bucket}": aws.bucket_exists(self.target, self.bucket),
            f"ECR repository {self.settings.app}": aws.repository_exists(
                self.target, self.settings.app
            ),
            f"DNS zone {self.settings.dns_zone}": aws.zone_id(self.target, self.settings.dns_zone),
        }
        if missing := [name for name, exists in resources.items() if not exists]:
            raise VerifyFailed(
                f"{len(missing)} shared resources are missing.",
                details=[f"missing: {name}" for name in missing],
                changed="The plan was applied.",
                next=f"daybook run bootstrap -p env {self.env}",
            )
        servers = self._terraform().outputs()["name_servers"]
        notes = (f"Name servers for the registrar: {', '.join(servers)}",)
        rows = [(ui.good("exists"), name) for name in resources]
        return ui.Table(f"{self.run.title}: seen in AWS", ("status", "resource"), rows, notes=notes)

    @property
    def _workshop(self) -> Path:
        """Return a copy of terraform/account that keeps its state beside it."""
        cache = self.environment.root / ".cache" / "terraform"
        return cache / f"{self.target.name}-{self.bucket}-new"

    def _terraform(self, folder: Path | None = None) -> terraform.Terraform:
        """Return Terraform in terraform/account, or in a copy of it."""
        return self.environment.terraform(
            folder or self.environment.root / "terraform" / ACCOUNT,
            log=self.run.folder / "attachments" / terraform.state_lock.LOG,
            on_lock=self.lock.note_state_lock,
        )

    def _local(self) -> terraform.Terraform:
        """Return Terraform in a new copy of terraform/account that keeps its state beside it."""
        shutil.rmtree(self._workshop, ignore_errors=True)
        skip = shutil.ignore_patterns("backend.tf", ".terraform", "tests")
        source = self.environment.root / "terraform" / ACCOUNT
        shutil.copytree(source, self._workshop, ignore=skip)
        tool = self._terraform(self._workshop)
        tool.init({})
        return tool

    def _shared(self) -> terraform.Terraform:
        """Return Terraform in terraform/account with its state in the bucket."""
        tool = self._terraform()
        tool.init(self.environment.backend)
        return tool

    def _variables(self, has_state: bool) -> dict[str, object]:
        settings = self.settings
        zone = aws.zone_id(self.target, settings.dns_zone)
        is_ours = bool(zone) and self._is_ours(zone)
        return {
            "app": settings.app,
            "region": self.target.region,
            "dns_zone": settings.dns_zone,
            "import_ids": {} if has_state else self._existing(zone if is_ours else None),
            "environments": self._environments(),
            "review_remote": self.review.remote_to_note,
            "github": self._github(),
            **({"zone_id": zone} if zone and not is_ours else {}),
        }

    def _environments(self) -> dict[str, dict[str, object]]:
        """Return each environment's names and its required reviews and approvals."""
        required = self.review.to_note
        return {
            env: {
                "domains": list(own.domains),
                "require_git": required[env].git,
                "approvals": required[env].approvals,
            }
            for env, own in self.review.own_settings.items()
        }

    def _github(self) -> dict[str, object]:
        """Return the repositories that get roles; another application's provider is left alone."""
        tags = aws.github_provider_tags(self.target)
        github = self.settings.github
        return {
            "repository": github.repository,
            "application": github.application,
            "branches": preconditions.branches(self.environment),
            "create_provider": tags is None or self._are_ours(tags),
        }

    def _is_ours(self, zone_id: str) -> bool:
        """Tell whether bootstrap created the zone; any other zone is used and left unchanged."""
        return self._are_ours(aws.zone_tags(self.target, zone_id))

    def _are_ours(self, tags: Mapping[str, str]) -> bool:
        return {"app": self.settings.app, "managed_by": "daybook"}.items() <= tags.items()

    def _existing(self, zone: str | None) -> dict[str, object]:
        """Return the resources of an earlier bootstrap, by import id."""
        app = self.settings.app
        records = self.environment.records_bucket
        has_repository = aws.repository_exists(self.target, app)
        existing = {
            "state_bucket": None if self._is_new else self.bucket,
            "records_bucket": records if aws.bucket_exists(self.target, records) else None,
            "repository": app if has_repository else None,
            "zone": zone,
            **self._existing_in_iam(),
        }
        return {name: value for name, value in existing.items() if value}

    def _existing_in_iam(self) -> dict[str, object]:
        """Return the boundaries, and GitHub's roles if the settings have a repository."""
        app, envs = self.settings.app, self._environments()
        review = reviews.parameter(app)
        existing = {
            "boundaries": self._policies(f"{app}-{{}}-boundary", envs),
            "review": review if reviews.load_note(self.target, app) != reviews.Note() else None,
        }
        if not self.settings.github.repository:
            return existing
        tags = aws.github_provider_tags(self.target)
        is_ours = tags is not None and self._are_ours(tags)
        keys = [*SHARED_ROLES, *(f"run-{env}" for env in envs)]
        roles = [key for key in keys if aws.role_exists(self.target, f"{app}-github-{key}")]
        provider = aws.github_provider_arn(self.target) if is_ours else None
        machines = self._policies(f"{app}-github-run-{{}}-machines", envs)
        return {**existing, "provider": provider, "github_roles": roles, "machines": machines}

    def _policies(self, form: str, envs: Iterable[str]) -> dict[str, str]:
        """Return the ARNs of the existing policies, by environment."""
        arns = {env: aws.policy_arn(self.target, form.format(env)) for env in envs}
        return {env: arn for env, arn in arns.items() if arn}
