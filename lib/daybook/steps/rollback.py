"""Roll back: an earlier release on every host, with its settings and its secrets' versions."""

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
    """Go back to a release that served before, whole: image, compose file, settings, secrets."""

    name = "rollback"
    next = "look at the page; what went wrong is in: daybook release list {env}"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        release: str = ""
        """An id of `daybook release list`; "" for the one before."""

    parameters: Parameters

    def make_plan(self) -> Plan:
        given = self.parameters.release
        serving = self.host_states()
        wanted = self._wanted(given, serving)
        back = {each.host.name: counterpart(each, wanted) for each in serving}
        changing = [each for each in serving if back[each.host.name].id != each.status.current]
        changes = [
            Change(
                "go back",
                each.host.name,
                f"to {wanted.version} of {back[each.host.name].at} in place of {each.version}",
            )
            for each in changing
        ]
        basis = {
            **self.environment.digest_context,
            "environment": self.env,
            "version": wanted.version,
            "releases": {name: found.id for name, found in back.items()},
            "hosts": {each.host.name: each.status.current for each in serving},
        }
        differences = [row for each in changing[:1] for row in self._differences(each, wanted)]
        title = f"{self.run.title}: back to {wanted.version}"
        return ReleasePlan(title, tuple(changes), basis, differences=tuple(differences))

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this release", ui.OK)
        named = {each.address for each in plan.changes}

        def change(before: HostState) -> HostChange:
            host, id = before.host, plan.basis["releases"][before.host.name]
            facts = {"by": self.by(), "run": self.run.id}
            return HostChange(before, lambda tell: host.roll_back(id, on_progress=tell, **facts))

        return self.roll_out(
            [change(each) for each in self.host_states() if each.host.name in named]
        )

    def _wanted(self, given: str, serving: Sequence[HostState]) -> client.Release:
        """Return the release that is meant, which ECR must still have where no host has it.

        Without a name it is what was replaced last; never one that was rolled back itself. With
        one it may also be what serves on some host, and so what the others go back to.
        """
        offered = [each for one in serving for each in can_go_back_to(one)]
        offered += [
            each for one in serving for each in one.releases if each.id == one.status.current
        ]
        for found in offered if given else [each for one in serving for each in before(one)]:
            if given in ("", found.id):
                self._require_image(found, serving)
                return found
        raise PreflightFailed(
            f"There is no release {given or 'before this one'} to go back to.",
            expected=", ".join(dict.fromkeys(found.id for found in offered))
            or "a release that served",
            next=f"daybook release list {self.env}",
        )

    def _require_image(self, wanted: client.Release, serving: Sequence[HostState]) -> None:
        is_here = all(counterpart(each, wanted).image_here for each in serving)
        if is_here or aws.image_digest(self.target, self.settings.app, wanted.digest):
            return
        raise PreflightFailed(
            f"The image of {wanted.id} is gone, from the hosts and from ECR.",
            expected=wanted.digest,
            next=f"choose another: daybook release list {self.env}",
        )

    def _differences(
        self, serving: HostState, wanted: client.Release
    ) -> list[tuple[str, str, str]]:
        then = counterpart(serving, wanted)
        return differences(serving.host, serving.current, then)


def can_go_back_to(serving: HostState) -> list[client.Release]:
    """Return the releases that served on a host before the current one, the newest first."""
    return [
        each
        for each in serving.releases
        if each.result in SERVED and each.id != serving.status.current
    ]


def before(serving: HostState) -> list[client.Release]:
    """Return what was replaced on a host before its current release came, the newest first."""
    now = serving.status.current or ""
    return [e for e in can_go_back_to(serving) if e.result == REPLACED and e.id < now]


def counterpart(serving: HostState, wanted: client.Release) -> client.Release:
    """Return a host's own release of the same content; PreflightFailed where it has none."""
    alike = [each for each in serving.releases if each.result in SERVED and each.is_like(wanted)]
    of_one_run = [each for each in alike if each.run == wanted.run]
    if alike:
        return (of_one_run or alike)[0]
    raise PreflightFailed(
        f"{serving.host.name} never served {wanted.version} of {wanted.id}.",
        expected=f"{wanted.digest} with the same versions of the secrets",
        next="release that version with `daybook run deploy` instead",
    )


def differences(
    host: client.Host, now: client.Release | None, then: client.Release
) -> list[tuple[str, str, str]]:
    """Return what two releases of a host differ in: image, secrets, settings, compose file."""
    rows = [("version", now.version if now else "none", then.version)]
    rows += [("image", now.digest[:19] if now else "none", then.digest[:19])]
    before = dict(now.secrets) if now else {}
    rows += [
        (name, _version(before.get(name)), _version(then.secrets.get(name)))
        for name in sorted(before.keys() | then.secrets.keys())
    ]
    if now:
        rows.append(("settings of the host", now.settings[:19], then.settings[:19]))
        said = [host.show(each.id)["compose"].splitlines() for each in (now, then)]
        rows += list(_changed(*said))
    return [row for row in rows if row[1] != row[2]]


def _changed(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the lines in which two compose files differ, one row each."""
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return [
        ("compose.yaml", *((said, "") if sign == "-" else ("", said)))
        for sign, said in ((line[0], line[1:].strip()) for line in changed)
    ]


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
