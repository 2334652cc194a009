"""Replace one release with another, step by step; undo the rollout when a step fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from daybook_release import generate, health, limits, reconcile, rules, store
from daybook_release.context import HostContext
from daybook_release.errors import Failed, Interrupted, ReleaseError, Reverted
from daybook_release.signals import Signals
from daybook_release.store import Release
from daybook_release.views import version_in

POLL_S = 0.2
SUCCESSES = 3
"""Number of consecutive successful requests, to the slot and through Caddy."""
OUTSIDE_S = 5.0
CERTIFICATE_S = 60.0
"""How long the first request may take to succeed when Caddy must obtain a certificate first."""
SWITCHED = ("switch", "outside", "workers")
"""The phases in which Caddy may route to the candidate."""
WORKER_S = 1.0
"""How long a worker without a health check must have run to count as started."""


@dataclass
class Rollout:
    """A rollout in progress: `candidate` replaces `previous`. verb: deploy or rollback."""

    context: HostContext
    signals: Signals
    verb: str
    by: str
    run: str
    began: float
    candidate: Release
    previous: Release | None
    served_s: float = 0.0

    def go(self) -> Release:
        """Run all steps; on failure undo the rollout, record the reason and raise."""
        steps = (self.accessories, self.migrate, self.start, self.check)
        steps += (self.switch, self.outside, self.workers)
        try:
            for step in steps:
                self._run(step)
            self.signals.hold()
        except BaseException as err:
            self.signals.hold()
            raise self._undo(err) from err
        self._run(self.commit)
        self._run(self.drain)
        state = self.context.store.state
        return reconcile.finish(self.context, self.candidate, self.previous, state)

    def accessories(self) -> str:
        """Start missing accessories, which no release changes."""
        names, services = self._service_kinds.accessories, self._model["services"]
        containers = self.context.docker.containers()
        running = {container.service for container in containers if container.is_running}
        missing = [name for name in names if name not in running]
        if missing:
            reconcile.start(self.context, self.candidate, missing, "--no-recreate")
            for name in missing:
                health.wait(self.context, name, services[name])
        old = self.context.model_of(self.previous)["services"] if self.previous else services
        changed = [n for n in names if n not in missing and old.get(n) != services[n]]
        results = [f"started {', '.join(missing)}"] if missing else []
        results += [f"changed but not restarted: {', '.join(changed)}"] if changed else []
        return "; ".join(results) or ("all running" if names else "none")

    def migrate(self) -> str:
        """Run the application's migration once, with the new image and environment."""
        command = self._options.migrate
        if not command:
            return "none"
        model = self.context.render(self.candidate, self._environment)
        # In the model, not on the command line: the image's words must not be read as options.
        first, *rest = (word.replace("$", "$$") for word in command)
        model["services"][self._slot] |= {"entrypoint": [first], "command": rest}
        words = ("run", "--rm", "--no-deps", "--no-TTY", "--", self._slot)
        result = self.context.docker.compose(model, *words, timeout_s=limits.MIGRATE_S)
        if not result.is_success:
            raise Failed(f"The migration exited with code {result.code}: {result.output_tail}")
        return " ".join(command)

    def start(self) -> str:
        """Start the idle slot and wait until its health check passes."""
        reconcile.start(self.context, self.candidate, [self._slot])
        service = self._model["services"][self._options.web]
        health.wait(self.context, self._slot, service, may_exit=False)
        return f"{self._slot} is healthy"

    def check(self) -> str:
        """Check the slot's health path and version over HTTP before it gets traffic."""
        path, version_path = self._options.health, self._options.version
        for _ in range(SUCCESSES):
            response = self.context.get_from_slot(self.candidate, path)
            if response.status != 200:
                raise Failed(f"The container is healthy, but {path} returned {response}.")
        if not version_path:
            return f"{path} returned 200"
        response = self.context.get_from_slot(self.candidate, version_path)
        version = version_in(response.body) if response.status == 200 else str(response)
        if version != self.candidate.version:
            raise Failed(
                f"{version_path} returned {version}; the image's version is"
                f" {self.candidate.version}."
            )
        return f"{path} returned 200, version {version}"

    def switch(self) -> str:
        """Route new requests to the candidate."""
        self.context.caddy.switch(self.context.site_of(self.candidate))
        self.served_s = round(self.context.system.now() - self.began, 1)
        maintenance = "; maintenance stays on" if self.context.store.in_maintenance else ""
        return f"Caddy routes to {self.candidate.slot}{maintenance}"

    def outside(self) -> str:
        """Check the health path through Caddy, as a visitor would."""
        if self.context.store.in_maintenance:
            return "skipped: maintenance is on"
        path, successes, system = self._options.health, 0, self.context.system
        began = system.monotonic()
        while successes < SUCCESSES:
            response = self.context.get_through_caddy(self.candidate, path)
            successes = successes + 1 if response.status == 200 else 0
            if successes:
                continue
            limit_s = OUTSIDE_S if response.status else CERTIFICATE_S
            if system.monotonic() - began > limit_s:
                raise Failed(f"Through Caddy, {path} returned {response}.")
            system.sleep(POLL_S)
        return f"{self.context.settings_of(self.candidate).name}{path} returned 200"

    def workers(self) -> str:
        """Replace the workers, of which only one copy may run."""
        workers, services = self._service_kinds.workers, self._model["services"]
        if workers:
            reconcile.start(self.context, self.candidate, workers)
            self.context.system.sleep(WORKER_S)
        for name in workers:
            health.wait(self.context, name, services[name])
        if self.previous:
            self._remove_workers_of(self.previous, except_for=workers)
        return ", ".join(workers) or "none"

    def commit(self) -> str:
        """Make the candidate the current release: it cannot be undone from here on."""
        self.context.store.make_current(self.candidate.id)
        return self.candidate.id

    def drain(self) -> str:
        """Wait until the old slot has answered its open requests."""
        if not self.previous:
            return "no previous release"
        if reconcile.drain(self.context, self.previous):
            return f"{self.previous.slot} has no open requests"
        return "drain timed out; requests were still open"

    def _run(self, step: Callable[[], str]) -> None:
        """Save the name of a step on disk, then run it."""
        self.context.store.save_state(**self.state(step.__name__))
        with self.context.progress.step(step.__name__) as progress:
            progress.text = step()

    def state(self, phase: str) -> dict[str, Any]:
        """Return the state that lets another process finish or undo this rollout."""
        return {
            "phase": phase,
            "verb": self.verb,
            "id": self.candidate.id,
            "slot": self.candidate.slot,
            "previous": self.previous.id if self.previous else None,
            "before": self.candidate.result,
            "by": self.by,
            "run": self.run,
            "since": store.utc(self.began),
            "began": self.began,
            "served": self.served_s,
            "pid": os.getpid(),
        }

    def _undo(self, err: BaseException) -> BaseException:
        """Undo the rollout, record the reason and return the error to raise."""
        context, state = self.context, self.context.store.state
        with context.progress.step("undo") as step:
            context.docker.wait()
            self._save_last_output()
            is_serving = reconcile.reconcile(
                context,
                self.previous,
                removed=self.candidate,
                is_switched=state["phase"] in SWITCHED,
            )
            reconcile.discard(context, self.candidate, state, str(err) or type(err).__name__)
            step.text = "no release is serving, as before"
            if self.previous:
                step.text = f"{self.previous.id} {'serves' if is_serving else 'does not answer'}"
        if isinstance(err, Interrupted):
            return err
        error_class = Reverted if state["phase"] in SWITCHED[1:] else Failed
        message = str(err) if isinstance(err, ReleaseError) else f"{type(err).__name__}: {err}"
        next = getattr(err, "next", "") or f"fix the cause and release again; {step.text}"
        return error_class(message, next=next)

    def _save_last_output(self) -> None:
        """Save the candidate's last output before its container is removed."""
        container = self.context.web_of(self.candidate)
        if container:
            lines = self.context.docker.last_lines(container, 200)
            self.context.store.put(self.candidate.id, "failed.log", "\n".join(lines), 0o600)

    def _remove_workers_of(self, release: Release, *, except_for: Sequence[str]) -> None:
        kinds = generate.service_kinds(self.context.model_of(release))
        removed = set(kinds.workers) - set(except_for)
        for container in self.context.docker.containers():
            if container.service in removed and container.release == release.id:
                self.context.docker.stop(container)
                self.context.docker.remove(container)

    @property
    def _model(self) -> rules.Model:
        return self.context.model_of(self.candidate)

    @property
    def _options(self) -> rules.ReleaseOptions:
        return rules.release_options(self._model)

    @property
    def _service_kinds(self) -> generate.ServiceKinds:
        return generate.service_kinds(self._model)

    @property
    def _slot(self) -> str:
        return self.context.slot_of(self.candidate)

    @property
    def _environment(self) -> dict[str, str]:
        return self.context.store.environment(self.candidate.id) or {}
