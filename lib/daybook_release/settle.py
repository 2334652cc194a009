"""Make the host what one release says, whatever is found there.

This is how a failed release is undone and how an interrupted one is repaired: nothing is taken
on trust, everything is looked at first, and doing it twice does nothing more.
"""

from __future__ import annotations

from daybook_release import generate
from daybook_release.docker import Container
from daybook_release.errors import Failed
from daybook_release.ground import Ground
from daybook_release.store import FAILED, REPLACED, ROLLED_BACK, SERVING, Release

READY_S = 120.0
POLL_S = 0.1
LATE_S = 5.0
"""How long a connection that has sent nothing yet may still be led to the old slot: Go's server
takes one for idle after this, https://pkg.go.dev/net/http#Server.Shutdown"""


def settle(ground: Ground, release: Release | None, *, away: Release | None = None) -> None:
    """Let `release` serve and nothing else; `away` is the one that goes."""
    ground.docker.wait()
    if release:
        see_web(ground, release)
    was_switched = ground.caddy.restore(ground.site_of(release))
    going = ground.web_of(away) if away and _has_begun(ground, away) else None
    if going:
        if was_switched:
            drain(ground, away)
        ground.docker.remove(going)
    see_workers(ground, release, away)


def see_web(ground: Ground, release: Release) -> None:
    """See that a release's slot runs and answers."""
    container = ground.web_of(release)
    if container is None:
        service = generate.slot_service(ground.wishes_of(release).web, release.slot)
        start(ground, release, (service,))
    elif not container.is_running:
        ground.docker.start(container)
    path = ground.wishes_of(release).health
    deadline = ground.host.ticks() + READY_S
    while ground.ask(release, path).status != 200:
        if ground.host.ticks() > deadline:
            raise Failed(
                f"{release.id} runs but does not answer {path} with 200.",
                next="sudo release logs, then sudo release repair",
            )
        ground.host.sleep(POLL_S)


def see_workers(ground: Ground, release: Release | None, away: Release | None) -> None:
    """See that the workers are those of this release, and no others."""
    wanted = generate.kinds(ground.model_of(release)).workers if release else ()
    there = {each.service: each for each in ground.docker.containers()}
    if away and _has_begun(ground, away):
        for name in generate.kinds(ground.model_of(away)).workers:
            if name in there and there[name].release == away.id and name not in wanted:
                ground.docker.remove(there[name])
    missing = tuple(name for name in wanted if not _is_its(there.get(name), release))
    if missing:
        start(ground, release, missing)


def start(ground: Ground, release: Release, services: tuple[str, ...], *how: str) -> None:
    """Start services of a release with its environment."""
    file = ground.generated_of(release)
    env = ground.store.environment(release.id)
    if env is None:
        raise Failed(
            f"The environment of {release.id} is not kept here any more.",
            next=f"sudo release rollback {release.id}",
        )
    done = ground.docker.up(file, env, services, "--no-deps", *how)
    if not done.is_good:
        raise Failed(f"{', '.join(services)} cannot be started: {done.last_words}")


def drain(ground: Ground, release: Release) -> bool:
    """Wait for the requests that a slot still has; False when its time was over first."""
    patience_s = ground.wishes_of(release).drain_s
    began = ground.host.ticks()
    late_s = min(LATE_S, patience_s)
    while (waited_s := ground.host.ticks() - began) < patience_s:
        if waited_s >= late_s and not ground.host.connections_to(release.port):
            return True
        ground.host.sleep(POLL_S)
    return not ground.host.connections_to(release.port)


def finish(ground: Ground, release: Release, previous: Release | None, replaced: str) -> None:
    """End what is left of a release that serves: the slot before it, and its own record."""
    store = ground.store
    going = ground.web_of(previous) if previous else None
    if going and going.is_running:
        ground.docker.stop(going)
    if previous and previous.id != release.id:
        store.write(store.read(previous.id).became(replaced))
    store.keep_environments(release.id, previous.id if previous else "")


def repair(ground: Ground) -> str:
    """Finish or undo what was interrupted, and see that what should serve does. Says what it did.

    Needs the lock.
    """
    store = ground.store
    state = store.state
    current = store.current
    if not state:
        if current:
            settle(ground, current)
        return f"{current.id} serves" if current else "nothing is released yet"
    candidate = _read(ground, state["id"])
    previous = _read(ground, state["previous"])
    if candidate and current and current.id == candidate.id:
        settle(ground, candidate)
        finish(ground, candidate, previous, _replaced(state))
        candidate = store.read(candidate.id)
        store.write(candidate.became(SERVING, error=""))
        store.note()
        return f"{candidate.id} was nearly done, and serves"
    settle(ground, current, away=candidate)
    discard(ground, candidate, state, f"interrupted in step {state['phase']}")
    store.note()
    return f"{state['id']} was undone" + (f"; {current.id} serves" if current else "")


def discard(ground: Ground, candidate: Release | None, state: dict, error: str) -> None:
    """Record that a release did not come about."""
    store = ground.store
    if candidate is None:
        store.forget(state["id"])
    elif state["verb"] == "rollback":
        store.write(store.read(candidate.id).became(state["before"]))
    else:
        seconds = round(ground.host.now() - state["began"], 1)
        store.write(store.read(candidate.id).became(FAILED, error=error, seconds=seconds))
    store.keep_environments(store.current.id if store.current else "")


def _replaced(state: dict) -> str:
    return ROLLED_BACK if state["verb"] == "rollback" else REPLACED


def _read(ground: Ground, id: str | None) -> Release | None:
    if not id or not (ground.store.folder(id) / "release.json").is_file():
        return None
    return ground.store.read(id)


def _has_begun(ground: Ground, release: Release) -> bool:
    return ground.generated_of(release).is_file()


def _is_its(container: Container | None, release: Release) -> bool:
    if container is None or container.release != release.id:
        return False
    return container.is_running or container.state == "exited"
