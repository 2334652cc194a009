"""Runs that are killed in the middle: the next run finishes the work, and nothing is orphaned."""

from __future__ import annotations

import os
import random

import pytest

CASES = 25
SECONDS = {"provision": 40.0, "teardown": 60.0}
"""How long a step about takes: it is killed at any moment of that."""
KILLS = (
    "daybook run, SIGTERM",
    "daybook run, SIGINT",
    "daybook run, SIGKILL",
    "kernel, SIGKILL",
    "kernel, SIGTERM",
)
SEED = int(os.environ.get("DAYBOOK_FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
"""Set DAYBOOK_FAULT_SEED to the printed one to have the same moments again."""

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


def random_faults() -> list[tuple[str, str, float]]:
    """Return step, kill and moment of each case: what is provisioned is then torn down."""
    dice = random.Random(SEED)
    steps = [("provision", "teardown")[number % 2] for number in range(CASES)]
    return [(step, dice.choice(KILLS), dice.uniform(0, SECONDS[step])) for step in steps]


@pytest.mark.faults
@pytest.mark.parametrize(("step", "kill", "when"), random_faults())
def test_a_run_killed_at_any_moment_is_finished_by_the_next(survive, step, kill, when):
    print(f"DAYBOOK_FAULT_SEED={SEED}: {step}, {kill} after {when:.1f} s")
    survive(step, (kill, when))


def test_a_provision_killed_twice_is_finished_by_the_third_run(survive):
    survive(
        "provision",
        ("kernel, SIGKILL", r"created +aws_vpc\.this"),
        ("daybook run, SIGTERM", r"creating aws_instance"),
    )


def test_a_teardown_whose_terminal_was_killed_is_finished_by_the_next_run(survive):
    survive("teardown", ("daybook run, SIGKILL", r"destroyed +aws_route"))
