"""Every failing check has a concrete fix."""

from __future__ import annotations

import ast
import inspect
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daybook import aws, checks, errors, preconditions, secrets
from daybook.approval import identity
from daybook.environment import Environment
from daybook.errors import DaybookError, ToolKilled
from daybook.process import Result
from daybook.settings import Freeze, load
from daybook.target import Target

LIB = Path(checks.__file__).parent
ACCOUNT = "123456789012"
SETTINGS = {
    "app": "hello",
    "account": "sandbox",
    "dns_zone": "daybook.test",
    "domains": ["staging.daybook.test"],
    "vpc_cidr": "10.20.0.0/16",
    "ssh_allowed_cidrs": ["203.0.113.7/32"],
    "secrets": {"TOKEN": "sends mail"},
    "ssh_key": "/nonexistent/key",
    "require_git": "clean",
}
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project without a commit, with two environments that conflict in everything."""
    (tmp_path / "environments").mkdir()
    conflict = {"github": {"repository": "ann/shop"}}
    for env, changes in (("staging", {}), ("production", conflict)):
        text = yaml.safe_dump(SETTINGS | changes)
        (tmp_path / "environments" / f"{env}.yml").write_text(text)
    (tmp_path / "environments/signers").write_text("not a line\n")
    return tmp_path


@pytest.fixture
def failing(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, checks.Check]:
    """Return an instance of each check that must fail, by the name of its function."""
    environ = {"PATH": str(root), "AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-north-1"}
    target = Target("sandbox", ACCOUNT, "us-east-1", environ)
    environment = Environment("staging", root, load(root, "staging"), target)
    frozen = environment.settings.model_copy(
        update={"freezes": (Freeze(since=NOON, until=NOON + timedelta(hours=1), reason="sale"),)}
    )
    late = {"ResponseMetadata": {"HTTPHeaders": {"date": "Thu, 01 Jan 2015 00:00:00 GMT"}}}
    client = SimpleNamespace(
        get_caller_identity=lambda: late,
        get_bucket_location=lambda **_bucket: {"LocationConstraint": "eu-north-1"},
    )
    review = SimpleNamespace(note_problem="no note", environment=environment)
    monkeypatch.setattr(aws, "client", lambda _target, _service: client)
    monkeypatch.setattr(aws, "repository_exists", lambda _target, _name: False)
    monkeypatch.setattr(aws, "zone_id", lambda _target, _name: "")
    monkeypatch.setattr(aws, "bucket_exists", lambda _target, name: name == "moved")
    monkeypatch.setattr(secrets.Store, "current", lambda _store: {"OLD": None})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    monkeypatch.setenv("DAYBOOK_SSH_KEY", "")
    return {
        "tool_version": checks.tool_version(("x",), environ, "make setup", at_least=(1,)),
        "file_exists": checks.file_exists(root / "none", root, "git checkout none"),
        "bucket_exists": checks.bucket_exists(target, "none", "daybook run bootstrap"),
        "repository_exists": checks.repository_exists(target, "none", "daybook run bootstrap"),
        "zone_exists": checks.zone_exists(target, "none", "daybook run bootstrap"),
        "secrets_are_set": checks.secrets_are_set(environment),
        "programs_are_installed": preconditions.programs_are_installed(target),
        "region_matches": preconditions.region_matches(target),
        "bucket_is_in_region": preconditions.bucket_is_in_region(target, "moved"),
        "names_are_unique": preconditions.names_are_unique(environment),
        "repositories_match": preconditions.repositories_match(environment),
        "checkout_is_clean": preconditions.checkout_is_clean(root, "clean"),
        "commit_is_reviewed": preconditions.commit_is_reviewed(review),
        "clock_is_accurate": preconditions.clock_is_accurate(target),
        "disk_has_space": preconditions.disk_has_space(root),
        "no_freeze": preconditions.no_freeze(frozen, override="", now=NOON),
        "is_known": identity.is_known(environment, identity.Signers),
        "signers_are_usable": identity.signers_are_usable(root),
    }


def builders(module: ModuleType) -> list[str]:
    """Return the public functions of a module that build a check."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return [
        name
        for name, function in functions
        if function.__module__ == module.__name__
        and function.__annotations__.get("return") == "Check"
    ]


def test_every_failing_check_has_a_concrete_fix(failing):
    results = [check(name) for name, check in failing.items()]
    assert [result.name for result in results if result.is_ok is not False] == []
    vague = [result for result in results if len(result.fix.split()) < 2]
    assert vague == []
    assert [result for result in results if not (result.expected and result.observed)] == []


def test_every_check_has_a_failing_instance_here(failing):
    names = [name for module in (checks, preconditions, identity) for name in builders(module)]
    assert len(names) >= 18
    assert set(names) == set(failing)


def error_classes(cls: type[DaybookError] = DaybookError) -> list[type[DaybookError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in error_classes(child))]


@given(
    st.one_of(
        st.builds(
            lambda cls, message, next: cls(message, next=next),
            st.sampled_from([cls for cls in error_classes() if cls is not ToolKilled]),
            st.text(),
            st.none() | st.text(),
        ),
        st.builds(OSError, st.sampled_from([*errors.SYSTEM_ERRORS, 9999]), st.text()),
    )
)
def test_an_error_in_a_check_has_a_fix(err):
    def check(_name: str) -> checks.CheckResult:
        raise err

    down = Target("sandbox", ACCOUNT, "us-east-1", {}, is_up=False)
    for result in checks.run_checks(down, {"broken": check}, {}).failed:
        assert result.fix, result


@pytest.mark.parametrize("sandbox", [True, False])
@pytest.mark.parametrize("is_up", [True, False])
def test_a_target_without_an_answer_has_a_fix(monkeypatch, sandbox, is_up):
    monkeypatch.setattr(aws, "caller", lambda _target: {"account": "1", "arn": "arn:x"})
    target = Target("sandbox" if sandbox else "aws", ACCOUNT, "us-east-1", {}, is_up=is_up)
    [result] = checks.run_checks(target, {}, {}).failed
    assert len(result.fix.split()) >= 2


def test_a_tool_without_a_readable_version_has_a_fix(tmp_path):
    (tmp_path / "x").touch(mode=0o755)
    check = checks.tool_version(
        ("x",),
        {"PATH": str(tmp_path)},
        "make setup",
        at_least=(1,),
        start=lambda command, **_options: Result(tuple(command), 0, 0.1, ("?",)),
    )
    assert check("x") == checks.CheckResult("x", ">= 1", "no readable version", False, "make setup")


def results_that_can_fail() -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the location and fix of each CheckResult in the library that can be a failure."""
    for path in sorted(LIB.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or name_of(node.func) != "CheckResult":
                continue
            given = dict(enumerate(node.args)) | {word.arg: word.value for word in node.keywords}
            is_ok = given.get("is_ok", given.get(3))
            if isinstance(is_ok, ast.Constant) and is_ok.value is not False:
                continue
            yield f"{path.relative_to(LIB)}:{node.lineno}", given.get("fix", given.get(4))


def name_of(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def test_every_result_in_the_library_that_can_fail_has_a_fix():
    fixes = list(results_that_can_fail())
    assert len(fixes) > 30
    for location, fix in fixes:
        assert fix is not None, f"{location} has no fix"
        assert not (isinstance(fix, ast.Constant) and not fix.value), f"{location}: empty fix"
        assert name_of(fix) != "next", f"{location}: an error's next may be empty"
