"""Print each service that does not run, or started before one of its files was written.

    python3 stale.py '[{"name": "docker", "files": ["/etc/docker/daemon.json"]}]'

Handlers are lost when a play is killed; this finds the restarts that are still due.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

PROPERTIES = "UnitFileState,ActiveState,ConditionResult,ConditionTimestamp,StateChangeTimestamp"


def is_stale(name, files):
    """Tell whether a service must be started, enabled, restarted or reloaded."""
    properties = show(name)
    if properties["ActiveState"] == "active":
        since_s = seconds(properties["StateChangeTimestamp"])
    elif properties["ActiveState"] == "inactive" and properties["ConditionResult"] == "no":
        # systemd tried to start it, but a condition of the unit excludes this machine.
        since_s = seconds(properties["ConditionTimestamp"])
    else:
        return True
    is_enabled = properties["UnitFileState"] in ("enabled", "static")
    return not is_enabled or any(os.stat(file).st_ctime > since_s for file in files)


def show(name):
    """Return the properties of a unit: {"ActiveState": "active", ...}."""
    command = ["systemctl", "show", "--timestamp=us+utc", "--property", PROPERTIES, name]
    lines = subprocess.check_output(command, text=True).splitlines()
    return dict(line.split("=", 1) for line in lines)


def seconds(text):
    """Return systemd's "Mon 2026-11-23 23:31:01.123456 UTC" in seconds, "" as 0.0."""
    if not text:
        return 0.0
    moment = datetime.strptime(text.split(" ", 1)[1], "%Y-%m-%d %H:%M:%S.%f UTC")
    return moment.replace(tzinfo=UTC).timestamp()


if __name__ == "__main__":
    for service in json.loads(sys.argv[1]):
        if is_stale(service["name"], service["files"]):
            print(service["name"])
