"""What steps do with Terraform: the environment's folder, its plan, its outputs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daybook import aws, checks, terraform, ui
from daybook.aws import orphans
from daybook.errors import PreflightFailed
from daybook.lock import environment_lock
from daybook.steps import common
from daybook.steps.base import Step
from daybook.terraform import extra_changes


class TerraformStep(Step):
    """A step that plans and applies terraform/environment."""

    def questions_here(self) -> Mapping[str, checks.Check]:
        return {
            "terraform": terraform_is_there(self),
            "AWS provider": provider_is_locked(self, "environment"),
            "state": state_is_saved(self, "environment", self.env),
            "SSH public key": checks.file_exists(
                common.public_key(self),
                self.root,
                "ssh-keygen -t ed25519, or correct ssh_key in the settings",
            ),
        }

    def questions_there(self) -> Mapping[str, checks.Check]:
        fix = common.BOOTSTRAP_FIRST.format(env=self.env)
        bucket = aws.state_bucket(self.target, self.settings.app)
        return {
            "state bucket": checks.bucket_exists(self.target, bucket, fix),
            "DNS zone": checks.zone_exists(self.target, self.settings.zone, fix),
            "IAM boundary": boundary_is_there(self, fix),
        }

    def make_plan(self, *, destroy: bool = False) -> terraform.Plan:
        tool = environment_terraform(self)
        tool.init(backend(self))
        plan = plan_terraform(self, tool, environment_variables(self), destroy=destroy)
        return extra_changes.added(require_its_own(self, plan), self.tasks(plan))

    def apply_plan(self, plan: terraform.Plan) -> terraform.Applied:
        """Do the plan's tasks, then apply it."""
        extra_changes.require_the_same(plan, self.tasks(plan))
        self.prepare()
        for change in plan.changes:
            if change.action == extra_changes.REMOVE:
                orphans.remove(self.target, self.settings, change.address)
                self.run.write("change", tool="aws", action=change.action, what=change.address)
                self.turn.require()
        return apply_terraform(self, environment_terraform(self), plan)

    def prepare(self) -> None:
        """Do what has to be done before anything is removed."""

    def tasks(self, plan: terraform.Plan) -> list[terraform.Change]:
        """Return what is to be done besides Terraform's own changes, which are the plan's."""
        state = aws.state_text(self.target, *self._state())
        left = orphans.find(self.target, self.settings, self.env, state)
        reason = "left by an interrupted run: not in the state"
        return [terraform.Change(each, extra_changes.REMOVE, reason=reason) for each in left]

    def state(self) -> str:
        return aws.state_version(self.target, *self._state())

    def _state(self) -> tuple[str, str]:
        return state_of(self)


def require_its_own(step: Step, plan: terraform.Plan) -> terraform.Plan:
    """Return the plan, or raise PreflightFailed when it touches another environment's things."""
    strangers = [
        f"{change.action} {change.address}: {change.name or 'no name'}, of {change.environment}"
        for change in plan.changes
        if change.environment and not _is_own(step, change)
    ]
    if strangers:
        raise PreflightFailed(
            f"The plan touches what is not {step.env}'s.",
            expected=f"things tagged {step.env} and named {common.prefix(step)}…",
            details=strangers,
            next="find out how they came into this state: terraform state list",
        )
    return plan


def _is_own(step: Step, change: terraform.Change) -> bool:
    """Go by the tag, and by the name of what is made: a name changed by hand can be put right."""
    is_named = change.name.startswith(common.prefix(step)) or change.action != "create"
    return change.environment == step.env and is_named


def plan_terraform(
    step: Step,
    tool: terraform.Terraform,
    variables: Mapping[str, object],
    *,
    destroy: bool = False,
) -> terraform.Plan:
    """Make a plan with its progress shown, or take the saved one that was approved."""
    if step.desk.has_saved_plan:
        return tool.saved(step.run.plan_file, common.context(step))
    with ui.Progress(f"terraform plan, {step.name} {step.env}") as progress:
        return tool.plan(
            step.run.plan_file,
            variables=variables,
            destroy=destroy,
            context=common.context(step),
            on_event=terraform.show_progress(progress),
        )


