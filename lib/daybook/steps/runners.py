"""The runners that GitHub knows of an environment's hosts."""

from __future__ import annotations

import re

from daybook import github
from daybook.steps import common
from daybook.steps.base import Step


def forget(step: Step) -> None:
    """Remove the runners of the environment's hosts from GitHub; each is recorded.

    DaybookError when there is no token, or GitHub refuses.
    """
    here = github.repository(step.target, step.env, step.settings)
    for runner in here.runners():
        if re.fullmatch(rf"{common.prefix(step)}-[0-9]+", runner.name):
            here.remove(runner)
            said = {"action": "deregistered", "what": f"{runner.name} of {here.path}"}
            step.run.write("change", tool="github", **said)
