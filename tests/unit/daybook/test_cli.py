"""`daybook run` refuses invalid input before anything starts, and names the valid choices."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from daybook import cli
from daybook.cli import env as cli_env

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    for name in ("notebooks", "environments"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    (tmp_path / "terraform").mkdir()
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def daybook(root, monkeypatch, capsys):
    """Return a function that runs the command line and returns its exit code and output."""
    monkeypatch.setattr(cli, "_close_stdin", lambda: None)

    def call(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("provison",), ["No notebook is named 'provison'.", "did you mean provision?"]),
        (("notebooks/none.ipynb",), ["No notebook is named 'notebooks/none.ipynb'."]),
        (("provision", "-p", "env", "stagin"), ["Unknown environment", "did you mean staging?"]),
        (("provision", "-p", "evn", "staging"), ["evn: no such parameter; did you mean env?"]),
        (("provision", "-p", "rehearse", "maybe"), ["rehearse: expected true or false"]),
        (("provision", "-f", "none.yml"), ["The parameter file 'none.yml' cannot be read."]),
        (("provision", "-y", "{env: [}"), ["-y is not valid YAML.", "line 1"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_wrong_parameter_is_refused(daybook, root, args, expected):
    code, said = daybook("run", *args)
    assert code == 2
    assert [text for text in (*expected, "Nothing was changed.") if text not in said] == []
    assert "Traceback" not in said
    assert not (root / "runs").exists()


@pytest.mark.attack("F6", "an option given twice hides which environment is meant")
@pytest.mark.parametrize(
    "words",
    [
        ("run", "provision", "--wait", "1m", "--wait", "2m"),
        ("run", "provision", "--resume", "a", "--resume", "b"),
        ("run", "provision", "--override-freeze", "a", "-p", "override_freeze", "b"),
        ("secrets", "list", "-e", "staging", "--env", "production"),
        ("secrets", "set", "NAME", "-e", "staging", "-eproduction"),
    ],
    ids=" ".join,
)
def test_an_option_given_twice_is_refused(daybook, root, words):
    code, said = daybook(*words)
    assert code == 2
    assert "twice" in said or "2 times" in said
    assert not (root / "runs").exists()


def test_all_mistakes_are_listed_at_once(daybook):
    wrong = ("-p", "evn", "staging", "-p", "rehearse", "maybe", "-y", "approve: 3")
    code, said = daybook("run", "provision", *wrong)
    assert code == 2
    for name in ("evn", "rehearse", "approve"):
        assert f"{name}: " in said


def test_each_invalid_line_of_the_settings_is_named(daybook, root):
    file = root / "environments/staging.yml"
    text = file.read_text().replace("region: us-east-1", "region: mars")
    file.write_text(text.replace("disk_gib: 20", "disk_gib: 2") + "colour: blue\n")
    code, said = daybook("run", "provision", "-p", "env", "staging")
    assert code == 2
    for setting in ("region", "instance.disk_gib", "colour"):
        assert f": {setting}: " in said
    assert said.count("environments/staging.yml:") == 3
    assert "Nothing was changed." in said


@pytest.mark.parametrize("content", [b"app: [", b"\xff\xfe", b"- a\n"])
def test_unreadable_settings_are_named(daybook, root, content):
    (root / "environments/staging.yml").write_bytes(content)
    code, said = daybook("run", "provision", "-p", "env", "staging")
    assert code == 2
    assert "environments/staging.yml" in said
    assert "Nothing was changed." in said


def test_a_folder_without_a_project_is_refused(daybook, monkeypatch, tmp_path):
    monkeypatch.delenv("DAYBOOK_ROOT")
    monkeypatch.chdir(tmp_path.parent)
    code, said = daybook("run", "provision")
    assert code == 2
    assert "This is not a Daybook project." in said


@pytest.mark.parametrize("args", [("--what",), ("run",), ("run", "provision", "-p", "env")])
def test_a_wrong_option_is_a_usage_error(daybook, args):
    code, said = daybook(*args)
    assert code == 2
    assert "Error: " in said


def test_every_command_has_help(daybook):
    code, said = daybook("--help")
    assert code == 0
    for command in ("run", *cli.LAZY):
        assert f"  {command} " in said


def test_env_export_needs_a_running_sandbox(daybook):
    code, said = daybook("env", "export", "staging")
    assert code == 3
    assert "Next: daybook sandbox up" in said


def test_a_script_changes_only_variables_that_differ():
    now = {"HOME": "/root", "AWS_PROFILE": "work", "AWS_REGION": "eu-west-1"}
    wanted = {"HOME": "/root", "AWS_REGION": "us-east-1", "TF_VAR_names": '["a b"]'}
    assert cli_env.script(wanted, now) == [
        "unset AWS_PROFILE",
        "export AWS_REGION=us-east-1",
        "export TF_VAR_names='[\"a b\"]'",
    ]
