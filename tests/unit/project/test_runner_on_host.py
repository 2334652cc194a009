"""The permissions of a GitHub job: job hook, release command and sudo rule, without a host."""

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


def test_a_push_to_the_environments_branch_is_accepted(hook):
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
def test_any_other_job_is_refused_with_the_reason(hook, name, value):
    (problem,) = hook.problems(JOB | {name: value}, SETTINGS)
    assert problem.startswith(f"{name} is {value or 'not set'}, not ")


def test_a_job_without_any_variable_is_refused(hook):
    assert len(hook.problems({}, SETTINGS)) == len(JOB)


def test_without_its_settings_the_hook_refuses_all_jobs(tmp_path):
    text = (ROLES / "github_runner/files/job_started.py").read_text()
    file = tmp_path / "job_started.py"
    file.write_text(text.replace("/etc/daybook/runner.json", f"{tmp_path}/none.json"))
    done = subprocess.run(["python3", "-I", file], env=os.environ | JOB, capture_output=True)
    assert done.returncode != 0


def test_the_release_command_runs_under_pid_1():
    program = load("app/files/release-image")
    command = program.command([IMAGE, "42"])
    origin = ["--by", "GitHub Actions", "--run", "GitHub run 42"]
    assert command[0] == "systemd-run"
    assert command[-7:] == ["/usr/local/sbin/release", "deploy", IMAGE, *origin]


REFUSED_ARGUMENTS = [
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
"""Arguments that the only command a job may run as root must refuse."""


@pytest.mark.parametrize("arguments", REFUSED_ARGUMENTS, ids=repr)
def test_the_release_command_refuses_other_arguments(arguments):
    assert load("app/files/release-image").command(arguments) is None


def rule() -> str:
    """Return the arguments that the sudo rule permits, as a regular expression."""
    template = (ROLES / "github_runner/templates/sudoers.j2").read_text()
    text = jinja2.Template(template).render(
        ansible_managed="",
        github_runner_user="github-runner",
        github_runner_image_repository=REPOSITORY,
    )
    (line,) = (line for line in text.splitlines() if not line.startswith("#"))
    user, _, arguments = line.partition(" /usr/local/sbin/release-image ")
    assert user == "github-runner ALL=(root) NOPASSWD:"
    return arguments


def test_the_sudo_rule_permits_one_command_and_one_form_of_arguments():
    pattern = rule()
    assert (pattern[0], pattern[-1]) == ("^", "$")
    assert re.fullmatch(pattern[1:-1], f"{IMAGE} 42")
    for arguments in (
        f"x{IMAGE} 42",
        f"{IMAGE.replace('.', 'x', 1)} 42",
        f"{IMAGE} 42 43",
        f"{IMAGE}",
    ):
        assert not re.fullmatch(pattern[1:-1], arguments)
    for arguments in REFUSED_ARGUMENTS:
        if arguments != [f"{IMAGE} 42"]:  # The command itself refuses this one: one word, not two.
            assert not re.fullmatch(pattern[1:-1], " ".join(arguments))


def test_the_runner_starts_only_behind_both_firewalls():
    unit = (ROLES / "github_runner/templates/github-runner.service.j2").read_text().splitlines()
    assert "Requires=daybook-firewall.service" in unit
    assert "IPAddressDeny=169.254.169.254 fd00:ec2::254" in unit


def test_registration_is_due_at_first_and_after_a_change_of_the_registered_settings(
    register, tmp_path
):
    settings = SETTINGS | {"directory": str(tmp_path)}
    assert register.is_due(settings)
    register.REGISTERED.write_text(register.registration(settings))
    assert register.is_due(settings), "the runner has no credentials"
    for name in (".runner", ".credentials"):
        (tmp_path / name).touch()
    assert not register.is_due(settings)
    assert register.is_due(settings | {"labels": ["staging", "big"]})
    assert register.is_due(settings | {"repository": "octo-org/shop"})
    assert not register.is_due(settings | {"ref": "refs/heads/next"}), (
        "GitHub does not store the branch"
    )


def test_registration_reads_the_token_from_standard_input_only(register, monkeypatch):
    register.SETTINGS.write_text(json.dumps(SETTINGS))
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(SystemExit, match="standard input has no token"):
        register.main([])
    with pytest.raises(SystemExit, match="register-runner < TOKEN"):
        register.main(["--token", "A1"])


def test_a_link_in_the_runners_home_is_not_followed(register, tmp_path):
    victim = tmp_path / "shadow"
    victim.write_text("untouched")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").symlink_to(victim)
    register.protect(SETTINGS | {"directory": str(home)})
    assert victim.read_text() == "untouched"
    assert (home / ".env").read_text() == "LANG=C.UTF-8\n"
