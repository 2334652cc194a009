"""Runs that are killed at one moment: the next run finishes the work, and nothing is orphaned."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


def test_a_provision_killed_twice_is_finished_by_the_third_run(survive):
    survive(
        "provision",
        ("kernel, SIGKILL", r"created +aws_vpc\.this"),
        ("daybook run, SIGTERM", r"creating aws_instance"),
    )


def test_a_teardown_whose_terminal_was_killed_is_finished_by_the_next_run(survive):
    survive("teardown", ("daybook run, SIGKILL", r"destroyed +aws_route"))
