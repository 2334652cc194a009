"""Run the release program with a fault before or after one step: python3 fault.py FAULT WHEN STEP …

FAULT is kill: end as by `kill -9`; wait: print "paused" and wait to be killed; or a command line to
run, after which the program continues.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys

sys.path.insert(0, "/usr/local/sbin/release")

from daybook_release import cli, rollout

fault, when, step_name, *arguments = sys.argv[1:]
step = getattr(rollout.Rollout, step_name)


def inject_fault() -> None:
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "wait":
        print("paused", flush=True)
        signal.pause()
    else:
        subprocess.run(fault, shell=True, check=True)


@functools.wraps(step)
def step_with_fault(self: rollout.Rollout) -> str:
    if when == "before":
        inject_fault()
    result = step(self)
    if when == "after":
        inject_fault()
    return result


setattr(rollout.Rollout, step_name, step_with_fault)
sys.exit(cli.main(arguments))
