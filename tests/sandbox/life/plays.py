"""Plays of some roles on staging's host, as an operator would play them."""

from __future__ import annotations

import json
import subprocess

import yaml

HOSTS = {"hosts": "staging", "become": True, "gather_facts": False}


def start(life, *roles: str, check: bool = False, **variables: object) -> subprocess.Popen[str]:
    """Start a play of some roles on staging's host, in a process group of its own."""
    playbook = life.root / "ansible/trial.yml"
    playbook.write_text(yaml.safe_dump([HOSTS | {"roles": list(roles)}]))
    env = {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": life.sandbox.env["AWS_REGION"]}
    command = ["ansible-playbook", "--private-key", life.sandbox.env["DAYBOOK_SSH_KEY"]]
    command += ["--check"] if check else []
    command += ["-i", "ansible/inventories/staging", "-e", json.dumps(variables), str(playbook)]
    project = type(life.project)(life.root, extra=env)
    return project.start(*command, start_new_session=True)


def play(life, *roles: str, check: bool = False, **variables: object) -> str:
    """Play some roles to a good end and return what Ansible said."""
    with start(life, *roles, check=check, **variables) as process:
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said