def apply_terraform(
    step: Step, tool: terraform.Terraform, plan: terraform.Plan
) -> terraform.Applied:
    """Apply a plan; each change is shown and recorded when it has happened."""
    where = f"terraform apply, {tool.folder.name} {tool.workspace}"
    with ui.Progress(where, total=len(plan.changes)) as progress:
        show = terraform.show_progress(progress)

        def on_event(event: terraform.Event) -> None:
            show(event)
            if event.kind in ("apply_complete", "apply_errored") and event.action != "read":
                action = event.action if event.kind == "apply_complete" else "failed"
                step.run.write("change", tool="terraform", action=action, what=event.resource)

        return tool.apply(plan, on_event=on_event)


def terraform_is_there(step: Step) -> checks.Check:
    """Ask for a Terraform that the configuration works with."""
    return checks.tool_version(
        ("terraform", "version"),
        step.target.environ,
        common.MAKE_SETUP,
        at_least=(1, 11),
        below=(2,),
        start=step.run.start,
    )


def provider_is_locked(step: Step, folder: str) -> checks.Check:
    """Ask for an AWS provider that the configuration was tried with; init takes the locked one."""
    lock = step.root / "terraform" / folder / ".terraform.lock.hcl"

    def question(name: str) -> checks.CheckResult:
        found = re.search(r'version\s*=\s*"(5\.([0-9]+)\.[0-9]+|[^"]*)"', lock.read_text("utf-8"))
        is_ok = bool(found and found[2]) and int(found[2]) >= 100
        observed = found[1] if found else "no version in .terraform.lock.hcl"
        fix = f"git checkout terraform/{folder}/.terraform.lock.hcl"
        return checks.CheckResult(name, ">= 5.100, < 6", observed, is_ok, fix)

    return question


def boundary_is_there(step: Step, fix: str) -> checks.Check:
    """Check for the policy that bounds the environment's roles, which bootstrap makes."""
    policy = f"{common.prefix(step)}-boundary"

    def question(name: str) -> checks.CheckResult:
        is_ok = aws.policy_exists(step.target, policy)
        return checks.CheckResult(name, policy, "there" if is_ok else "missing", is_ok, fix)

    return question


def state_is_saved(step: Step, folder: str, workspace: str) -> checks.Check:
    """Ask whether an interrupted apply left a state that could not be saved."""
    kept = terraform.unsaved_state(step.root / "terraform" / folder, workspace)
    init = shlex.join(terraform.init_command(backend(step)))
    fix = (
        f'eval "$(daybook env export {step.env})"; cd {kept.parent.relative_to(step.root)}; '
        f"TF_WORKSPACE=default {init}; TF_WORKSPACE={workspace} terraform state push {kept.name} "
        f"&& rm {kept.name}. If it is refused as older, somebody has applied since: compare both "
        "with terraform show, and import by hand what only this one knows"
    )

    def question(name: str) -> checks.CheckResult:
        is_ok = not kept.exists()
        observed = "nothing left to push" if is_ok else f"{kept.name} holds what was done"
        return checks.CheckResult(name, "nothing left to push", observed, is_ok, fix)

    return question


def environment_terraform(step: Step) -> terraform.Terraform:
    """Return Terraform for the step's environment: its folder, workspace and own data directory."""
    return _terraform(step, step.root / "terraform" / "environment", step.env)


def account_terraform(step: Step, folder: Path | None = None) -> terraform.Terraform:
    """Return Terraform for what the account's environments share."""
    return _terraform(step, folder or step.root / "terraform" / "account", "default")


