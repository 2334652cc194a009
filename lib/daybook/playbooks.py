"""Run the playbooks of ansible/ on an environment's hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from daybook import ansible, aws, checks, ui
from daybook.environment import Environment


def play(
    environment: Environment,
    playbook: str,
    *,
    variables: Mapping[str, object] | None = None,
    on_change: Callable[..., None],
) -> ansible.PlayResult:
    """Run a playbook on the environment's hosts; show and record each change."""
    with ui.Progress(f"ansible-playbook {playbook}, {environment.name}") as progress:
        show = ansible.show_progress(progress)

        def on_event(event: ansible.PlayEvent) -> None:
            show(event)
            if event.state in ("changed", "failed"):
                on_change(tool="ansible", action=event.state, what=event.task, host=event.host)

        return run(environment, playbook, on_event, variables=variables)


def run(
    environment: Environment,
    playbook: str,
    on_event: ansible.OnEvent,
    *,
    variables: Mapping[str, object] | None = None,
) -> ansible.PlayResult:
    """Run a playbook on the environment's hosts; show and record nothing."""
    return ansible.play(
        environment.root / "ansible" / playbook,
        inventory=environment.write_inventory().path,
        env=environment.target.environ,
        variables=variables,
        private_key=environment.ssh_key,
        project_dir=environment.root,
        start=environment.start,
        on_event=on_event,
    )


def ansible_version(environment: Environment) -> checks.Check:
    """Check the version of Ansible."""
    return checks.tool_version(
        ("ansible-playbook", "--version"),
        environment.target.environ,
        "make setup",
        at_least=(2, 19),
        below=(2, 20),
        start=environment.start,
    )


def ssh_key_exists(environment: Environment) -> checks.Check:
    """Check for the operator's private key."""
    fix = "correct ssh_key in the settings, or set DAYBOOK_SSH_KEY"
    return checks.file_exists(environment.ssh_key, environment.root, fix)


def inventory_is_known(environment: Environment) -> checks.Check:
    """Check that the state contains hosts, and write the inventory."""

    def check(name: str) -> checks.CheckResult:
        path = environment.write_inventory().path.relative_to(environment.root)
        return checks.CheckResult(name, str(path), "written from the state", is_ok=True)

    return check


def hosts_are_running(environment: Environment) -> checks.Check:
    """Check that every host of the environment is running."""

    def check(name: str) -> checks.CheckResult:
        ids = [host["id"] for host in environment.outputs()["instances"]]
        states = aws.instance_states(environment.target, ids)
        observed = ", ".join(f"{key} {state}" for key, state in sorted(states.items()))
        is_ok = set(states.values()) == {"running"}
        fix = f"start it: daybook run provision -p env {environment.name}"
        return checks.CheckResult(name, "running", observed, is_ok, fix)

    return check
