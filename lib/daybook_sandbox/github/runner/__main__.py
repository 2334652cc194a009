"""What config.sh and run.sh start: configure, remove, run; hosted: one job, told on stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from daybook_sandbox.github.runner import configure, listener
from daybook_sandbox.github.runner.link import Link


def main(command: str, *given: str) -> int:
    """Do one of them in this folder and return the exit code."""
    match command:
        case "configure":
            return configure.configure(Path.cwd(), given)
        case "remove":
            return configure.remove(Path.cwd(), given)
        case "run":
            return listener.run(Path.cwd())
        case "hosted":
            told = json.load(sys.stdin)
            return listener.work(Link(told["url"], told["token"]), told["job"], Path.cwd())
    print(f"Unrecognized command-line input arguments: '{command}'", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["run"]))
