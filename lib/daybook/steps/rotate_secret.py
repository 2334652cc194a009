"""Rotate a secret: a new value, the release that runs with it, and the value before retired."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from daybook import checks, secrets, ui
from daybook.approval import gate
from daybook.errors import ApplyFailed, PreflightFailed, SettingsError
from daybook.hosts.states import HostState
from daybook.plan import Change, Plan
from daybook.steps import parameters
from daybook.steps.release_step import RELEASE, ImageRef, ReleaseStep

SET, RETIRE = "set", "retire"


class RotateSecret(ReleaseStep):
    """Bring the newest value of a secret to every host; in JupyterLab, ask for a new one first.

    A value that was set before and runs nowhere yet is taken as the new one.
    """

    name = "secrets"
    next = "make the retired value invalid where it was issued: {env} uses it no more"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        name: str = ""
        """The secret, as in the settings: DATABASE_URL."""

    parameters: Parameters

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {**super().local_checks(), "secret": self._is_declared}

    def make_plan(self) -> Plan:
        hosts, versions = self.host_states(), self.secret_versions()
        is_typed = gate.somebody_is_there() and self._runs_everywhere(hosts, versions)
        versions[self.secret] += is_typed
        address = f"{self._store.path}/{self.secret} version {versions[self.secret]}"
        typed = (Change(SET, address, "asked for when this is applied"),) if is_typed else ()
        planned = self.plan_release(
            _one_release(self.env, hosts), hosts, versions, before=typed, secret=self.secret
        )
        retired = (
            Change(RETIRE, self._address(each), "once no host has it")
            for each in self._older(versions[self.secret])
        )
        return replace(planned, changes=(*planned.changes, *retired))

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            line = f"A new value: daybook secrets set {self.secret} -e {self.env}"
            title = f"No changes: every host has the newest value of {self.secret}"
            return ui.Notice(title, ui.OK, (line,))
        if plan.of(SET):
            self._set(plan.basis["secrets"][self.secret])
        if plan.of(RELEASE):
            return self.release(plan, plan.basis["digest"])
        return ui.Notice("Every host has the newest value already", ui.OK)

    def look(self) -> ui.Shown:
        """Look at every host as after a release; then retire what nothing uses any more."""
        wanted = self._plan.basis["secrets"][self.secret]
        for each in self.host_states():
            _require_version(each, self.secret, wanted)
        seen = super().look()
        for version in self._older(wanted):
            self._store.retire(self.secret, version.number)
            self.run.changed(tool="daybook", action="retired", what=self._address(version))
        return seen

    @property
    def secret(self) -> str:
        """Return the name of the secret to rotate."""
        return self.parameters.name

    @property
    def _store(self) -> secrets.Store:
        return secrets.Store(self.environment)

    def _is_declared(self, name: str) -> checks.CheckResult:
        declared = sorted(self.settings.secrets)
        expected = f"one of {', '.join(declared)}" if declared else "a secret in the settings"
        is_ok = self.secret in declared
        fix = f"-p name NAME; declare a new one in environments/{self.env}.yml"
        return checks.CheckResult(name, expected, self.secret or "no name", is_ok, fix)

    def _runs_everywhere(self, hosts: Sequence[HostState], versions: Mapping[str, int]) -> bool:
        newest = versions[self.secret]
        return all(
            each.current and each.current.secrets.get(self.secret) == newest for each in hosts
        )

    def _older(self, wanted: int) -> list[secrets.Version]:
        """Return the versions before the wanted one that are not retired yet."""
        found = self._store.history(self.secret)
        return [each for each in found if each.number < wanted and not each.is_retired]

    def _address(self, version: secrets.Version) -> str:
        return f"{self._store.path}/{version.name} version {version.number}"

    def _set(self, expected: int) -> None:
        """Ask for the value and set it; it is in no cell, no parameter and no record."""
        if not gate.somebody_is_there():
            raise SettingsError(
                f"{self.secret} must be entered interactively; no terminal is attached.",
                next=f"daybook secrets set {self.secret} -e {self.env}, then this step anew",
            )
        value = _typed(self.secret)
        self.run.hide(self.secret, value)
        self.lock.verify_held()
        number = self._store.put(self.secret, value, f"{self.by()}; {self.run.id}")
        address = f"{self._store.path}/{self.secret} version {number}"
        self.run.changed(tool="daybook", action=SET, what=address)
        if number != expected:
            raise ApplyFailed(
                f"Somebody else has set {self.secret} meanwhile.",
                expected=f"version {expected}",
                observed=f"version {number}",
                changed=f"{address} was set; no host has it.",
                next="agree on who rotates, then run this step again",
            )


def _typed(name: str) -> str:
    """Ask twice, without showing it."""
    value = getpass.getpass(f"New value of {name}: ")
    problem = secrets.problem_of(value)
    if problem or getpass.getpass("Once more: ") != value:
        raise SettingsError(
            f"{name} {problem}." if problem else "The two are not the same.",
            next="run this cell again",
        )
    return value


def _one_release(env: str, serving: Sequence[HostState]) -> ImageRef:
    """Return the release that every host serves; PreflightFailed when there is no such one."""
    found = {
        (each.current.digest, each.current.version) if each.current else ("", "nothing")
        for each in serving
    }
    if len(found) != 1 or ("", "nothing") in found:
        raise PreflightFailed(
            f"The hosts of {env} serve no one release.",
            observed=", ".join(sorted(version for _, version in found)),
            next=f"daybook run deploy -p env {env}",
        )
    return ImageRef(*found.pop(), "what runs")


def _require_version(serving: HostState, name: str, wanted: int) -> None:
    found = serving.current.secrets.get(name) if serving.current else None
    if found != wanted:
        raise ApplyFailed(
            f"{serving.host.name} has another value of {name}.",
            expected=f"version {wanted}",
            observed=f"version {found}",
            next="run this step again",
        )
