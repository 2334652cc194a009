"""The base of the steps that release: host by host, all hosts or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from daybook import aws, checks, infrastructure, playbooks, probe, secrets, ui
from daybook.errors import DaybookError, Interrupted, VerifyFailed
from daybook.hosts import client, states
from daybook.hosts.states import HostState
from daybook.plan import Change, Plan
from daybook.record import provenance
from daybook.steps.base import Step
from daybook_release import document, rules
from daybook_release.printable import LABEL_CHARS, printable

ANSWER_S = 60
STOP = "sudo release stop"
RELEASE = "release"


@dataclass(frozen=True)
class ImageRef:
    """An image in ECR. digest: "" before it is built. origin: where its name came from."""

    digest: str
    version: str
    origin: str


@dataclass(frozen=True, repr=False)
class ReleasePlan(Plan):
    """A plan that also shows the differences of a release: (subject, now, then)."""

    differences: tuple[tuple[str, str, str], ...] = ()

    def view(self) -> ui.Shown:
        """Show the differences, then one row per host."""
        hosts = super().view()
        if self.is_empty or not self.differences:
            return hosts
        return ui.Stack([ui.Table("Differences", ("", "now", "then"), self.differences), hosts])


@dataclass(frozen=True)
class HostChange:
    """A change of one host, and its state before it. apply: makes it."""

    before: HostState
    apply: Callable[[client.OnProgress], client.Release]


class ReleaseStep(Step):
    """A step that changes the hosts' release, through the program on each host."""

    def local_checks(self) -> Mapping[str, checks.Check]:
        return {"SSH key": playbooks.ssh_key_exists(self.environment)}

    def target_checks(self) -> Mapping[str, checks.Check]:
        environment = self.environment
        bootstrap = infrastructure.BOOTSTRAP_FIRST.format(env=self.env)
        return {
            "inventory": playbooks.inventory_is_known(environment),
            "hosts": playbooks.hosts_are_running(environment),
            "ECR repository": checks.repository_exists(self.target, self.settings.app, bootstrap),
            "secrets": checks.secrets_are_set(environment),
            "release program": self._program_answers,
        }

    def host_states(self) -> list[HostState]:
        """Ask each host for its status and its releases."""
        return states.host_states(self.environment.hosts)

    def secret_versions(self) -> dict[str, int]:
        """Return the newest version of each secret's value: {"DATABASE_URL": 3}."""
        versions = secrets.Store(self.environment).current()
        return {name: version.number for name, version in versions.items()}

    def by(self) -> str:
        """Return the operator's name for the host's list of releases."""
        return provenance.person(self.environment.root)

    def plan_release(
        self,
        image: ImageRef,
        hosts: Sequence[HostState],
        versions: Mapping[str, int],
        *,
        before: tuple[Change, ...] = (),
        **basis: object,
    ) -> ReleasePlan:
        """Plan an image for each host that does not serve it with these secrets and settings.

        versions: of the secrets. before: changes to make before the release.
        """
        changing = [state for state in hosts if not state.serves(image.digest, versions)]
        releases = tuple(
            Change(RELEASE, state.host.name, f"{image.version} in place of {state.version}")
            for state in changing
        )
        covered = {
            **self.environment.digest_context,
            "environment": self.env,
            "digest": image.digest,
            "version": image.version,
            "secrets": dict(versions),
            "hosts": {
                state.host.name: [state.status.current, state.status.settings] for state in hosts
            },
            **basis,
        }
        rows = tuple(row for state in changing for row in _differences(state, image, versions))
        title = f"{self.run.title}: {image.version} from {image.origin}"
        return ReleasePlan(title, (*before, *releases), covered, differences=rows)

    def release(self, plan: Plan, digest: str) -> ui.Table:
        """Release an image on every host that a plan names."""
        image = f"{aws.registry(self.target)}/{self.settings.app}@{digest}"
        facts = {"by": self.by(), "run": self.run.id, "secrets": plan.basis["secrets"]}
        named = {change.address for change in plan.of(RELEASE)}

        def change(before: HostState) -> HostChange:
            return HostChange(
                before, lambda tell: before.host.deploy(image, on_progress=tell, **facts)
            )

        return self.roll_out(
            [change(state) for state in self.host_states() if state.host.name in named]
        )

    def roll_out(self, changes: Sequence[HostChange]) -> ui.Table:
        """Change host by host; at the first failure, roll back the hosts changed so far."""
        rows: list[tuple[object, ...]] = []
        done: list[HostChange] = []
        self._released: dict[str, str] = {}
        with ui.Progress(f"release, {self.env}") as progress:
            for change in changes:
                host = change.before.host
                try:
                    release = change.apply(self._on_progress(host, progress))
                except DaybookError as err:
                    # An interrupted release may have succeeded: the host finishes it by itself.
                    changed = [*done, change] if isinstance(err, Interrupted) else done
                    raise self._after_rollback(err, changed, progress) from err
                done.append(change)
                self._released[host.name] = release.id
                took = ui.duration(release.seconds)
                rows.append((ui.good("serves"), host.name, release.version, took))
        return ui.Table(f"{self.run.title}: released", ("status", "host", "version", "time"), rows)

    def look(self) -> ui.Shown:
        """Ask each host for its release, then the application on it over HTTPS."""
        rows, by_hand = [], []
        for state in self.host_states():
            self._require_released(state)
            url, version = self._version_from_outside(state)
            if version != state.version:
                raise self._differs(state, state.version, f"{url} answers {version}")
            rows.append((ui.good("serving"), url, version, state.host.name))
            by_hand.append(f"By hand: {probe.curl(url, state.host.address, self.target.environ)}")
        title = f"{self.run.title}: seen from outside"
        return ui.Table(title, ("status", "URL", "version", "host"), rows, notes=by_hand)

    def _require_released(self, state: HostState) -> None:
        """Refuse a host without a healthy release, or with another one than this run's."""
        expected = getattr(self, "_released", {}).get(state.host.name, state.status.current)
        if state.current is None or state.status.current != expected:
            raise self._differs(state, expected or "a release", state.status.current or "nothing")
        if not state.status.healthy:
            raise self._differs(state, f"{state.version}, healthy", "not healthy")

    def _differs(self, state: HostState, expected: str, observed: str) -> VerifyFailed:
        return VerifyFailed(
            f"{state.host.name} does not serve the new release.",
            expected=expected,
            observed=observed,
            changed="The release was not undone.",
            next=f"daybook release list {self.env}",
        )

    def _program_answers(self, name: str) -> checks.CheckResult:
        """Check that each host's program answers, and that no release is in progress."""
        statuses = {host.name: host.status() for host in self.environment.hosts}
        busy = [f"{host} is being released" for host, state in statuses.items() if state.deploying]
        served = [f"{host} serves {s.serving_version or 'nothing'}" for host, s in statuses.items()]
        fix = f"wait for it: daybook release current {self.env}; or on the host: {STOP}"
        return checks.CheckResult(name, "answers, idle", ", ".join(busy or served), not busy, fix)

    def _on_progress(self, host: client.Host, progress: ui.Progress) -> client.OnProgress:
        """Return a callback that shows a host's steps and records each that has ended."""

        def on_progress(step: client.RolloutStep) -> None:
            status = {"done": ui.good("done"), "failed": ui.FAILED}.get(step.state, ui.RUNNING)
            progress.row(
                f"{host.name} {step.step}", status, step.text, label=f"{host.name}: {step.step}"
            )
            if step.state != "begun":
                facts = {"action": step.state, "what": step.step, "host": host.name}
                self.run.changed(tool="release", **facts, detail=step.text)

        return on_progress

    def _after_rollback(
        self, err: DaybookError, done: Sequence[HostChange], progress: ui.Progress
    ) -> DaybookError:
        """Roll back the changed hosts, and add the result to the error."""
        results = [self._roll_back(change, progress) for change in reversed(done)]
        if results:
            err.changed = " ".join(filter(None, [err.changed, *results]))
        return err

    def _roll_back(self, change: HostChange, progress: ui.Progress) -> str:
        host, before = change.before.host, change.before.current
        if before is None:
            return f"{host.name} serves its first release; there is no earlier one."
        try:
            if host.status().current == before.id:
                return f"{host.name} serves {before.version}, as before."
            host.roll_back(
                before.id,
                by=self.by(),
                run=self.run.id,
                on_progress=self._on_progress(host, progress),
            )
        except DaybookError as err:
            return f"{host.name} could not be rolled back: {err.message}"
        return f"{host.name} serves {before.version} again."

    def _version_from_outside(self, state: HostState) -> tuple[str, str]:
        """Return a URL of the application and the version that it answers."""
        text = state.host.show(state.current.id)["compose"]
        options = rules.release_options(document.read(text).tree)
        url = f"https://{self.settings.domains[0]}{options.version or options.health}"

        def ask() -> str:
            answer = probe.fetch(url, self.target.environ, at=state.host.address)
            if answer.status_code != 200:
                raise probe.NotYet(f"{url} at {state.host.name}: HTTP {answer.status_code}")
            if not options.version:
                return state.version
            return printable(answer.json()["version"], LABEL_CHARS)

        subject = f"{url} at {state.host.name}"
        return url, probe.wait_until(ask, condition=subject, timeout_s=ANSWER_S)


def _differences(
    state: HostState, image: ImageRef, versions: Mapping[str, int]
) -> list[tuple[str, str, str]]:
    current = state.current
    before = dict(current.secrets) if current else {}
    rows = [("image", current.digest[:19] if current else "none", image.digest[:19])]
    rows += [
        (name, f"version {before[name]}" if name in before else "none", f"version {version}")
        for name, version in sorted(versions.items())
        if before.get(name) != version
    ]
    rows += [(name, f"version {before[name]}", "none") for name in sorted(before.keys() - versions)]
    settings = state.status.settings
    if current and settings and current.settings != settings:
        rows.append(("settings of the host", current.settings[:19], settings[:19]))
    host = state.host.name
    return [(f"{host}: {name}", now, then) for name, now, then in rows if now != then]
