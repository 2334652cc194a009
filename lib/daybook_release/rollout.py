"""One release in the place of another, step by step; a failed one is undone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from daybook_release import generate, health, limits, rules, settle, store
from daybook_release.errors import Failed, Interrupted, ReleaseError, WentBack
from daybook_release.ground import Ground
from daybook_release.signals import Signals
from daybook_release.store import Release
from daybook_release.views import version_in

POLL_S = 0.2
TIMES = 3
"""How often the candidate must answer well, inside and outside, one after the other."""
OUTSIDE_S = 5.0
CERTIFICATE_S = 60.0
"""How long a first visit may take to succeed where Caddy has to fetch a certificate before it."""
SWITCHED = ("switch", "outside", "workers")
"""The phases in which Caddy may lead to the candidate."""
WORKER_S = 1.0
"""How long a worker without a health check must have run to count as started."""


@dataclass
class Rollout:
    """What is under way: `candidate` in the place of `previous`. verb: deploy or rollback."""

    ground: Ground
    signals: Signals
    verb: str
    by: str
    run: str
    began: float
    candidate: Release
    previous: Release | None
    served_s: float = 0.0

    def go(self) -> Release:
        """Do every step; at a failure undo what was done, record it and raise."""
        steps = (self.accessories, self.migrate, self.start, self.check)
        steps += (self.switch, self.outside, self.workers)
        try:
            for step in steps:
                self._do(step)
            self.signals.hold()
        except BaseException as err:
            self.signals.hold()
            raise self._undo(err) from err
        self._do(self.commit)
        self._do(self.drain)
        state = self.ground.store.state
        return settle.finish(self.ground, self.candidate, self.previous, state)

    def accessories(self) -> str:
        """Start what the application needs and no release touches."""
        wanted, said = self._kinds.accessories, self._model["services"]
        running = {each.service for each in self.ground.docker.containers() if each.is_running}
        missing = [name for name in wanted if name not in running]
        if missing:
            settle.start(self.ground, self.candidate, missing, "--no-recreate")
            for name in missing:
                health.wait(self.ground, name, said[name])
        old = self.ground.model_of(self.previous)["services"] if self.previous else said
        changed = [name for name in wanted if name not in missing and old.get(name) != said[name]]
        told = [f"started {', '.join(missing)}"] if missing else []
        told += [f"left as it runs, though changed: {', '.join(changed)}"] if changed else []
        return "; ".join(told) or ("all run" if wanted else "none")

    def migrate(self) -> str:
        """Run the application's own migration once, with the new image and environment."""
        command = self._wishes.migrate
        if not command:
            return "none"
        made = self.ground.filled_in(self.candidate, self._environment)
        # In the file, not on the command line: an image's words are nobody's options.
        first, *rest = (word.replace("$", "$$") for word in command)
        made["services"][self._slot] |= {"entrypoint": [first], "command": rest}
        words = ("run", "--rm", "--no-deps", "--no-TTY", "--", self._slot)
        done = self.ground.docker.compose(made, *words, timeout_s=limits.MIGRATE_S)
        if not done.is_good:
            raise Failed(f"The migration ended with code {done.code}: {done.last_words}")
        return " ".join(command)

    def start(self) -> str:
        """Start the idle slot and wait until its health check is content."""
        settle.start(self.ground, self.candidate, [self._slot])
        said = self._model["services"][self._wishes.web]
        health.wait(self.ground, self._slot, said, may_end=False)
        return f"{self._slot} is healthy"

    def check(self) -> str:
        """Ask the slot over HTTP before anybody else does, its version included."""
        path, version = self._wishes.health, self._wishes.version
        for _ in range(TIMES):
            answer = self.ground.ask(self.candidate, path)
            if answer.status != 200:
                raise Failed(f"It is healthy but answers {path} with {answer}.")
        if not version:
            return f"{path} answers 200"
        answer = self.ground.ask(self.candidate, version)
        seen = version_in(answer.body) if answer.status == 200 else str(answer)
        if seen != self.candidate.version:
            raise Failed(f"{version} says {seen}, the image says {self.candidate.version}.")
        return f"{path} answers 200, version {seen}"

    def switch(self) -> str:
        """Let Caddy lead new requests to the candidate."""
        self.ground.caddy.switch(self.ground.site_of(self.candidate))
        self.served_s = round(self.ground.host.now() - self.began, 1)
        closed = "; maintenance stays on" if self.ground.store.in_maintenance else ""
        return f"Caddy leads to {self.candidate.slot}{closed}"

    def outside(self) -> str:
        """Ask through Caddy, as a visitor does."""
        if self.ground.store.in_maintenance:
            return "not asked: maintenance is on"
        path, good, host = self._wishes.health, 0, self.ground.host
        began = host.ticks()
        while good < TIMES:
            answer = self.ground.ask_outside(self.candidate, path)
            good = good + 1 if answer.status == 200 else 0
            if good:
                continue
            if host.ticks() - began > (OUTSIDE_S if answer.status else CERTIFICATE_S):
                raise Failed(f"Through Caddy {path} answers with {answer}.")
            host.sleep(POLL_S)
        return f"{self.ground.settings_of(self.candidate).name}{path} answers 200"

    def workers(self) -> str:
        """Replace the services that run once."""
        workers, said = self._kinds.workers, self._model["services"]
        if workers:
            settle.start(self.ground, self.candidate, workers)
            self.ground.host.sleep(WORKER_S)
        for name in workers:
            health.wait(self.ground, name, said[name])
        if self.previous:
            self._remove_workers_of(self.previous, but=workers)
        return ", ".join(workers) or "none"

    def commit(self) -> str:
        """From here on the candidate is what serves."""
        self.ground.store.make_current(self.candidate.id)
        return self.candidate.id

    def drain(self) -> str:
        """Wait until the old slot has answered what it was asked."""
        if not self.previous:
            return "nothing served before"
        done = settle.drain(self.ground, self.previous)
        return f"{self.previous.slot} is quiet" if done else "its time is over"

    def _do(self, step: Callable[[], str]) -> None:
        """Say on disk what begins, then do it."""
        self.ground.store.note(**self.state(step.__name__))
        with self.ground.progress.step(step.__name__) as said:
            said.text = step()

    def state(self, phase: str) -> dict[str, Any]:
        """Return what another process must know to finish or undo this one."""
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
        """Undo, record why, and return what to raise."""
        ground, state = self.ground, self.ground.store.state
        with ground.progress.step("undo") as said:
            ground.docker.wait()
            self._keep_last_words()
            well = settle.settle(
                ground, self.previous, away=self.candidate, is_switched=state["phase"] in SWITCHED
            )
            settle.discard(ground, self.candidate, state, str(err) or type(err).__name__)
            serves = f"{self.previous.id} {'serves' if well else 'does not answer'}"
            said.text = serves if self.previous else "nothing serves, as before"
        if isinstance(err, Interrupted):
            return err
        kind = WentBack if state["phase"] in SWITCHED[1:] else Failed
        message = str(err) if isinstance(err, ReleaseError) else f"{type(err).__name__}: {err}"
        next = getattr(err, "next", "") or f"correct it and release again; {said.text}"
        return kind(message, next=next)

    def _keep_last_words(self) -> None:
        """Keep what the candidate said, before its container goes."""
        container = self.ground.web_of(self.candidate)
        if container:
            lines = self.ground.docker.last_lines(container, 200)
            self.ground.store.put(self.candidate.id, "failed.log", "\n".join(lines), 0o600)

    def _remove_workers_of(self, release: Release, *, but: Sequence[str]) -> None:
        theirs = set(generate.kinds(self.ground.model_of(release)).workers) - set(but)
        for each in self.ground.docker.containers():
            if each.service in theirs and each.release == release.id:
                self.ground.docker.stop(each)
                self.ground.docker.remove(each)

    @property
    def _model(self) -> rules.Model:
        return self.ground.model_of(self.candidate)

    @property
    def _wishes(self) -> rules.Wishes:
        return rules.wishes(self._model)

    @property
    def _kinds(self) -> generate.Kinds:
        return generate.kinds(self._model)

    @property
    def _slot(self) -> str:
        return self.ground.slot_of(self.candidate)

    @property
    def _environment(self) -> dict[str, str]:
        return self.ground.store.environment(self.candidate.id) or {}
