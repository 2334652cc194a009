"""The final snapshots of an environment's disks, taken before its hosts are destroyed."""

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
    """Hosts with their disks. skipped: names or ids of hosts or disks to exclude, or `all`."""

    hosts: tuple[instances.Instance, ...]
    skipped: frozenset[str] = frozenset()

    def require_names(self) -> None:
        """Raise SettingsError if `skipped` contains an unknown host or disk."""
        known = {ALL, *(n for h in self.hosts for n in (h.id, h.name, *(d.id for d in h.disks)))}
        if self.hosts and (unknown := sorted(self.skipped - known)):
            raise SettingsError(
                f"Unknown in skip_snapshots: {', '.join(unknown)}.",
                expected=", ".join(sorted(known)),
                next="set it to volumes or hosts of the plan, or to all",
            )

    def changes(self) -> list[Change]:
        """Return the actions as changes of a plan, with the fate of each disk's data."""
        return [change for host in self.hosts for change in self._changes(host)]

    def carry_out(
        self, target: Target, tags: Mapping[str, str], on_change: Callable[[str, str], None]
    ) -> None:
        """Lift protection, stop hosts, and wait for a complete snapshot of every disk.

        tags: the tags of the snapshots. on_change: called with action and subject of each change.
        """
        for host in self.hosts:
            if host.is_protected:
                instances.unprotect(target, host)
                on_change("lifted", f"termination protection of {host.name}")
        to_stop = [host for host in self.hosts if self._must_stop(host)]
        if to_stop:
            instances.stop(target, [host.id for host in to_stop])
            on_change("stopped", ", ".join(host.name for host in to_stop))
        instances.wait(target, list(self._snapshot_ids(target, tags, on_change)))

    def _snapshot_ids(self, target, tags, on_change) -> Iterator[str]:
        for host in self.hosts:
            for disk in host.disks:
                name = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
                if self._is_skipped(host, disk):
                    on_change("no snapshot", f"of {name}: skipped by parameter")
                elif disk.snapshot:
                    yield disk.snapshot
                else:
                    yield (id := instances.snapshot(target, host, disk, tags))
                    on_change(f"snapshot {id}", f"of {name}")

    def _changes(self, host: instances.Instance) -> Iterator[Change]:
        if host.is_protected:
            yield Change("lift", f"termination protection of {host.name}")
        if self._must_stop(host):
            yield Change("stop", f"{host.name} ({host.id})")
        for disk in host.disks:
            name = f"{disk.id}, {disk.device} of {host.name}, {disk.size_gib} GiB"
            if self._is_skipped(host, disk):
                yield Change("discard", name, "its data is lost, as requested")
            elif disk.snapshot:
                yield Change("keep", name, f"its data is in {disk.snapshot}")
            else:
                yield Change("snapshot", name, "a final copy of its data")

    def _must_stop(self, host: instances.Instance) -> bool:
        is_copied = any(
            not disk.snapshot and not self._is_skipped(host, disk) for disk in host.disks
        )
        return is_copied and host.state != "stopped"

    def _is_skipped(self, host: instances.Instance, disk: instances.Disk) -> bool:
        return bool({ALL, host.id, host.name, disk.id} & self.skipped)
