"""What first deploy, deploy and roll back share: host after host, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from daybook import aws, checks, probe, secrets, ui
from daybook.approval import gate
from daybook.errors import DaybookError, Interrupted, VerifyFailed
from daybook.hosts import client, located, states
from daybook.hosts.states import HostState
from daybook.record import provenance
from daybook.steps import common, playbooks
from daybook.steps.base import Step
from daybook_release import document, rules
from daybook_release.printable import LABEL_CHARS, printable

ANSWER_S = 60
STOP = "sudo release stop"


@dataclass(frozen=True, repr=False)
class ReleasePlan(gate.Proposal):
    """A proposal that says besides what will be different. differences: what, now, then."""

    differences: tuple[tuple[str, str, str], ...] = ()

    def view(self) -> ui.Shown:
        """Show one row a host, then one row a difference."""
        said = super().view()
        if self.is_empty or not self.differences:
            return said
        return ui.Stack([ui.Table("What differs", ("", "now", "then"), self.differences), said])


@dataclass(frozen=True)
class HostChange:
    """What is to be done on one host, and what it serves until then."""

    before: HostState
    do: Callable[[client.OnProgress], client.Release]


class ReleaseStep(Step):
    """A step that changes what the hosts serve, through the host's own program."""

    def __init__(self, env: str, **parameters: object) -> None:
        super().__init__(env, **parameters)
        self._released: dict[str, str] = {}

    def questions_here(self) -> Mapping[str, checks.Check]:
        key_fix = "correct ssh_key in the settings, or set DAYBOOK_SSH_KEY"
        return {
            "SSH key": checks.file_exists(self.run.ssh_key, self.root, key_fix),
        }

    def questions_there(self) -> Mapping[str, checks.Check]:
        bootstrap = common.BOOTSTRAP_FIRST.format(env=self.env)
        return {
            "inventory": located.are_known(self),
            "hosts": playbooks.hosts_are_running(self),
            "ECR repository": checks.repository_exists(self.target, self.settings.app, bootstrap),
            "secrets": common.secrets_are_set(self),
            "release program": self._program_answers,
        }

    def look_around(self) -> list[HostState]:
        """Return what each host serves."""
        return states.host_states(self, self.run.start)

    def pinned(self) -> dict[str, int]:
        """Return the version of each secret's value now: {"DATABASE_URL": 3}."""
        found = secrets.Store(self.target, self.settings.app, self.env).current()
        return {name: version.number for name, version in found.items()}

    def by(self) -> str:
        """Return who releases, as the host remembers it."""
        who = provenance.operator(self.run.root)
        named = " ".join(filter(None, (who["name"], who["email"] and f"<{who['email']}>")))
        return named or who["user"]

    def roll(self, changes: Sequence[HostChange]) -> ui.Table:
        """Change host after host; at the first failure, bring those back that were changed."""
        rows: list[tuple[object, ...]] = []
        done: list[HostChange] = []
        with ui.Progress(f"release, {self.env}") as progress:
            for change in changes:
                host = change.before.host
                try:
                    made = change.do(self._telling(host, progress))
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
        for serving in self.look_around():
            self._require_released(serving)
            url, seen = self._seen_from_outside(serving)
            if seen != serving.version:
                raise self._differs(serving, serving.version, f"{url} says {seen}")
            rows.append((ui.good("serving"), url, seen, serving.host.name))
        title = f"{self.run.title}: seen from outside"
        return ui.Table(title, ("status", "what", "version", "host"), rows)

    def _require_released(self, serving: HostState) -> None:
        """Refuse a host that serves nothing, or not what this run has released there."""
        expected = self._released.get(serving.host.name, serving.status.current)
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
        statuses = {host.name: host.status() for host in states.of(self, self.run.start)}
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
                self.run.write("change", tool="release", **said, detail=step.text)

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
        url = f"https://{self.settings.names[0]}{wishes.version or wishes.health}"

        def ask() -> str:
            answer = probe.fetch(url, self.target.environ, at=serving.host.address)
            if answer.status_code != 200:
                raise probe.NotYet(f"{url} at {serving.host.name}: HTTP {answer.status_code}")
            if not wishes.version:
                return serving.version
            return printable(answer.json()["version"], LABEL_CHARS)

        where = f"{url} at {serving.host.name}"
        return url, probe.wait_until(ask, what=where, timeout_s=ANSWER_S)


def repository(step: Step) -> str:
    """Return where the application's images are: ACCOUNT.dkr.ecr.REGION.amazonaws.com/APP."""
    return f"{aws.registry_login(step.target)[0]}/{step.settings.app}"
