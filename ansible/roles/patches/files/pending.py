"""Print as JSON which updates a host has not, what waits for a reboot, and what runs since when.

{"kernel": "6.12.48+deb13-cloud-amd64", "updates": ["libc6 2.41-12 to 2.41-13"],
 "reboot_for": ["linux-image-cloud-amd64"], "up_since": "Mon 2026-11-23 23:31:01 UTC"}
"""

import json
import os
import re
import subprocess
from pathlib import Path

UPGRADE = ("apt-get", "--quiet", "--simulate", "--with-new-pkgs", "upgrade")
BOOTED = ("systemctl", "show", "--property=UserspaceTimestamp", "--value")


def said(*command):
    """Return what a command prints, in the language that the patterns below know."""
    return subprocess.check_output(command, text=True, env={**os.environ, "LC_ALL": "C"}).strip()


def updates():
    """Return what an upgrade would install."""
    found = re.findall(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)", said(*UPGRADE), re.MULTILINE)
    return sorted(f"{name} {old} to {new}" if old else f"{name} {new}" for name, old, new in found)


def reboot_for(kernel):
    """Return the packages that wait for a reboot, or a kernel newer than the one that runs."""
    named = Path("/run/reboot-required.pkgs")
    if named.exists():
        return sorted(set(named.read_text().split()))
    if Path("/run/reboot-required").exists():
        return ["an update"]
    kernels = sorted(Path("/boot").glob("vmlinuz-*"), key=by_version)
    newest = kernels[-1].name.removeprefix("vmlinuz-") if kernels else kernel
    is_here = Path(f"/boot/vmlinuz-{kernel}") in kernels
    return [f"kernel {newest}"] if is_here and newest != kernel else []


def by_version(path):
    """Return what sorts 6.12.9 before 6.12.10."""
    return [int(part) if part.isdigit() else -1 for part in re.split(r"(\d+)", path.name)[1:]]


if __name__ == "__main__":
    kernel = os.uname().release
    print(
        json.dumps(
            {
                "kernel": kernel,
                "updates": updates(),
                "reboot_for": reboot_for(kernel),
                "up_since": said(*BOOTED),
            }
        )
    )
