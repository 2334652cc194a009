"""What a job may do on a host: the hook, the one command, its sudo rule; without a host."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).resolve().parents[3] / "ansible/roles"
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/hello"
DIGEST = f"sha256:{'0f' * 32}"
IMAGE = f"{REPOSITORY}@{DIGEST}"
SETTINGS = {
    "name": "hello-staging-1",
    "server": "https://github.test",
    "repository": "octo-org/hello",
    "ref": "refs/heads/staging",
    "workflow": ".github/workflows/deploy.yml",
    "environment": "staging",
    "labels": ["staging"],
    "user": "github-runner",
    "directory": "/var/lib/github-runner",
}
JOB = {
    "GITHUB_REPOSITORY": "octo-org/hello",
    "GITHUB_REF": "refs/heads/staging",
    "GITHUB_WORKFLOW_REF": "octo-org/hello/.github/workflows/deploy.yml@refs/heads/staging",
    "GITHUB_EVENT_NAME": "push",
}


def load(path: str):
    """Return a program of a role as a module."""
    loader = SourceFileLoader(Path(path).stem.replace("-", "_"), str(ROLES / path))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def hook():
    return load("github_runner/files/job_started.py")


@pytest.fixture
def register(tmp_path):
    module = load("github_runner/files/register-runner")
    module.SETTINGS, module.REGISTERED = tmp_path / "runner.json", tmp_path / "registered"
    return module


def test_a_push_to_the_environments_branch_is_let_in(hook):
    assert hook.problems(JOB, SETTINGS) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_REPOSITORY", "mallory/hello"),
        ("GITHUB_REPOSITORY", "octo-org/hello2"),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_REF", "refs/heads/staging2"),
        ("GITHUB_REF", "refs/tags/staging"),
        ("GITHUB_REF", "refs/pull/7/merge"),
        ("GITHUB_WORKFLOW_REF", "octo-org/hello/.github/workflows/other.yml@refs/heads/staging"),
        ("GITHUB_WORKFLOW_REF", "octo-org/hello/.github/workflows/deploy.yml@refs/heads/main"),
        ("GITHUB_WORKFLOW_REF", "mallory/hello/.github/workflows/deploy.yml@refs/heads/staging"),
        ("GITHUB_EVENT_NAME", "pull_request_target"),
        ("GITHUB_EVENT_NAME", "workflow_run"),
        ("GITHUB_REF", ""),
    ],
)
def test_any_other_job_is_refused_and_told_why(hook, name, value):
    (said,) = hook.problems(JOB | {name: value}, SETTINGS)
    assert said.startswith(f"{name} is {value or 'not there'}, not ")


def test_a_job_that_says_nothing_of_itself_is_refused(hook):
    assert len(hook.problems({}, SETTINGS)) == len(JOB)


def test_without_its_settings_the_hook_lets_nothing_in(tmp_path):
    text = (ROLES / "github_runner/files/job_started.py").read_text()
    file = tmp_path / "job_started.py"
    file.write_text(text.replace("/etc/daybook/runner.json", f"{tmp_path}/none.json"))
    done = subprocess.run(["python3", "-I", file], env=os.environ | JOB, capture_output=True)
    assert done.returncode != 0


def test_the_one_command_hands_the_release_to_pid_1():
    program = load("release/files/release-image")
    found = program.command([IMAGE, "42"])
    who = ["--by", "GitHub Actions", "--run", "GitHub run 42"]
    assert found[0] == "systemd-run"
    assert found[-7:] == ["/usr/local/sbin/release", "deploy", IMAGE, *who]


TRIES = [
    [],
    [IMAGE],
    [IMAGE, "42", "--secrets"],
    [IMAGE, "42; id"],
    [IMAGE, "42\n"],
    [IMAGE, "--json"],
    [f"{IMAGE} 42"],
    [f"{REPOSITORY}:latest", "42"],
    [f"{IMAGE}\n", "42"],
    [f"--by={IMAGE}", "42"],
    [f"{REPOSITORY}@{DIGEST[:-1]}", "42"],
    [f"{REPOSITORY}@{DIGEST.upper()}", "42"],
    [f"{REPOSITORY}@{DIGEST}$(id)", "42"],
    ["rollback", "42"],
    ["--help", "42"],
]
"""What a job might give the one command that it may run as root, and gets nothing by."""


@pytest.mark.parametrize("arguments", TRIES, ids=repr)
def test_the_one_command_takes_no_other_arguments(arguments):
    assert load("release/files/release-image").command(arguments) is None


def rule() -> str:
    """Return the arguments that the sudo rule lets through, as a regular expression."""
    template = (ROLES / "github_runner/templates/sudoers.j2").read_text()
    text = jinja2.Template(template).render(
        ansible_managed="", github_runner_user="github-runner", ecr_repository_url=REPOSITORY
    )
    (line,) = (each for each in text.splitlines() if not each.startswith("#"))
    who, _, arguments = line.partition(" /usr/local/sbin/release-image ")
    assert who == "github-runner ALL=(root) NOPASSWD:"
    return arguments


def test_the_sudo_rule_has_one_command_and_one_form_of_arguments():
    form = rule()
    assert (form[0], form[-1]) == ("^", "$")
    assert re.fullmatch(form[1:-1], f"{IMAGE} 42")
    for other in (f"x{IMAGE} 42", f"{IMAGE.replace('.', 'x', 1)} 42", f"{IMAGE} 42 43", f"{IMAGE}"):
        assert not re.fullmatch(form[1:-1], other)
    for arguments in TRIES:
        if arguments != [f"{IMAGE} 42"]:  # The command itself refuses these: one word, not two.
            assert not re.fullmatch(form[1:-1], " ".join(arguments))


def test_the_runner_starts_only_behind_both_walls():
    unit = (ROLES / "github_runner/templates/github-runner.service.j2").read_text().splitlines()
    assert "Requires=daybook-firewall.service" in unit
    assert "IPAddressDeny=169.254.169.254 fd00:ec2::254" in unit


def test_a_runner_is_registered_once_and_again_when_what_github_was_told_changes(
    register, tmp_path
):
    mine = SETTINGS | {"directory": str(tmp_path)}
    assert register.is_due(mine)
    register.REGISTERED.write_text(register.told(mine))
    assert register.is_due(mine), "its credentials are not there"
    for name in (".runner", ".credentials"):
        (tmp_path / name).touch()
    assert not register.is_due(mine)
    assert register.is_due(mine | {"labels": ["staging", "big"]})
    assert register.is_due(mine | {"repository": "octo-org/shop"})
    assert not register.is_due(mine | {"ref": "refs/heads/next"}), "GitHub knows nothing of it"


def test_registering_takes_a_token_from_standard_input_alone(register, monkeypatch):
    register.SETTINGS.write_text(json.dumps(SETTINGS))
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(SystemExit, match="no token was given"):
        register.main([])
    with pytest.raises(SystemExit, match="token on standard input"):
        register.main(["--token", "A1"])


def test_what_a_runner_left_in_its_home_is_not_followed(register, tmp_path):
    victim = tmp_path / "shadow"
    victim.write_text("untouched")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").symlink_to(victim)
    register.protect(SETTINGS | {"directory": str(home)})
    assert victim.read_text() == "untouched"
    assert (home / ".env").read_text() == "LANG=C.UTF-8\n"
