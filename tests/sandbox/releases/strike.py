"""Run the release program, and strike before or after one step: python3 strike.py HOW WHEN STEP …

kill: end as by `kill -9`. wait: say so and stay there, until somebody cuts the power. Anything
else is a command line, after which the program goes on.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys

sys.path.insert(0, "/usr/local/sbin/release")

from daybook_release import cli, rollout

how, when, name, *arguments = sys.argv[1:]
step = getattr(rollout.Rollout, name)


def strike() -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "wait":
        print("struck", flush=True)
        signal.pause()
    else:
        subprocess.run(how, shell=True, check=True)


@functools.wraps(step)
def struck(self: rollout.Rollout) -> str:
    if when == "before":
        strike()
    said = step(self)
    if when == "after":
        strike()
    return said


setattr(rollout.Rollout, name, struck)
sys.exit(cli.main(arguments))
