"""Calls of a host's `release` program, and their results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from daybook.errors import (
    ApplyFailed,
    CommandFailed,
    Interrupted,
    Locked,
    PreflightFailed,
    VerifyFailed,
)
from daybook.hosts import client
from daybook.process import Result

IMAGE = f"1.dkr.ecr.us-east-1.amazonaws.com/hello@sha256:{'0f' * 32}"
MADE = {"id": "20261123T231000Z-0f0f0f0f", "image": IMAGE, "version": "2", "result": "serving"}
STATUS = {"current": MADE["id"], "healthy": True, "serving_version": "2", "deploying": None}
FACTS = {"by": "Ann", "run": "r1"}


def step(name: str, state: str = "done", text: str = "") -> dict:
    return {"step": name, "state": state, "text": text, "seconds": 1.5}


def host(*said: object, code: int = 0, started: list | None = None) -> client.Host:
    """Return a host with a program that prints these lines, JSON or not, and exits with a code."""

    def start(command, *, on_line, **_options):
        if started is not None:
            started.append(command)
        lines = [each if isinstance(each, str) else json.dumps(each) for each in said]
        for line in lines:
            on_line(line)
        return Result(tuple(command), code, 0.1, tuple(lines))

    key, known_hosts = Path("/keys/ann"), Path("/known hosts")
    return client.Host("web-1", "203.0.113.9", key, known_hosts, {}, start)


def test_ssh_trusts_only_known_keys_and_never_prompts():
    line = "sudo release rollback 20261123T231000Z-0f --by 'Ann <ann@x>' --json"
    assert host().ssh(line) == [
        "ssh", "-i", "/keys/ann",
        "-o", "StrictHostKeyChecking=yes", "-o", 'UserKnownHostsFile="/known hosts"',
        "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
        "-o", "ServerAliveInterval=15", "admin@203.0.113.9",
        line,
    ]  # fmt: skip
    assert shlex.split(host().typed(line)) == [
        *("ssh", "-i", "/keys/ann", "-o", "UserKnownHostsFile=/known hosts"),
        *("admin@203.0.113.9", line),
    ]


def test_a_deploy_pins_the_version_of_every_secret():
    started: list = []
    secrets = {"MAIL_TOKEN": 1, "DATABASE_URL": 3}
    made = host(MADE and {"result": MADE}, started=started).deploy(IMAGE, secrets=secrets, **FACTS)
    assert made.version == "2"
    assert started[0][-1] == (
        f"sudo release deploy {IMAGE} --by Ann --run r1 "
        "--secrets DATABASE_URL=3 MAIL_TOKEN=1 --json"
    )


def test_progress_is_reported_and_unknown_fields_are_ignored():
    told: list = []
    said = [step("pull") | {"speed": 9}, step("switch", "begun"), {"result": MADE | {"new": 1}}]
    host(*said).deploy(IMAGE, secrets={}, on_progress=told.append, **FACTS)
    assert [(each.step, each.state) for each in told] == [("pull", "done"), ("switch", "begun")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (3, PreflightFailed),
        (6, ApplyFailed),
        (7, VerifyFailed),
        (8, Locked),
        (130, Interrupted),
        (1, CommandFailed),
        (255, CommandFailed),
    ],
)
def test_an_exit_code_selects_the_error(code, error):
    with pytest.raises(error) as caught:
        host("no route to host", code=code).roll_back("r", **FACTS)
    assert caught.value.host == "web-1"
    assert "no route to host" in str(caught.value)


def test_a_failed_release_reports_failure_state_and_next_action():
    because = {"message": "/version says 1, the image says 2.", "next": "sudo release show r2"}
    undo = step("undo", text="20261123T220000Z-0a0a0a0a serves")
    with pytest.raises(ApplyFailed) as caught:
        host(undo, {"result": None, "error": because}, "again for a person", code=6).deploy(
            IMAGE, secrets={}, **FACTS
        )
    assert caught.value.lines() == [
        "web-1: /version says 1, the image says 2.",
        "  web-1: 20261123T220000Z-0a0a0a0a serves.",
        "  Next: on web-1: sudo release show r2",
    ]


def test_output_without_a_result_is_a_failure():
    with pytest.raises(CommandFailed):
        host(step("pull")).deploy(IMAGE, secrets={}, **FACTS)


def test_after_an_interrupt_the_final_state_of_the_host_is_reported():
    busy = STATUS | {"deploying": {"phase": "start"}}
    answers = [KeyboardInterrupt(), busy, STATUS]

    def start(command, *, on_line, **_options):
        answer = answers.pop(0)
        if isinstance(answer, KeyboardInterrupt):
            raise answer
        on_line(json.dumps(answer))
        return Result(tuple(command), 0, 0.1)

    it = client.Host("web-1", "203.0.113.9", Path("key"), Path("known"), {}, start)
    with pytest.raises(Interrupted) as caught:
        it.deploy(IMAGE, secrets={}, **FACTS)
    assert caught.value.changed == (
        f"web-1 finished the action in progress; it serves {MADE['id']}."
    )
    assert answers == []


def test_the_releases_of_a_host_are_parsed():
    [found] = host(json.dumps([MADE | {"secrets": {"A": 2}, "current": True}], indent=1)).releases()
    assert (found.digest, found.secrets, found.current) == (f"sha256:{'0f' * 32}", {"A": 2}, True)
    status = host(STATUS | {"interrupted": {"phase": "switch", "candidate": "x"}}).status()
    assert (status.current, status.healthy, status.deploying) == (MADE["id"], True, None)
    assert status.interrupted["phase"] == "switch"
