"""Rotate a secret: set a value, release it, and retire the previous value."""

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
    """Release the newest value of a secret on every host; in JupyterLab, ask for it first.

    A value that was set and not yet released counts as the new one.
    """

    name = "secrets"
    next = "revoke the retired value where it was issued: {env} no longer uses it"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        name: str = ""
        """The secret, as in the settings: DATABASE_URL."""

    parameters: Parameters

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {**super().local_checks(), "secret": self._is_declared}

    def make_plan(self) -> Plan:
        hosts, versions = self.host_states(), self.secret_versions()
        is_typed = gate.is_interactive() and self._runs_everywhere(hosts, versions)
        versions[self.secret] += is_typed
        address = f"{self._store.path}/{self.secret} version {versions[self.secret]}"
        typed = (Change(SET, address, "asked for during apply"),) if is_typed else ()
        planned = self.plan_release(
            _one_release(self.env, hosts), hosts, versions, before=typed, secret=self.secret
        )
        retired = (
            Change(RETIRE, self._address(version), "when no host uses it")
            for version in self._older(versions[self.secret])
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
        """Verify every host as after a release; then retire the unused versions."""
        number = self._plan.basis["secrets"][self.secret]
        for state in self.host_states():
            _require_version(state, self.secret, number)
        view = super().look()
        for version in self._older(number):
            self._store.retire(self.secret, version.number)
            self.run.changed(tool="daybook", action="retired", what=self._address(version))
        return view

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
            host.current and host.current.secrets.get(self.secret) == newest for host in hosts
        )

    def _older(self, number: int) -> list[secrets.Version]:
        """Return the versions before this one that are not retired yet."""
        versions = self._store.history(self.secret)
        return [v for v in versions if v.number < number and not v.is_retired]

    def _address(self, version: secrets.Version) -> str:
        return f"{self._store.path}/{version.name} version {version.number}"

    def _set(self, expected: int) -> None:
        """Ask for the value and set it; no cell, parameter or record has it."""
        if not gate.is_interactive():
            raise SettingsError(
                f"{self.secret} must be entered interactively; no terminal is attached.",
                next=f"daybook secrets set {self.secret} -e {self.env}, then run this step again",
            )
        value = _typed(self.secret)
        self.run.hide(self.secret, value)
        self.lock.verify_held()
        number = self._store.put(self.secret, value, f"{self.by()}; {self.run.id}")
        address = f"{self._store.path}/{self.secret} version {number}"
        self.run.changed(tool="daybook", action=SET, what=address)
        if number != expected:
            raise ApplyFailed(
                f"{self.secret} was set by someone else in the meantime.",
                expected=f"version {expected}",
                observed=f"version {number}",
                changed=f"{address} was set and not released.",
                next="agree on one person to rotate it, then run this step again",
            )


def _typed(name: str) -> str:
    """Ask for the value twice without displaying it."""
    value = getpass.getpass(f"New value of {name}: ")
    problem = secrets.problem_of(value)
    if problem or getpass.getpass("Once more: ") != value:
        raise SettingsError(
            f"{name} {problem}." if problem else "The two values differ.",
            next="run this cell again",
        )
    return value


def _one_release(env: str, states: Sequence[HostState]) -> ImageRef:
    """Return the image that every host serves; PreflightFailed if they differ."""
    served = {
        (state.current.digest, state.current.version) if state.current else ("", "nothing")
        for state in states
    }
    if len(served) != 1 or ("", "nothing") in served:
        raise PreflightFailed(
            f"The hosts of {env} serve different releases or none.",
            observed=", ".join(sorted(version for _, version in served)),
            next=f"daybook run deploy -p env {env}",
        )
    return ImageRef(*served.pop(), "the current release")


def _require_version(state: HostState, name: str, number: int) -> None:
    observed = state.current.secrets.get(name) if state.current else None
    if observed != number:
        raise ApplyFailed(
            f"{state.host.name} has another value of {name}.",
            expected=f"version {number}",
            observed=f"version {observed}",
            next="run this step again",
        )
