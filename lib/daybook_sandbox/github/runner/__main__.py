"""The commands of config.sh and run.sh: configure, remove, run; hosted: one job from stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from daybook_sandbox.github.runner import configure, listener
from daybook_sandbox.github.runner.link import Link


def main(command: str, *arguments: str) -> int:
    """Run a command in this folder and return the exit code."""
    match command:
        case "configure":
            return configure.configure(Path.cwd(), arguments)
        case "remove":
            return configure.remove(Path.cwd(), arguments)
        case "run":
            return listener.run(Path.cwd())
        case "hosted":
            task = json.load(sys.stdin)
            return listener.work(Link(task["url"], task["token"]), task["job"], Path.cwd())
    print(f"Unrecognized command-line input arguments: '{command}'", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["run"]))
