"""Roll back: return every host to an earlier release, with its settings and secrets."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from daybook import aws, ui
from daybook.errors import PreflightFailed
from daybook.hosts import client
from daybook.hosts.states import HostState
from daybook.plan import Change, Plan
from daybook.steps import parameters
from daybook.steps.release_step import HostChange, ReleasePlan, ReleaseStep

REPLACED = "replaced"
SERVED = (REPLACED, "rolled back", "serving")


class Rollback(ReleaseStep):
    """Return to an earlier release: image, compose file, settings and secrets."""

    name = "rollback"
    next = "open the page; for the cause: daybook release list {env}"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        release: str = ""
        """An id from `daybook release list`; "" for the previous one."""

    parameters: Parameters

    def make_plan(self) -> Plan:
        states = self.host_states()
        release = self._release(self.parameters.release, states)
        releases = {state.host.name: counterpart(state, release) for state in states}
        changing = [s for s in states if releases[s.host.name].id != s.status.current]
        changes = [
            Change(
                "go back",
                state.host.name,
                f"to {release.version} of {releases[state.host.name].at} "
                f"in place of {state.version}",
            )
            for state in changing
        ]
        basis = {
            **self.environment.digest_context,
            "environment": self.env,
            "version": release.version,
            "releases": {name: release.id for name, release in releases.items()},
            "hosts": {state.host.name: state.status.current for state in states},
        }
        differences = [row for state in changing[:1] for row in self._differences(state, release)]
        title = f"{self.run.title}: back to {release.version}"
        return ReleasePlan(title, tuple(changes), basis, differences=tuple(differences))

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this release", ui.OK)
        named = {change.address for change in plan.changes}

        def change(before: HostState) -> HostChange:
            host, id = before.host, plan.basis["releases"][before.host.name]
            facts = {"by": self.by(), "run": self.run.id}
            return HostChange(before, lambda tell: host.roll_back(id, on_progress=tell, **facts))

        return self.roll_out(
            [change(state) for state in self.host_states() if state.host.name in named]
        )

    def _release(self, id: str, states: Sequence[HostState]) -> client.Release:
        """Return the release to go back to; its image is on every host or in ECR.

        Without an id it is the release that was replaced last, never one that was rolled back.
        With an id it may also be one host's current release, for the other hosts to return to.
        """
        offered = [release for state in states for release in can_go_back_to(state)]
        offered += [state.current for state in states if state.current]
        previous = [release for state in states for release in before(state)]
        for release in offered if id else previous:
            if id in ("", release.id):
                self._require_image(release, states)
                return release
        raise PreflightFailed(
            f"There is no release {id or 'before this one'} to go back to.",
            expected=", ".join(dict.fromkeys(release.id for release in offered))
            or "a release that served",
            next=f"daybook release list {self.env}",
        )

    def _require_image(self, release: client.Release, states: Sequence[HostState]) -> None:
        is_on_hosts = all(counterpart(state, release).image_here for state in states)
        if is_on_hosts or aws.image_digest(self.target, self.settings.app, release.digest):
            return
        raise PreflightFailed(
            f"The image of {release.id} is neither on the hosts nor in ECR.",
            expected=release.digest,
            next=f"choose another: daybook release list {self.env}",
        )

    def _differences(self, state: HostState, release: client.Release) -> list[tuple[str, str, str]]:
        return differences(state.host, state.current, counterpart(state, release))


def can_go_back_to(state: HostState) -> list[client.Release]:
    """Return the releases that served on a host before the current one, the newest first."""
    return [
        release
        for release in state.releases
        if release.result in SERVED and release.id != state.status.current
    ]


def before(state: HostState) -> list[client.Release]:
    """Return the releases that were replaced before a host's current one, the newest first."""
    current = state.status.current or ""
    return [r for r in can_go_back_to(state) if r.result == REPLACED and r.id < current]


def counterpart(state: HostState, release: client.Release) -> client.Release:
    """Return a host's own release with the same content; PreflightFailed if it has none."""
    equal = [own for own in state.releases if own.result in SERVED and own.is_like(release)]
    of_same_run = [own for own in equal if own.run == release.run]
    if equal:
        return (of_same_run or equal)[0]
    raise PreflightFailed(
        f"{state.host.name} never served {release.version} of {release.id}.",
        expected=f"{release.digest} with the same versions of the secrets",
        next="release that version with `daybook run deploy` instead",
    )


def differences(
    host: client.Host, current: client.Release | None, earlier: client.Release
) -> list[tuple[str, str, str]]:
    """Return the differences of two releases of a host: (subject, current, earlier)."""
    rows = [("version", current.version if current else "none", earlier.version)]
    rows += [("image", current.digest[:19] if current else "none", earlier.digest[:19])]
    secrets = dict(current.secrets) if current else {}
    rows += [
        (name, _version(secrets.get(name)), _version(earlier.secrets.get(name)))
        for name in sorted(secrets.keys() | earlier.secrets.keys())
    ]
    if current:
        rows.append(("settings of the host", current.settings[:19], earlier.settings[:19]))
        files = [host.show(release.id)["compose"].splitlines() for release in (current, earlier)]
        rows += list(_changed(*files))
    return [row for row in rows if row[1] != row[2]]


def _changed(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the differing lines of two compose files, one row each."""
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return [
        ("compose.yaml", *((text, "") if sign == "-" else ("", text)))
        for sign, text in ((line[0], line[1:].strip()) for line in changed)
    ]


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
