"""The last snapshots of an environment's disks, taken before its machines are destroyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from daybook.errors import SettingsError
from daybook.plan import Change
from daybook.resources import instances
from daybook.target import Target

ALL = "all"


@dataclass(frozen=True)
class FinalSnapshots:
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

    def changes(self) -> list[Change]:
        """Return each thing to do as a change of a plan, and what becomes of each disk's data."""
        return [change for host in self.hosts for change in self._changes(host)]

    def carry_out(
        self, target: Target, tags: Mapping[str, str], on_change: Callable[[str, str], None]
    ) -> None:
        """Lift protection, stop what writes, then wait for a whole snapshot of every disk.

        tags: what the snapshots carry. on_change: is told what was done to what.
        """
        for host in self.hosts:
            if host.is_protected:
                instances.unprotect(target, host)
                on_change("lifted", f"termination protection of {host.name}")
        busy = [host for host in self.hosts if self._must_stop(host)]
        if busy:
            instances.stop(target, [host.id for host in busy])
            on_change("stopped", ", ".join(host.name for host in busy))
        instances.wait(target, list(self._copies(target, tags, on_change)))

    def _copies(self, target, tags, on_change) -> Iterator[str]:
        for host in self.hosts:
            for disk in host.disks:
                where = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
                if self._is_skipped(host, disk):
                    on_change("no snapshot", f"of {where}: declined by name")
                elif disk.snapshot:
                    yield disk.snapshot
                else:
                    yield (made := instances.snapshot(target, host, disk, tags))
                    on_change(f"snapshot {made}", f"of {where}")

    def _changes(self, host: instances.Instance) -> Iterator[Change]:
        if host.is_protected:
            yield Change("lift", f"termination protection of {host.name}")
        if self._must_stop(host):
            yield Change("stop", f"{host.name} ({host.id})")
        for disk in host.disks:
            name = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
            if self._is_skipped(host, disk):
                yield Change("discard", name, "no copy of its data, as declined")
            elif disk.snapshot:
                yield Change("keep", name, f"its data is in {disk.snapshot}")
            else:
                yield Change("snapshot", name, "a last copy of its data")

    def _must_stop(self, host: instances.Instance) -> bool:
        is_copied = any(
            not disk.snapshot and not self._is_skipped(host, disk) for disk in host.disks
        )
        return is_copied and host.state != "stopped"

    def _is_skipped(self, host: instances.Instance, disk: instances.Disk) -> bool:
        return bool({ALL, host.id, host.name, disk.id} & self.skipped)
