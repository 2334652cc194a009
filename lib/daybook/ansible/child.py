"""The process in which ansible-runner works: prints one line an event.

    python child.py PLAYBOOK INVENTORY PROJECT_DIR [ANSIBLE_PLAYBOOK_OPTION...] < variables.json

A process of its own because ansible-runner keeps signal handlers, the environment and files
after it has run, and because its own command line kills the play on SIGINT.
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
TOLD = ("play", "task", "task_uuid", "role", "host", "duration", "ignore_errors")
TOLD_OF_RESULT = ("changed", "msg", "stderr", "stdout", "rc", "item", "censored")
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
"""Folders of ansible/ in place of ~/.ansible and /usr/share/ansible, which are in no commit."""
STATS = ("ok", "changed", "failures", "dark", "skipped", "processed")


def main(playbook: str, inventory: str, project_dir: str, *options: str) -> int:
    """Play a playbook with the variables of standard input; return ansible-playbook's code."""
    variables = json.load(sys.stdin)
    # ansible-runner writes the whole environment and all variables into this directory.
    # Its name is short: the path of an SSH control socket in it may have 104 characters.
    with tempfile.TemporaryDirectory(prefix="daybook-", dir=memory()) as private:
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
            event_handler=tell,
            # Without one ansible-runner takes the signals, and kills the play for them.
            cancel_callback=lambda: False,
            quiet=True,
        )
        return runner.rc


def memory() -> Path | None:
    """Return a folder that is on no disk, where there is one: variables may be secrets.

    None leaves it to Python, which asks TMPDIR first.
    """
    is_chosen = "TMPDIR" in os.environ
    return SHARED_MEMORY if not is_chosen and os.access(SHARED_MEMORY, os.W_OK) else None


def environment(private: str, stop: Path, project: Path) -> dict[str, str]:
    """Return what ansible-playbook gets besides this process's own environment."""
    return {
        **{name: str(project / "ansible" / folder) for name, folder in PLUGINS.items()},
        "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
        "ANSIBLE_HOME": f"{private}/home",
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        # ansible-runner turns this off unless it is set.
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{private}/cp",
        "DAYBOOK_STOP": str(stop),
    }


def tell(event: dict) -> bool:
    """Print what of an event is of use, on a line; False keeps it off the disk."""
    data = event.get("event_data", {})
    said = {"event": event["event"], **{key: data[key] for key in TOLD if data.get(key)}}
    if isinstance(result := data.get("res"), dict):
        said["res"] = {key: result[key] for key in TOLD_OF_RESULT if result.get(key)}
    if event["event"] == "playbook_on_stats":
        said["stats"] = {key: data.get(key, {}) for key in STATS}
    elif event["event"] in ("error", "warning", "verbose"):
        said["text"] = event.get("stdout", "")
    print(json.dumps(said), flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
