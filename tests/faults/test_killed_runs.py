"""Runs killed at a chosen moment: the next run finishes the work without orphaned resources."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


def test_a_provision_killed_twice_is_finished_by_the_third_run(survive):
    survive(
        "provision",
        ("kernel, SIGKILL", r"created +aws_vpc\.this"),
        ("daybook run, SIGTERM", r"creating aws_instance"),
    )


def test_a_killed_teardown_is_finished_by_the_next_run(survive):
    survive("teardown", ("daybook run, SIGKILL", r"destroyed +aws_route"))
