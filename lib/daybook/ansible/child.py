"""Run ansible-runner, and print each event as one line of JSON.

    python child.py PLAYBOOK INVENTORY PROJECT_DIR [ANSIBLE_PLAYBOOK_OPTION...] < variables.json

This is a separate process because ansible-runner leaves signal handlers, environment variables and
files behind, and because its own command line kills the play on SIGINT.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

import ansible_runner

SHARED_MEMORY = Path("/dev/shm")
CALLBACKS = Path(__file__).with_name("callbacks")
EVENT_KEYS = ("play", "task", "task_uuid", "role", "host", "duration", "ignore_errors")
RESULT_KEYS = ("changed", "msg", "stderr", "stdout", "rc", "item", "censored")
PLUGINS = {
    "ANSIBLE_LIBRARY": "library",
    "ANSIBLE_MODULE_UTILS": "module_utils",
    "ANSIBLE_ROLES_PATH": "roles",
    "ANSIBLE_COLLECTIONS_PATH": "collections",
    **{
        f"ANSIBLE_{kind.upper()}_PLUGINS": f"{kind}_plugins"
        for kind in (
            *("action", "become", "cache", "cliconf", "connection", "doc_fragment", "filter"),
            *("httpapi", "inventory", "lookup", "netconf", "strategy", "terminal", "test", "vars"),
        )
    },
}
"""Folders of ansible/ that replace ~/.ansible and /usr/share/ansible, which no commit contains."""
STATS = ("ok", "changed", "failures", "dark", "skipped", "processed")


def main(playbook: str, inventory: str, project_dir: str, *options: str) -> int:
    """Run a playbook with variables from standard input; return ansible-playbook's exit code."""
    variables = json.load(sys.stdin)
    # ansible-runner writes the whole environment and all variables into this directory. Its name is
    # short because the path of an SSH control socket in it may have at most 104 characters.
    with tempfile.TemporaryDirectory(prefix="daybook-", dir=memory_folder()) as private:
        stop = Path(private, "stop")
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: stop.touch())
        runner = ansible_runner.run(
            private_data_dir=private,
            playbook=playbook,
            inventory=inventory,
            project_dir=project_dir,
            extravars=variables,
            cmdline=shlex.join(options),
            envvars=environment(private, stop, Path(project_dir)),
            event_handler=print_event,
            # Without a callback, ansible-runner handles the signals itself and kills the play.
            cancel_callback=lambda: False,
            quiet=True,
        )
        return runner.rc


def memory_folder() -> Path | None:
    """Return a folder in memory if the system has one, because variables may be secrets.

    None stands for Python's default, which TMPDIR sets.
    """
    has_default = "TMPDIR" in os.environ
    return SHARED_MEMORY if not has_default and os.access(SHARED_MEMORY, os.W_OK) else None


def environment(private: str, stop: Path, project: Path) -> dict[str, str]:
    """Return the environment variables that ansible-playbook needs besides this process's own."""
    return {
        **{name: str(project / "ansible" / folder) for name, folder in PLUGINS.items()},
        "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
        "ANSIBLE_HOME": f"{private}/home",
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        # Unless this is set, ansible-runner disables it.
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{private}/cp",
        "DAYBOOK_STOP": str(stop),
    }


def print_event(event: dict) -> bool:
    """Print the relevant parts of an event on one line; False keeps the event off the disk."""
    data = event.get("event_data", {})
    parts = {"event": event["event"], **{key: data[key] for key in EVENT_KEYS if data.get(key)}}
    if isinstance(result := data.get("res"), dict):
        parts["res"] = {key: result[key] for key in RESULT_KEYS if result.get(key)}
    if event["event"] == "playbook_on_stats":
        parts["stats"] = {key: data.get(key, {}) for key in STATS}
    elif event["event"] in ("error", "warning", "verbose"):
        parts["text"] = event.get("stdout", "")
    print(json.dumps(parts), flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
