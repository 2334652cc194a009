"""One release in the place of another, step by step; a failed one is undone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from daybook_release import generate, prepare, rules, settings, settle, store
from daybook_release.docker import Container
from daybook_release.errors import Failed, Interrupted, Refused, ReleaseError, WentBack
from daybook_release.generate import slot_service
from daybook_release.ground import Ground
from daybook_release.store import REPLACED, ROLLED_BACK, SERVED, SERVING, Release
from daybook_release.views import version_in

POLL_S = 0.2
TIMES = 3
"""How often the candidate must answer well, inside and outside, one after the other."""
OUTSIDE_S = 5.0
CERTIFICATE_S = 60.0
"""How long a first visit may take to succeed where Caddy has to fetch a certificate before it."""
WORKER_S = 1.0
"""How long a worker without a health check must have run to count as started."""


@dataclass
class Rollout:
    """What is under way: `candidate` in place of `previous`. verb: deploy or rollback."""

    ground: Ground
    candidate: Release
    previous: Release | None
    verb: str
    began: float
    by: str
    phase: str = "prepare"
    served_s: float = 0.0

    def run(self) -> Release:
        """Do every step; at a failure undo what was done, record it and raise."""
        try:
            with _signals_raise():
                for step in (self.accessories, self.migrate, self.start, self.check):
                    self._begin(step)
                for step in (self.switch, self.outside, self.workers):
                    self._begin(step)
        except BaseException as err:
            with _signals_wait():
                raise self._go_back(err) from err
        with _signals_wait():
            self._begin(self.commit)
            self._begin(self.drain)
            return self._finish()

    def accessories(self) -> str:
        """Start what the application needs and no release touches."""
        wanted = self._kinds.accessories
        running = {each.service for each in self.ground.docker.containers() if each.is_running}
        missing = [name for name in wanted if name not in running]
        if missing:
            done = self._up(missing, "--no-recreate")
            if not done.is_good:
                raise Failed(f"{', '.join(missing)} cannot be started: {done.last_words}")
        return f"started {', '.join(missing)}" if missing else "all run" if wanted else "none"

    def migrate(self) -> str:
        """Run the application's own migration once, with the new image and environment."""
        command = self._wishes.migrate
        if not command:
            return "none"
        flags = ("--rm", "--no-deps", "--no-TTY", "--entrypoint", command[0])
        words = ("run", *flags, self._service, *command[1:])
        done = self.ground.docker.compose(self._file, self._environment, *words, timeout_s=3600)
        if not done.is_good:
            raise Failed(f"The migration ended with code {done.code}: {done.last_words}")
        return " ".join(command)

    def start(self) -> str:
        """Start the idle slot and wait until its health check is content."""
        done = self._up([self._service])
        if not done.is_good:
            raise Failed(f"{self._service} cannot be started: {done.last_words}")
        self._wait_healthy(self._service)
        return f"{self._service} is healthy"

    def check(self) -> str:
        """Ask the slot over HTTP before anybody else does, its version included."""
        path, version = self._wishes.health, self._wishes.version
        for _ in range(TIMES):
            answer = self.ground.ask(self.candidate, path)
            if answer.status != 200:
                raise Failed(f"It is healthy but answers {path} with {answer}.")
        if version:
            answer = self.ground.ask(self.candidate, version)
            seen = version_in(answer.body) if answer.status == 200 else str(answer)
            if seen != self.candidate.version:
                raise Failed(f"{version} says {seen}, the image says {self.candidate.version}.")
        return f"{path} answers 200" + (f", version {self.candidate.version}" if version else "")

    def switch(self) -> str:
        """Let Caddy lead new requests to the candidate."""
        self.ground.caddy.switch(self.ground.site_of(self.candidate))
        self.served_s = round(self.ground.host.now() - self.began, 1)
        closed = " (maintenance stays on)" if self.ground.store.in_maintenance else ""
        return f"Caddy leads to {self.candidate.slot}{closed}"

    def outside(self) -> str:
        """Ask through Caddy, as a visitor does."""
        if self.ground.store.in_maintenance:
            return "not asked: maintenance is on"
        path, good, answer = self._wishes.health, 0, None
        began = self.ground.host.ticks()
        while good < TIMES:
            answer = self.ground.ask_outside(self.candidate, path)
            good = good + 1 if answer.status == 200 else 0
            patience_s = OUTSIDE_S if answer.status else CERTIFICATE_S
            if not good and self.ground.host.ticks() - began > patience_s:
                raise Failed(f"Through Caddy {path} answers with {answer}.")
            if not good:
                self.ground.host.sleep(POLL_S)
        return f"{self.ground.settings_of(self.candidate).name}{path} answers 200"

    def workers(self) -> str:
        """Replace the services that run once."""
        workers = self._kinds.workers
        if not workers:
            return "none"
        done = self._up(list(workers))
        if not done.is_good:
            raise Failed(f"{', '.join(workers)} cannot be started: {done.last_words}")
        self.ground.host.sleep(WORKER_S)
        for name in workers:
            self._wait_healthy(name)
        return ", ".join(workers)

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

    def _begin(self, step: Callable[[], str]) -> None:
        self.phase = step.__name__
        self.ground.store.note(
            phase=self.phase,
            verb=self.verb,
            id=self.candidate.id,
            slot=self.candidate.slot,
            previous=self.previous.id if self.previous else None,
            before=self.candidate.result,
            by=self.by,
            since=store.utc(self.began),
            began=self.began,
        )
        with self.ground.progress.step(self.phase) as said:
            said.text = step()

    def _finish(self) -> Release:
        its, seconds = self.candidate, self.served_s
        again = {"at": store.utc(self.began), "by": self.by, "seconds": seconds}
        changes = {"again": (*its.again, again)} if its.result in SERVED else {"seconds": seconds}
        done = self.ground.store.write(its.became(SERVING, error="", **changes))
        replaced = ROLLED_BACK if self.verb == "rollback" else REPLACED
        settle.finish(self.ground, done, self.previous, replaced)
        self.ground.store.note()
        return done

    def _go_back(self, err: BaseException) -> BaseException:
        """Undo, record why, and return what to raise."""
        ground, was_switched = self.ground, self.phase in ("switch", "outside", "workers")
        state = ground.store.state
        error = str(err) or type(err).__name__
        with ground.progress.step("undo") as said:
            self._keep_last_words()
            settle.settle(ground, self.previous, away=self.candidate)
            settle.discard(ground, self.candidate, state, error)
            ground.store.note()
            said.text = f"{self.previous.id} serves" if self.previous else "nothing serves"
        if isinstance(err, Interrupted):
            return err
        if not isinstance(err, ReleaseError):
            error = f"{type(err).__name__}: {error}"
        kind = WentBack if was_switched and self.phase != "switch" else Failed
        return kind(
            error, next=getattr(err, "next", "") or "sudo release show " + self.candidate.id
        )

    def _keep_last_words(self) -> None:
        try:
            container = self.ground.web_of(self.candidate)
            if container:
                lines = self.ground.docker.last_lines(container, 200)
                self.ground.store.put(self.candidate.id, "failed.log", "\n".join(lines), 0o600)
        except OSError:
            return

    def _wait_healthy(self, service: str) -> None:
        """Wait for a service's health check, or its end; one without is content when it runs."""
        deadline = self.ground.host.ticks() + self._patience_s(service)
        while True:
            seen = self.ground.docker.find(service)
            if seen is None or seen.restarts or seen.state in ("restarting", "dead"):
                raise Failed(f"{service} does not stay up: {self._says(seen)}")
            if seen.state == "exited":
                if seen.exit_code == 0 and service != self._service:
                    return
                raise Failed(f"{service} ended with code {seen.exit_code}: {self._says(seen)}")
            if seen.is_running and seen.health in ("", "healthy"):
                return
            if seen.health == "unhealthy" or self.ground.host.ticks() > deadline:
                raise Failed(f"{service} does not become healthy: {self._says(seen)}")
            self.ground.host.sleep(POLL_S)

    def _patience_s(self, service: str) -> float:
        """Return how long Docker itself may need to call a service unhealthy, and some more."""
        name = self._wishes.web if service == self._service else service
        check = self.ground.model_of(self.candidate)["services"][name].get("healthcheck") or {}
        usual = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0}
        times = {key: rules.seconds(check.get(key, "")) or usual[key] for key in usual}
        rounds = int(check.get("retries") or 3)
        return times["start_period"] + rounds * (times["interval"] + times["timeout"]) + 30

    def _says(self, container: Container | None) -> str:
        lines = self.ground.docker.last_lines(container, 3) if container else []
        said = " · ".join(lines) or "it said nothing"
        complaint = container.complaint.strip()[-200:] if container else ""
        return f"{said} · its check: {complaint}" if complaint else said

    def _up(self, services: list[str], *how: str):
        up = self.ground.docker.up
        return up(self._file, self._environment, services, "--no-deps", *how)

    @property
    def _wishes(self) -> rules.Wishes:
        return self.ground.wishes_of(self.candidate)

    @property
    def _kinds(self) -> generate.Kinds:
        return generate.kinds(self.ground.model_of(self.candidate))

    @property
    def _service(self) -> str:
        return slot_service(self._wishes.web, self.candidate.slot)

    @property
    def _file(self):
        return self.ground.generated_of(self.candidate)

    @property
    def _environment(self) -> dict[str, str]:
        return self.ground.store.environment(self.candidate.id) or {}


