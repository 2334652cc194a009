"""Preflight: every check runs, and every failure has a fix."""

from __future__ import annotations

import pytest

from daybook import aws, checks, ui
from daybook.errors import CommandFailed, PreflightFailed
from daybook.process import Result
from daybook.target import Target

SANDBOX = Target("sandbox", "123456789012", "us-east-1", {})
REAL = Target("aws", "210987654321", "us-east-1", {})


@pytest.fixture
def caller(monkeypatch):
    """Have AWS return a caller, or raise."""

    def answer(result):
        def call(_target):
            if isinstance(result, Exception):
                raise result
            return {"account": result, "arn": f"arn:aws:iam::{result}:user/ann"}

        monkeypatch.setattr(aws, "caller", call)

    return answer


def version(text: str):
    """Return a function that runs a tool, whose output is its version."""
    return lambda command, **_options: Result(tuple(command), 0, 0.1, (text,))


def failing(name: str) -> checks.CheckResult:
    return checks.CheckResult(name, "this", "that", is_ok=False, fix=f"fix {name}")


def test_all_failures_are_listed_with_their_fixes(caller):
    caller("123456789012")
    answers = checks.run_checks(SANDBOX, {"one": failing}, {"two": failing})
    with pytest.raises(PreflightFailed) as caught:
        answers.require()
    said = str(caught.value)
    assert "2 of 3 checks" in said
    for name in ("one", "two"):
        assert f"{name}: expected this, observed that\n    fix: fix {name}" in said
    assert "Nothing was changed." in said


def test_passed_checks_are_returned(caller):
    caller("123456789012")
    answers = checks.run_checks(SANDBOX, {}, {})
    assert answers.require() is answers
    assert "all 1 passed" in ui.text(answers)


def test_checks_of_an_unreachable_target_are_skipped(caller):
    caller(AssertionError("it was asked"))
    down = Target("sandbox", "123456789012", "us-east-1", {}, is_up=False)
    answers = checks.run_checks(down, {}, {"two": failing}).answers
    assert [(each.name, each.is_ok) for each in answers] == [("target", False), ("two", None)]
    assert answers[0].fix == "daybook sandbox up"


@pytest.mark.parametrize(
    ("answer", "is_ok"),
    [("210987654321", True), ("123456789012", False), (aws.FAILURES[0](), False)],
)
def test_the_caller_must_be_in_the_account(caller, answer, is_ok):
    caller(answer)
    [target] = checks.run_checks(REAL, {}, {}).answers
    assert target.is_ok is is_ok
    assert "210987654321" in target.expected
    assert "aws sso login" in target.fix


def test_an_error_in_a_check_fails_the_check(caller):
    caller("123456789012")

    def broken(_name):
        raise CommandFailed("no such thing", next="make setup")

    answers = checks.run_checks(SANDBOX, {"one": broken}, {}).answers
    assert (answers[0].is_ok, answers[0].observed, answers[0].fix) == (
        False,
        "no such thing",
        "make setup",
    )


@pytest.mark.parametrize(
    ("said", "is_ok"),
    [
        ("Terraform v1.11.4", True),
        ("Terraform v1.12.0-rc1", True),
        ("Terraform v1.10.5", False),
        ("Terraform v2.0.0", False),
        ("nothing", False),
    ],
)
def test_a_tool_must_have_a_supported_version(tmp_path, said, is_ok):
    (tmp_path / "terraform").touch(mode=0o755)
    environ = {"PATH": str(tmp_path)}
    ask = checks.tool_version(
        ("terraform", "version"),
        environ,
        "make setup",
        at_least=(1, 11),
        below=(2,),
        start=version(said),
    )
    answer = ask("terraform")
    assert (answer.is_ok, answer.expected) == (is_ok, ">= 1.11, < 2")


def test_a_missing_tool_is_not_started(tmp_path):
    ask = checks.tool_version(
        ("docker",), {"PATH": str(tmp_path)}, "get it", at_least=(20,), start=None
    )
    answer = ask("docker")
    assert (answer.is_ok, answer.observed, answer.fix) == (False, "not on PATH", "get it")


def test_a_file_is_named_by_its_path_from_the_root(tmp_path):
    path = tmp_path / "app/Dockerfile"
    assert checks.file_exists(path, tmp_path, "write it")("Dockerfile").expected == "app/Dockerfile"
    path.parent.mkdir()
    path.touch()
    assert checks.file_exists(path, tmp_path, "")("Dockerfile").is_ok


def test_the_table_has_each_fix_beside_its_failure():
    passed = checks.CheckResult("git", "a commit", "a commit", is_ok=True, fix="git commit")
    failed = checks.CheckResult("disk", "room", "none", is_ok=False, fix="make room")
    table = checks.CheckResults((passed, failed)).view()
    assert table.columns[-1] == "fix"
    assert [row[-1] for row in table.rows] == ["", "make room"]
    assert "fix" not in checks.CheckResults((passed,)).view().columns
