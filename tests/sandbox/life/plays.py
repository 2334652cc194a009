"""Run single roles on staging's host."""

from __future__ import annotations

import json
import subprocess

import yaml

HOSTS = {"hosts": "staging", "become": True, "gather_facts": False}


def start(life, *roles: str, check: bool = False, **variables: object) -> subprocess.Popen[str]:
    """Start a play of roles on staging's host in a new process group."""
    playbook = life.root / "ansible/trial.yml"
    playbook.write_text(yaml.safe_dump([HOSTS | {"roles": list(roles)}]))
    env = {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": life.sandbox.env["AWS_REGION"]}
    command = ["ansible-playbook", "--private-key", life.sandbox.env["DAYBOOK_SSH_KEY"]]
    command += ["--check"] if check else []
    command += ["-i", "ansible/inventories/staging", "-e", json.dumps(variables), str(playbook)]
    project = type(life.project)(life.root, extra=env)
    return project.start(*command, start_new_session=True)


def play(life, *roles: str, check: bool = False, **variables: object) -> str:
    """Run a play of roles, which must succeed, and return its output."""
    with start(life, *roles, check=check, **variables) as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output
