"""What is done to an environment's machines before they are destroyed, and to their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from daybook import terraform
from daybook.aws import instances
from daybook.errors import SettingsError
from daybook.target import Target

ALL = "all"


@dataclass(frozen=True)
class Retirement:
    """Machines with their disks; skipped: those by name or id, or `all`, that are not copied."""

    hosts: tuple[instances.Instance, ...]
    skipped: frozenset[str] = frozenset()

    def require_names(self) -> None:
        """Raise SettingsError when something is skipped that the machines have not."""
        known = {ALL, *(n for h in self.hosts for n in (h.id, h.name, *(d.id for d in h.disks)))}
        if self.hosts and (unknown := sorted(self.skipped - known)):
            raise SettingsError(
                f"skip_snapshots names what is not there: {', '.join(unknown)}.",
                expected=", ".join(sorted(known)),
                next="name a volume or a host of the plan, or all",
            )

    def tasks(self) -> list[terraform.Change]:
        """Return each thing to do as a change of a plan, and what becomes of each disk's data."""
        return [task for host in self.hosts for task in self._tasks(host)]

    def carry_out(
        self, target: Target, tags: Mapping[str, str], did: Callable[[str, str], None]
    ) -> None:
        """Lift protection, stop what writes, then wait for a whole snapshot of every disk.

        tags: what the snapshots carry. did: is told what was done to what.
        """
        for host in self.hosts:
            if host.is_protected:
                instances.unprotect(target, host)
                did("lifted", f"termination protection of {host.name}")
        busy = [host for host in self.hosts if self._must_stop(host)]
        if busy:
            instances.stop(target, [host.id for host in busy])
            did("stopped", ", ".join(host.name for host in busy))
        instances.wait(target, list(self._copies(target, tags, did)))

    def _copies(self, target, tags, did) -> Iterator[str]:
        for host in self.hosts:
            for disk in host.disks:
                where = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
                if self._is_skipped(host, disk):
                    did("no snapshot", f"of {where}: declined by name")
                elif disk.snapshot:
                    yield disk.snapshot
                else:
                    yield (made := instances.snapshot(target, host, disk, tags))
                    did(f"snapshot {made}", f"of {where}")

    def _tasks(self, host: instances.Instance) -> Iterator[terraform.Change]:
        if host.is_protected:
            yield terraform.Change(f"termination protection of {host.name}", "lift")
        if self._must_stop(host):
            yield terraform.Change(f"{host.name} ({host.id})", "stop")
        for disk in host.disks:
            name = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
            if self._is_skipped(host, disk):
                yield terraform.Change(name, "discard", reason="no copy of its data, as declined")
            elif disk.snapshot:
                yield terraform.Change(name, "keep", reason=f"its data is in {disk.snapshot}")
            else:
                yield terraform.Change(name, "snapshot", reason="a last copy of its data")

    def _must_stop(self, host: instances.Instance) -> bool:
        is_copied = any(
            not disk.snapshot and not self._is_skipped(host, disk) for disk in host.disks
        )
        return is_copied and host.state != "stopped"

    def _is_skipped(self, host: instances.Instance, disk: instances.Disk) -> bool:
        return bool({ALL, host.id, host.name, disk.id} & self.skipped)
