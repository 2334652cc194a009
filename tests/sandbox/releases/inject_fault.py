"""Run the release program with a fault at one step: python3 inject_fault.py FAULT WHEN STEP …

FAULT: kill (as by `kill -9`), wait (print "waiting" and block until the power is cut), or a command
line, after which the program continues. WHEN: before or after the step.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys

sys.path.insert(0, "/usr/local/sbin/release")

from daybook_release import cli, rollout

fault, when, name, *arguments = sys.argv[1:]
step = getattr(rollout.Rollout, name)


def inject() -> None:
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "wait":
        print("waiting", flush=True)
        signal.pause()
    else:
        subprocess.run(fault, shell=True, check=True)


@functools.wraps(step)
def faulty(self: rollout.Rollout) -> str:
    if when == "before":
        inject()
    result = step(self)
    if when == "after":
        inject()
    return result


setattr(rollout.Rollout, name, faulty)
sys.exit(cli.main(arguments))
