"""What steps do with Ansible: play a playbook on the environment's hosts."""

from __future__ import annotations

from collections.abc import Mapping

from daybook import ansible, aws, checks, ui
from daybook.hosts import located
from daybook.steps import common, infrastructure
from daybook.steps.base import Step


def play(
    step: Step, playbook: str, variables: Mapping[str, object] | None = None
) -> ansible.PlayResult:
    """Play a playbook on the environment's hosts; each change is shown and recorded."""
    with ui.Progress(f"ansible-playbook {playbook}, {step.env}") as progress:
        show = ansible.show_progress(progress)

        def on_event(event: ansible.Event) -> None:
            show(event)
            if event.state in ("changed", "failed"):
                said = {"action": event.state, "what": event.task, "host": event.host}
                step.run.write("change", tool="ansible", **said)

        return played(step, playbook, on_event, variables)


def played(
    step: Step,
    playbook: str,
    on_event: ansible.OnEvent,
    variables: Mapping[str, object] | None = None,
) -> ansible.PlayResult:
    """Play a playbook on the environment's hosts; nothing is shown or recorded here."""
    return ansible.play(
        step.root / "ansible" / playbook,
        inventory=located.refresh(step),
        env=step.target.environ,
        variables=variables,
        private_key=step.run.ssh_key,
        project_dir=step.root,
        start=step.run.start,
        on_event=on_event,
    )


def ansible_is_there(step: Step) -> checks.Check:
    """Ask for an Ansible that the playbooks work with."""
    return checks.tool_version(
        ("ansible-playbook", "--version"),
        step.target.environ,
        common.MAKE_SETUP,
        at_least=(2, 19),
        below=(2, 20),
        start=step.run.start,
    )


def hosts_are_running(step: Step) -> checks.Check:
    """Ask whether every host of the environment runs."""

    def question(name: str) -> checks.CheckResult:
        ids = [host["id"] for host in infrastructure.outputs(step)["instances"]]
        states = aws.instance_states(step.target, ids)
        observed = ", ".join(f"{key} {state}" for key, state in sorted(states.items()))
        is_ok = set(states.values()) == {"running"}
        return checks.CheckResult(
            name, "running", observed, is_ok, "start it: aws ec2 start-instances"
        )

    return question