def deploy(
    ground: Ground, image: str, *, by: str, run: str = "", pinned: dict[str, int]
) -> Release:
    """Release an image; needs the lock."""
    began = ground.host.now()
    prepare.check_reference(image, ground.settings)
    previous = _ready(ground)
    id = store.new_id(began, image)
    release = Release(
        id, image, "", "", by, run, store.utc(began), settings.digest(ground.settings_text)
    )
    ground.store.note(**_preparing(ground, release, "deploy", previous, began, by))
    try:
        with _signals_raise():
            release = _prepare(ground, release, previous, pinned)
    except BaseException:
        ground.store.forget(id)
        ground.store.note()
        raise
    if _is_the_same(release, previous):
        ground.store.forget(id)
        ground.store.note()
        ground.progress.line(f"Nothing to do: {previous.id} is this release, and serves.")
        return previous
    return Rollout(ground, release, previous, "deploy", began, by).run()


def rollback(ground: Ground, id: str | None, *, by: str, run: str = "") -> Release:
    """Let an earlier release serve again, all of it; needs the lock."""
    began = ground.host.now()
    previous = _ready(ground)
    release = _earlier(ground, id, previous)
    ground.store.note(**_preparing(ground, release, "rollback", previous, began, by))
    try:
        with _signals_raise():
            with ground.progress.step("pull", release.image[-71:][:19]):
                prepare.pull(ground, release.image)
            values = _secrets(ground, ground.settings_of(release), release.secrets)[0]
            release = prepare.place(ground, release, previous)
            prepare.write_files(ground, release, values)
            ground.store.write(release)
    except BaseException:
        ground.store.note()
        raise
    return Rollout(ground, release, previous, "rollback", began, by).run()


