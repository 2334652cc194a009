"""Print each service that does not run, or runs since before one of its files was written.

    python3 stale.py '[{"name": "docker", "files": ["/etc/docker/daemon.json"]}]'

A handler is lost when its play is killed; this finds the restart that is still due.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

ASKED = "UnitFileState,ActiveState,ConditionResult,ConditionTimestamp,StateChangeTimestamp"


def is_stale(name, files):
    """Tell whether a service has to be started, enabled, restarted or reloaded."""
    said = show(name)
    if said["ActiveState"] == "active":
        since = moment(said["StateChangeTimestamp"])
    elif said["ActiveState"] == "inactive" and said["ConditionResult"] == "no":
        # Tried, and systemd found that this machine is no place for it.
        since = moment(said["ConditionTimestamp"])
    else:
        return True
    is_on = said["UnitFileState"] in ("enabled", "static")
    return not is_on or any(os.stat(file).st_ctime > since for file in files)


def show(name):
    """Return what systemd knows of a service."""
    command = ["systemctl", "show", "--timestamp=us+utc", "--property", ASKED, name]
    lines = subprocess.check_output(command, text=True).splitlines()
    return dict(line.split("=", 1) for line in lines)


def moment(text):
    """Return systemd's "Mon 2026-11-23 23:31:01.123456 UTC" in seconds, 0.0 for never."""
    if not text:
        return 0.0
    found = datetime.strptime(text.split(" ", 1)[1], "%Y-%m-%d %H:%M:%S.%f UTC")
    return found.replace(tzinfo=UTC).timestamp()


if __name__ == "__main__":
    for service in json.loads(sys.argv[1]):
        if is_stale(service["name"], service["files"]):
            print(service["name"])
