"""An environment's infrastructure: plan, apply and check terraform/environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from daybook import aws, checks, terraform, ui
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
    """Return the checks of Terraform that need no target. folder: of terraform/."""
    return {
        "terraform": terraform_version(environment),
        "AWS provider": provider_is_locked(environment.root, folder),
        "state": state_is_saved(environment, folder),
    }


def target_checks(environment: Environment) -> dict[str, checks.Check]:
    """Return the checks of what bootstrap makes for every environment."""
    target = environment.target
    fix = BOOTSTRAP_FIRST.format(env=environment.name)
    return {
        "state bucket": checks.bucket_exists(target, environment.state_bucket, fix),
        "DNS zone": checks.zone_exists(target, environment.settings.dns_zone, fix),
        "IAM boundary": boundary_exists(environment, fix),
    }


def orphaned(environment: Environment) -> list[Change]:
    """Return what an interrupted apply left behind, as changes that remove it."""
    reason = "left by an interrupted run: not in the state"
    return [
        Change(extra_changes.REMOVE, str(each), reason)
        for each in orphans.find(environment, environment.state())
    ]


def remove_orphans(
    environment: Environment, plan: terraform.SavedPlan, on_change: OnChange, verify_held: Callable
) -> None:
    """Delete the orphaned resources that a plan removes; each is recorded."""
    for change in plan.changes:
        if change.action == extra_changes.REMOVE:
            orphans.remove(environment, Resource.parse(change.address))
            on_change(tool="aws", action=change.action, what=change.address)
            verify_held()


def require_own(environment: Environment, plan: terraform.SavedPlan) -> terraform.SavedPlan:
    """Return the plan, or raise PreflightFailed if it changes another environment's resources."""
    foreign = [
        f"{change.action} {change.address}: {change.name or 'no name'}, of {change.environment}"
        for change in plan.changes
        if change.environment and not _is_own(environment, change)
    ]
    if foreign:
        raise PreflightFailed(
            f"The plan changes resources that are not {environment.name}'s.",
            expected=f"resources tagged {environment.name} and named {environment.prefix}…",
            details=foreign,
            next="find out how they came into this state: terraform state list",
        )
    return plan


def _is_own(environment: Environment, change: Change) -> bool:
    """Go by the tag, and by the name of what is made: a name changed by hand can be put right."""
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
    """Save a plan in a file and return it, its progress shown; or read the saved one."""
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
) -> terraform.Applied:
    """Apply a plan; each change is shown and recorded when it has happened."""
    title = f"terraform apply, {tool.folder.name} {tool.workspace}"
    with ui.Progress(title, total=len(plan.changes)) as progress:
        show = terraform.show_progress(progress)

        def on_event(event: terraform.Event) -> None:
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
    """Check the version of the AWS provider in the lock file, which init installs."""
    lock = root / "terraform" / folder / ".terraform.lock.hcl"

    def check(name: str) -> checks.CheckResult:
        found = re.search(r'version\s*=\s*"(5\.([0-9]+)\.[0-9]+|[^"]*)"', lock.read_text("utf-8"))
        is_ok = bool(found and found[2]) and int(found[2]) >= 100
        observed = found[1] if found else "no version in .terraform.lock.hcl"
        fix = f"git checkout terraform/{folder}/.terraform.lock.hcl"
        return checks.CheckResult(name, ">= 5.100, < 6", observed, is_ok, fix)

    return check


def boundary_exists(environment: Environment, fix: str) -> checks.Check:
    """Check for the permissions boundary of the environment's roles, which bootstrap makes."""
    policy = f"{environment.prefix}-boundary"

    def check(name: str) -> checks.CheckResult:
        is_ok = aws.policy_exists(environment.target, policy)
        return checks.CheckResult(name, policy, "there" if is_ok else "missing", is_ok, fix)

    return check


def state_is_saved(environment: Environment, folder: str) -> checks.Check:
    """Check that no interrupted apply left a state that could not be saved."""
    workspace = environment.name if folder == "environment" else "default"
    unsaved = terraform.unsaved_state(environment.root / "terraform" / folder, workspace)
    init = shlex.join(terraform.init_command(environment.backend))
    fix = (
        f'eval "$(daybook env export {environment.name})"; '
        f"cd {unsaved.parent.relative_to(environment.root)}; "
        f"TF_WORKSPACE=default {init}; TF_WORKSPACE={workspace} terraform state push "
        f"{unsaved.name} && rm {unsaved.name}. If it is refused as older, somebody has applied "
        "since: compare both with terraform show, and import by hand what only this one knows"
    )

    def check(name: str) -> checks.CheckResult:
        is_ok = not unsaved.exists()
        observed = "nothing left to push" if is_ok else f"{unsaved.name} holds what was done"
        return checks.CheckResult(name, "nothing left to push", observed, is_ok, fix)

    return check


def variables(environment: Environment) -> dict[str, object]:
    """Return the variables of terraform/environment."""
    settings = environment.settings
    return {
        "app": settings.app,
        "environment": environment.name,
        "region": environment.target.region,
        "zone": settings.dns_zone,
        "names": list(settings.domains),
        "cidr": str(settings.vpc_cidr),
        "operators": [str(network) for network in settings.ssh_allowed_cidrs],
        "public_keys": environment.team_keys(),
        "instance_type": settings.instance.type,
        "instance_count": settings.instance.count,
        "disk_gib": settings.instance.disk_gib,
        "ami": settings.instance.ami,
        "port": settings.port,
        "protected": settings.deletion_protection,
        "snapshot_days": settings.snapshot_days,
        "alarm_email": settings.alarm_email,
        "flow_log_days": settings.flow_log_days,
        "deploy_via": settings.deploy_via,
        "github": {"repository": settings.github.releases, "branch": settings.github.branch},
    }
