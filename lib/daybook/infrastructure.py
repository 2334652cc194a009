"""The infrastructure of an environment: check, plan and apply terraform/environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from daybook import aws, checks, terraform, ui
from daybook.aws import images
from daybook.environment import Environment
from daybook.errors import PreflightFailed
from daybook.plan import Change
from daybook.resources import orphans
from daybook.resources.owned import Resource
from daybook.terraform import extra_changes

BOOTSTRAP_FIRST = "daybook run bootstrap -p env {env}"
OnChange = Callable[..., None]
"""Records a change: on_change(tool=…, action=…, what=…)."""


def local_checks(environment: Environment, folder: str = "environment") -> dict[str, checks.Check]:
    """Return the checks of Terraform that need no target. folder: a folder of terraform/."""
    return {
        "terraform": terraform_version(environment),
        "AWS provider": provider_is_locked(environment.root, folder),
        "state": state_is_saved(environment, folder),
    }


def target_checks(environment: Environment) -> dict[str, checks.Check]:
    """Return the checks of the resources that bootstrap creates for every environment."""
    target = environment.target
    fix = BOOTSTRAP_FIRST.format(env=environment.name)
    return {
        "state bucket": checks.bucket_exists(target, environment.state_bucket, fix),
        "DNS zone": checks.zone_exists(target, environment.settings.dns_zone, fix),
        "IAM boundary": boundary_exists(environment, fix),
    }


def orphaned(environment: Environment) -> list[Change]:
    """Return changes that remove the orphaned resources of interrupted applies."""
    reason = "left by an interrupted run: not in the state"
    return [
        Change(extra_changes.REMOVE, str(resource), reason)
        for resource in orphans.find(environment, environment.state())
    ]


def remove_orphans(
    environment: Environment, plan: terraform.SavedPlan, on_change: OnChange, verify_held: Callable
) -> None:
    """Delete the orphaned resources that a plan removes, and record each deletion."""
    for change in plan.changes:
        if change.action == extra_changes.REMOVE:
            orphans.remove(environment, Resource.parse(change.address))
            on_change(tool="aws", action=change.action, what=change.address)
            verify_held()


def require_own(environment: Environment, plan: terraform.SavedPlan) -> terraform.SavedPlan:
    """Return the plan; raise PreflightFailed if it changes resources of another environment."""
    foreign = [
        f"{change.action} {change.address}: {change.name or 'no name'}, of {change.environment}"
        for change in plan.changes
        if change.environment and not _is_own(environment, change)
    ]
    if foreign:
        raise PreflightFailed(
            f"The plan changes resources that do not belong to {environment.name}.",
            expected=f"resources tagged {environment.name}, with names like {environment.prefix}…",
            details=foreign,
            next="find out why they are in this state: terraform state list",
        )
    return plan


def _is_own(environment: Environment, change: Change) -> bool:
    """Compare the tag, and the name of new resources: plans may correct a name changed by hand."""
    is_named = change.name.startswith(environment.prefix) or change.action != "create"
    return change.environment == environment.name and is_named


def plan(
    tool: terraform.Terraform,
    file: Path,
    *,
    title: str,
    variables: Mapping[str, object],
    context: Mapping[str, str],
    saved: bool = False,
    destroy: bool = False,
) -> terraform.SavedPlan:
    """Save a plan in a file and show its progress; with `saved`, only read the file."""
    if saved:
        return tool.saved(file, context)
    with ui.Progress(f"terraform plan, {title}") as progress:
        return tool.plan(
            file,
            variables=variables,
            destroy=destroy,
            context=context,
            on_event=terraform.show_progress(progress),
        )


def apply(
    tool: terraform.Terraform, plan: terraform.SavedPlan, on_change: OnChange
) -> terraform.ApplyResult:
    """Apply a plan; show and record each change as soon as it is complete."""
    title = f"terraform apply, {tool.folder.name} {tool.workspace}"
    with ui.Progress(title, total=len(plan.changes)) as progress:
        show = terraform.show_progress(progress)

        def on_event(event: terraform.TerraformEvent) -> None:
            show(event)
            if event.kind in ("apply_complete", "apply_errored") and event.action != "read":
                action = event.action if event.kind == "apply_complete" else "failed"
                on_change(tool="terraform", action=action, what=event.resource)

        return tool.apply(plan, on_event=on_event)


def terraform_version(environment: Environment) -> checks.Check:
    """Check the version of Terraform."""
    return checks.tool_version(
        ("terraform", "version"),
        environment.target.environ,
        "make setup",
        at_least=(1, 11),
        below=(2,),
        start=environment.start,
    )


def provider_is_locked(root: Path, folder: str) -> checks.Check:
    """Check the version of the AWS provider in the lock file, which `terraform init` installs."""
    lock = root / "terraform" / folder / ".terraform.lock.hcl"

    def check(name: str) -> checks.CheckResult:
        match = re.search(r'version\s*=\s*"(5\.([0-9]+)\.[0-9]+|[^"]*)"', lock.read_text("utf-8"))
        is_ok = bool(match and match[2]) and int(match[2]) >= 100
        observed = match[1] if match else "no version in .terraform.lock.hcl"
        fix = f"git checkout terraform/{folder}/.terraform.lock.hcl"
        return checks.CheckResult(name, ">= 5.100, < 6", observed, is_ok, fix)

    return check


def boundary_exists(environment: Environment, fix: str) -> checks.Check:
    """Check that the permissions boundary of the environment exists; bootstrap creates it."""
    policy = f"{environment.prefix}-boundary"

    def check(name: str) -> checks.CheckResult:
        is_ok = aws.policy_exists(environment.target, policy)
        return checks.CheckResult(name, policy, "exists" if is_ok else "missing", is_ok, fix)

    return check


def state_is_saved(environment: Environment, folder: str) -> checks.Check:
    """Check that no interrupted apply left an unsaved state on this computer."""
    workspace = environment.name if folder == "environment" else "default"
    unsaved = terraform.unsaved_state(environment.root / "terraform" / folder, workspace)
    init = shlex.join(terraform.init_command(environment.backend))
    fix = (
        f'eval "$(daybook env export {environment.name})"; '
        f"cd {unsaved.parent.relative_to(environment.root)}; "
        f"TF_WORKSPACE=default {init}; TF_WORKSPACE={workspace} terraform state push "
        f"{unsaved.name} && rm {unsaved.name}. If Terraform refuses the push because the stored "
        "state is newer, compare both with terraform show, and import the resources that only "
        f"{unsaved.name} has"
    )

    def check(name: str) -> checks.CheckResult:
        is_ok = not unsaved.exists()
        observed = "no unsaved state" if is_ok else f"{unsaved.name}, not pushed"
        return checks.CheckResult(name, "no unsaved state", observed, is_ok, fix)

    return check


def variables(environment: Environment) -> dict[str, object]:
    """Return all variables of terraform/environment."""
    settings = environment.settings
    return {
        "app": settings.app,
        "environment": environment.name,
        "region": environment.target.region,
        "dns_zone": settings.dns_zone,
        "domains": list(settings.domains),
        "vpc_cidr": str(settings.vpc_cidr),
        "ssh_allowed_cidrs": [str(network) for network in settings.ssh_allowed_cidrs],
        "public_keys": environment.team_keys(),
        "instance_type": settings.instance.type,
        "instance_count": settings.instance.count,
        "disk_gib": settings.instance.disk_gib,
        "ami": settings.instance.ami,
        "debian_images": {"owner": images.DEBIAN, "names": list(images.NAMES)},
        "port": settings.port,
        "deletion_protection": settings.deletion_protection,
        "snapshot_days": settings.snapshot_days,
        "alarm_email": settings.alarm_email,
        "flow_log_days": settings.flow_log_days,
        "deploy_via": settings.deploy_via,
        "github": {"repository": settings.github.releases, "branch": settings.github.branch},
    }
