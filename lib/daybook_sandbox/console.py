"""A machine's console, and the SSH host keys that its first boot prints there."""

from __future__ import annotations

import calendar
import re
import threading
import time
from pathlib import Path

from daybook_sandbox.state import write_private

_BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.S)
_KEY = re.compile(r"((?:ssh|ecdsa)-\S+ [A-Za-z0-9+/=]+)")
_lock = threading.Lock()


def host_keys(text: str) -> list[str]:
    """Return the host keys between cloud-init's markers: ["ssh-ed25519 AAAA…", …]."""
    block = _BLOCK.search(text)
    return _KEY.findall(block.group(1)) if block else []


def remember(known_hosts: Path, instance_id: str, keys: list[str]) -> None:
    """Store a machine's host keys under its instance id, which is never reused."""
    _rewrite(known_hosts, instance_id, [f"{instance_id} {key}" for key in keys])


def forget(known_hosts: Path, instance_id: str) -> None:
    """Remove a machine's host keys."""
    _rewrite(known_hosts, instance_id, [])


def timestamp(moment: str) -> float:
    """Return a Docker timestamp (2025-01-31T12:00:00.123456789Z) as seconds since 1970."""
    whole, _, fraction = moment.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds + float(f"0.{fraction or 0}")


def _rewrite(known_hosts: Path, instance_id: str, lines: list[str]) -> None:
    with _lock:
        kept = known_hosts.read_text().splitlines() if known_hosts.exists() else []
        kept = [line for line in kept if not line.startswith(f"{instance_id} ")]
        write_private(known_hosts, "".join(f"{line}\n" for line in kept + lines))
