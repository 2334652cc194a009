"""The error tree: exit codes, texts and terminal output."""

from __future__ import annotations

import re

import pytest

from daybook import errors
from daybook.errors import ApplyFailed, CommandFailed, DaybookError, SettingsError

DRAWN = dict(re.findall(r"(?m)^\s*[├└│─ ]*([A-Z]\w+)(?: +(\d+))?", errors.__doc__))
WITHOUT_CODE = {"DaybookError", "AlreadyApplied", "ApprovalRefused"}
WITHOUT_CODE |= {"AwsFailed", "ToolKilled", "Unexpected"}
CODES = {name: int(code) for name, code in DRAWN.items() if code}


def tree(cls: type = DaybookError) -> list[type]:
    return [cls, *(found for child in cls.__subclasses__() for found in tree(child))]


def test_the_tree_in_the_docstring_is_complete():
    ours = [cls for cls in tree() if cls.__module__ == "daybook.errors"]
    assert {cls.__name__ for cls in ours} == {*CODES, *WITHOUT_CODE}
    assert {cls.__name__: cls.exit_code for cls in ours if cls.__name__ in CODES} == CODES


def test_each_class_has_one_exit_code():
    assert len(set(CODES.values())) == len(CODES)
    assert set(CODES.values()) == {2, 3, 4, 5, 6, 7, 8, 130}


@pytest.mark.parametrize(
    ("name", "code"),
    [("ApprovalRefused", 4), ("ToolKilled", 5), ("Interrupted", 130), ("KeyError", 5)],
)
def test_an_exit_code_by_class_name(name, code):
    assert errors.exit_code_of(name) == code


def test_the_terminal_gets_expected_observed_and_next():
    error = SettingsError(
        "Unknown environment 'stagin'.",
        expected="staging or production",
        observed="stagin",
        next="daybook run provision -p env staging",
        details=["environments/staging.yml", "environments/production.yml"],
    )
    assert error.lines() == [
        "Unknown environment 'stagin'.",
        "  environments/staging.yml",
        "  environments/production.yml",
        "  expected: staging or production",
        "  observed: stagin",
        "  Nothing was changed.",
        "  Next: daybook run provision -p env staging",
    ]
    assert error._render_traceback_() == [str(error)]


def test_changes_replace_nothing_was_changed():
    error = ApplyFailed("The apply ended early.", changed="Created: aws_vpc.this")
    assert error.lines() == ["The apply ended early.", "  Created: aws_vpc.this"]


def test_a_failed_command_keeps_its_result():
    result = object()
    assert CommandFailed("docker build failed.", result=result).result is result


def test_a_refusal_after_apply_keeps_the_status_of_the_run():
    assert errors.status_of("AlreadyApplied") == ""
    assert errors.exit_code_of("AlreadyApplied") == 2