def _terraform(step: Step, folder: Path, workspace: str) -> terraform.Terraform:
    return terraform.Terraform(
        folder,
        workspace=workspace,
        env={**step.target.environ, **terraform.mirror_config(step.root)},
        data_dir=data_dir(step, folder.name, workspace),
        start=step.run.start,
        log=step.run.folder / "attachments" / terraform.state_lock.LOG,
        on_lock=step.turn.note_state_lock,
        unlock=unlock_command(
            step, environment_lock.ACCOUNT if workspace == "default" else step.env
        ),
    )


def unlock_command(step: Step, name: str) -> str:
    """Return the command that removes Terraform's lock on a state, with {id} in it."""
    is_rehearsal = step.target.is_sandbox and step.settings.account != "sandbox"
    words = ["daybook", "lock", "break", name, *(["--rehearse"] if is_rehearsal else [])]
    return shlex.join([*words, "--reason", "its Terraform is gone", "--terraform"]) + " {id}"


def data_dir(place: common.Place, folder: str, workspace: str) -> Path:
    """Return where Terraform keeps its providers and its backend for a folder and workspace."""
    target = place.target
    name = f"{target.name}-{target.account}-{place.settings.app}-{folder}-{workspace}"
    return place.root / ".cache" / "terraform" / name


def state_of(place: common.Place) -> tuple[str, str]:
    """Return the bucket and key of an environment's state."""
    bucket = aws.state_bucket(place.target, place.settings.app)
    return bucket, terraform.state_lock.state_key("environment", place.env)


def backend(place: common.Place) -> dict[str, str]:
    """Return what terraform init is told of the S3 backend."""
    return {
        "bucket": aws.state_bucket(place.target, place.settings.app),
        "region": place.target.region,
        "use_path_style": "true",
    }


def environment_variables(place: common.Place) -> dict[str, object]:
    """Return the variables of terraform/environment."""
    settings = place.settings
    return {
        "app": settings.app,
        "environment": place.env,
        "region": place.target.region,
        "zone": settings.zone,
        "names": list(settings.names),
        "cidr": str(settings.cidr),
        "operators": [str(network) for network in settings.operators],
        "public_keys": common.team_keys(place),
        "instance_type": settings.instance.type,
        "instance_count": settings.instance.count,
        "disk_gib": settings.instance.disk_gib,
        "ami": settings.instance.ami,
        "port": settings.port,
        "protected": settings.protected,
        "snapshot_days": settings.snapshot_days,
        "alarm_email": settings.alarm_email,
        "flow_log_days": settings.flow_log_days,
        "deploy_via": settings.deploy_via,
        "github": {"repository": settings.github.releases, "branch": settings.github.branch},
    }


def outputs(step: Step) -> dict:
    """Return the environment's Terraform outputs; PreflightFailed when it is not provisioned."""
    environment_terraform(step).init(backend(step))
    found = hidden_outputs(step)
    require_its_hosts(step, found)
    return found


def require_its_hosts(place: common.Place, found: Mapping[str, Any]) -> None:
    """Raise PreflightFailed unless Terraform's outputs have hosts, and those of the environment."""
    if not found.get("instances"):
        raise PreflightFailed(
            f"{place.env} is not provisioned.",
            expected="at least one instance in Terraform's outputs",
            observed="none",
            next=f"daybook run provision -p env {place.env}",
        )
    names = [host["name"] for host in found["instances"]]
    are_own = all(name.startswith(common.prefix(place)) for name in names)
    if found["environment"] != place.env or not are_own:
        raise PreflightFailed(
            f"The hosts in the state of {place.env} are not its own.",
            expected=f"hosts of {place.env}, named {common.prefix(place)}…",
            observed=f"{', '.join(names)} of {found['environment']}",
            next=f"look at the workspace: terraform workspace select {place.env}",
        )


def hidden_outputs(step: Step) -> terraform.Outputs:
    """Return the environment's Terraform outputs; no sensitive one shows in the run from now on."""
    found = environment_terraform(step).outputs()
    for name, text in found.secrets():
        step.run.hide(name, text)
    return found
