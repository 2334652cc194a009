"""Print pending updates, reasons for a reboot, the running kernel and the time of boot as JSON.

{"kernel": "6.12.48+deb13-cloud-amd64", "updates": ["libc6 2.41-12 to 2.41-13"],
 "reboot_for": ["linux-image-cloud-amd64"], "up_since": "Mon 2026-11-23 23:31:01 UTC"}
"""

import json
import os
import re
import subprocess
from pathlib import Path

UPGRADE = ("apt-get", "--quiet", "--simulate", "--with-new-pkgs", "upgrade")
BOOT_TIME = ("systemctl", "show", "--property=UserspaceTimestamp", "--value")


def output(*command):
    """Return a command's output in English, as the patterns below expect."""
    return subprocess.check_output(command, text=True, env={**os.environ, "LC_ALL": "C"}).strip()


def updates():
    """Return the packages that an upgrade would install: ["libc6 2.41-12 to 2.41-13"]."""
    packages = re.findall(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)", output(*UPGRADE), re.MULTILINE)
    return sorted(
        f"{name} {old} to {new}" if old else f"{name} {new}" for name, old, new in packages
    )


def reboot_reasons(running):
    """Return the packages that require a reboot, or a kernel newer than the running one."""
    packages = Path("/run/reboot-required.pkgs")
    if packages.exists():
        return sorted(set(packages.read_text().split()))
    if Path("/run/reboot-required").exists():
        return ["an update"]
    kernels = sorted(Path("/boot").glob("vmlinuz-*"), key=version)
    newest = kernels[-1].name.removeprefix("vmlinuz-") if kernels else running
    is_installed = Path(f"/boot/vmlinuz-{running}") in kernels
    return [f"kernel {newest}"] if is_installed and newest != running else []


def version(path):
    """Return a sort key that puts 6.12.9 before 6.12.10."""
    return [int(part) if part.isdigit() else -1 for part in re.split(r"(\d+)", path.name)[1:]]


if __name__ == "__main__":
    kernel = os.uname().release
    print(
        json.dumps(
            {
                "kernel": kernel,
                "updates": updates(),
                "reboot_for": reboot_reasons(kernel),
                "up_since": output(*BOOT_TIME),
            }
        )
    )
