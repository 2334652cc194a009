"""What the steps that release share: host after host, all of them or none."""

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
    """A plan that shows besides what the release changes. differences: what, now, then."""

    differences: tuple[tuple[str, str, str], ...] = ()

    def view(self) -> ui.Shown:
        """Show what differs, then one row per host."""
        hosts = super().view()
        if self.is_empty or not self.differences:
            return hosts
        return ui.Stack([ui.Table("What differs", ("", "now", "then"), self.differences), hosts])


@dataclass(frozen=True)
class HostChange:
    """A change of one host, and its state before it. apply: makes it."""

    before: HostState
    apply: Callable[[client.OnProgress], client.Release]


class ReleaseStep(Step):
    """A step that changes what the hosts serve, through the host's own program."""

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
        found = secrets.Store(self.environment).current()
        return {name: version.number for name, version in found.items()}

    def by(self) -> str:
        """Return who releases, as the host remembers it."""
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

        versions: of the secrets. before: what is to be done before the release.
        """
        changing = [each for each in hosts if not each.serves(image.digest, versions)]
        releases = tuple(
            Change(RELEASE, each.host.name, f"{image.version} in place of {each.version}")
            for each in changing
        )
        rests_on = {
            **self.environment.digest_context,
            "environment": self.env,
            "digest": image.digest,
            "version": image.version,
            "secrets": dict(versions),
            "hosts": {
                each.host.name: [each.status.current, each.status.settings] for each in hosts
            },
            **basis,
        }
        rows = tuple(row for each in changing for row in _differences(each, image, versions))
        title = f"{self.run.title}: {image.version} from {image.origin}"
        return ReleasePlan(title, (*before, *releases), rests_on, differences=rows)

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
            [change(each) for each in self.host_states() if each.host.name in named]
        )

    def roll_out(self, changes: Sequence[HostChange]) -> ui.Table:
        """Change host after host; at the first failure, bring those back that were changed."""
        rows: list[tuple[object, ...]] = []
        done: list[HostChange] = []
        self._released: dict[str, str] = {}
        with ui.Progress(f"release, {self.env}") as progress:
            for change in changes:
                host = change.before.host
                try:
                    made = change.apply(self._telling(host, progress))
                except DaybookError as err:
                    # What was interrupted may have come about: the host ended it by itself.
                    changed = [*done, change] if isinstance(err, Interrupted) else done
                    raise self._with_those_brought_back(err, changed, progress) from err
                done.append(change)
                self._released[host.name] = made.id
                rows.append((ui.good("serves"), host.name, made.version, ui.duration(made.seconds)))
        return ui.Table(f"{self.run.title}: released", ("status", "host", "version", "time"), rows)

    def look(self) -> ui.Shown:
        """Ask each host what it serves, then each from outside, as a visitor would."""
        rows = []
        for serving in self.host_states():
            self._require_released(serving)
            url, seen = self._seen_from_outside(serving)
            if seen != serving.version:
                raise self._differs(serving, serving.version, f"{url} says {seen}")
            rows.append((ui.good("serving"), url, seen, serving.host.name))
        title = f"{self.run.title}: seen from outside"
        return ui.Table(title, ("status", "what", "version", "host"), rows)

    def _require_released(self, serving: HostState) -> None:
        """Refuse a host that serves nothing, or not what this run has released there."""
        expected = getattr(self, "_released", {}).get(serving.host.name, serving.status.current)
        if serving.current is None or serving.status.current != expected:
            raise self._differs(
                serving, expected or "a release", serving.status.current or "nothing"
            )
        if not serving.status.healthy:
            raise self._differs(serving, f"{serving.version}, healthy", "not healthy")

    def _differs(self, serving: HostState, expected: str, observed: str) -> VerifyFailed:
        return VerifyFailed(
            f"{serving.host.name} does not serve what was released.",
            expected=expected,
            observed=observed,
            changed="What was released stays as it is.",
            next=f"daybook release list {self.env}",
        )

    def _program_answers(self, name: str) -> checks.CheckResult:
        """Ask each host's program what it serves, and whether somebody releases right now."""
        statuses = {host.name: host.status() for host in self.environment.hosts}
        busy = [f"{host} is being released" for host, state in statuses.items() if state.deploying]
        said = [f"{host} serves {s.serving_version or 'nothing'}" for host, s in statuses.items()]
        fix = f"wait for it: daybook release current {self.env}; or on the host: {STOP}"
        return checks.CheckResult(name, "answers, idle", ", ".join(busy or said), not busy, fix)

    def _telling(self, host: client.Host, progress: ui.Progress) -> client.OnProgress:
        """Return what shows a host's steps and writes them into the record when they end."""

        def on_progress(step: client.Progress) -> None:
            status = {"done": ui.good("done"), "failed": ui.FAILED}.get(step.state, ui.RUNNING)
            progress.row(
                f"{host.name} {step.step}", status, step.text, label=f"{host.name}: {step.step}"
            )
            if step.state != "begun":
                said = {"action": step.state, "what": step.step, "host": host.name}
                self.run.changed(tool="release", **said, detail=step.text)

        return on_progress

    def _with_those_brought_back(
        self, err: DaybookError, done: Sequence[HostChange], progress: ui.Progress
    ) -> DaybookError:
        """Let an error say what became of the hosts that were changed before it."""
        said = [self._bring_back(change, progress) for change in reversed(done)]
        if said:
            err.changed = " ".join(filter(None, [err.changed, *said]))
        return err

    def _bring_back(self, change: HostChange, progress: ui.Progress) -> str:
        host, before = change.before.host, change.before.current
        if before is None:
            return f"{host.name} serves its first release; there is none to go back to."
        try:
            if host.status().current == before.id:
                return f"{host.name} serves {before.version}, as before."
            host.roll_back(
                before.id,
                by=self.by(),
                run=self.run.id,
                on_progress=self._telling(host, progress),
            )
        except DaybookError as err:
            return f"{host.name} could not be brought back: {err.message}"
        return f"{host.name} is back at {before.version}."

    def _seen_from_outside(self, serving: HostState) -> tuple[str, str]:
        """Return what was asked, and which version answered, or the one that cannot be asked."""
        text = serving.host.show(serving.current.id)["compose"]
        wishes = rules.wishes(document.read(text).tree)
        url = f"https://{self.settings.domains[0]}{wishes.version or wishes.health}"

        def ask() -> str:
            answer = probe.fetch(url, self.target.environ, at=serving.host.address)
            if answer.status_code != 200:
                raise probe.NotYet(f"{url} at {serving.host.name}: HTTP {answer.status_code}")
            if not wishes.version:
                return serving.version
            return printable(answer.json()["version"], LABEL_CHARS)

        where = f"{url} at {serving.host.name}"
        return url, probe.wait_until(ask, condition=where, timeout_s=ANSWER_S)


def _differences(
    serving: HostState, image: ImageRef, versions: Mapping[str, int]
) -> list[tuple[str, str, str]]:
    now = serving.current
    before = dict(now.secrets) if now else {}
    rows = [("image", now.digest[:19] if now else "none", image.digest[:19])]
    rows += [
        (name, f"version {before[name]}" if name in before else "none", f"version {version}")
        for name, version in sorted(versions.items())
        if before.get(name) != version
    ]
    rows += [(name, f"version {before[name]}", "none") for name in sorted(before.keys() - versions)]
    if now and serving.status.settings and now.settings != serving.status.settings:
        rows.append(("settings of the host", now.settings[:19], serving.status.settings[:19]))
    host = serving.host.name
    return [(f"{host}: {what}", was, will) for what, was, will in rows if was != will]