def _ready(ground: Ground) -> Release | None:
    """Repair what was interrupted, check that there is room, and return what serves."""
    if ground.store.state:
        with ground.progress.step("repair") as said:
            said.text = settle.repair(ground)
    ground.docker.wait()
    previous = ground.store.current
    with ground.progress.step("room") as said:
        said.text = prepare.check_room(ground, previous)
    if not ground.caddy.is_running():
        raise Refused(
            "Caddy does not run, so visitors see nothing and nothing can be switched.",
            next="sudo systemctl start caddy; sudo release status",
        )
    return previous


def _prepare(
    ground: Ground, release: Release, previous: Release | None, pinned: dict[str, int]
) -> Release:
    with ground.progress.step("pull", release.image.rpartition("@")[2][:19] + "…"):
        image = prepare.pull(ground, release.image)
    with ground.progress.step("read", "compose.yaml"):
        prepare.keep_files(ground, release.id, image)
    values, versions = _secrets(ground, ground.settings, pinned)
    release = store.replace(
        release,
        version=image.labels.get(prepare.VERSION, release.id.rpartition("-")[2]),
        commit=image.labels.get(prepare.REVISION, ""),
        secrets=versions,
    )
    release = prepare.place(ground, release, previous)
    with ground.progress.step("write", f"for {release.slot} on port {release.port}"):
        prepare.write_files(ground, release, values)
    return ground.store.write(release)


def _secrets(ground: Ground, its, pinned) -> tuple[dict[str, str], dict[str, int]]:
    with ground.progress.step("secrets") as said:
        values, versions = prepare.fetch_secrets(ground, its, pinned)
        said.text = ", ".join(f"{n}={v}" for n, v in sorted(versions.items())) or "none"
    return values, versions


def _is_the_same(release: Release, previous: Release | None) -> bool:
    alike = ("image", "settings", "secrets")
    return bool(previous) and all(getattr(release, k) == getattr(previous, k) for k in alike)


def _earlier(ground: Ground, id: str | None, current: Release | None) -> Release:
    releases = [each for each in ground.store.all() if each.result in SERVED]
    able = [r for r in releases if (not current or r.id != current.id)]
    chosen = next((r for r in able if r.id == id or (not id and r.result == REPLACED)), None)
    if chosen is None:
        says = f"{id} is not a release to go back to." if id else "No release served before."
        raise Refused(says, next="sudo release list")
    return chosen


def _preparing(ground: Ground, release: Release, verb: str, previous, began, by) -> dict:
    return {
        "phase": "prepare",
        "verb": verb,
        "id": release.id,
        "slot": "",
        "previous": previous.id if previous else None,
        "before": release.result,
        "by": by,
        "since": store.utc(began),
        "began": began,
    }


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn a signal into Interrupted, so that what was begun is undone."""

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(f"Interrupted by {signal.Signals(number).name}.")

    with _handling(interrupt):
        yield


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let no signal stop what must be finished; SIG_IGN would be passed on to every command."""
    with _handling(lambda number, frame: None):
        yield


@contextmanager
def _handling(handler) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
