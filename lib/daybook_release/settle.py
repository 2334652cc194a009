"""Make the host what one release says, whatever is found there.

This is how a failed release is undone and how an interrupted one is repaired: nothing is taken
on trust, everything is looked at first, and doing it twice does nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

from daybook_release import generate, limits
from daybook_release.docker import Container
from daybook_release.errors import Failed, Refused
from daybook_release.ground import Ground
from daybook_release.store import FAILED, REPLACED, ROLLED_BACK, SERVED, SERVING, Release

READY_S = 60.0
POLL_S = 0.1
AGAIN = {"at": "since", "by": "by", "run": "run", "seconds": "served"}
UNDERWAY_S = 1.0
"""How long a request that was led to the old slot before the switch may take to get there."""


def settle(
    ground: Ground,
    release: Release | None,
    *,
    away: Release | None = None,
    is_switched: bool = True,
) -> bool:
    """Let `release` serve and nothing else; True when it answers.

    away: the one that goes. is_switched: False when Caddy is known to lead to `release`.
    """
    ground.docker.wait()
    if release:
        see_accessories(ground, release)
        see_web(ground, release)
    was_switched = is_switched and ground.caddy.restore(ground.site_of(release))
    if away:
        put_away(ground, away, in_use=was_switched)
    see_workers(ground, release, away)
    return release is None or answers(ground, release)


def see_accessories(ground: Ground, release: Release) -> None:
    """See that what the application needs runs; nothing of it is ever recreated."""
    wanted = generate.kinds(ground.model_of(release)).accessories
    running = {each.service for each in ground.docker.containers() if each.is_running}
    if missing := [name for name in wanted if name not in running]:
        start(ground, release, missing, "--no-recreate")


def see_web(ground: Ground, release: Release) -> None:
    """See that a release's slot runs."""
    container = ground.web_of(release)
    if container is None:
        start(ground, release, [ground.slot_of(release)])
    elif not container.is_running:
        ground.docker.start(container)


def answers(ground: Ground, release: Release) -> bool:
    """Wait until a release's slot answers its health path; False when it does not in time."""
    path = ground.wishes_of(release).health
    deadline = ground.host.ticks() + READY_S
    while ground.ask(release, path).status != 200:
        if ground.host.ticks() > deadline:
            return False
        ground.host.sleep(POLL_S)
    return True


def put_away(ground: Ground, release: Release, *, in_use: bool) -> None:
    """Remove a release's slot and what its migration left; visitors' requests are finished."""
    going = ground.web_of(release) if ground.has_files(release) else None
    if going:
        if in_use and going.is_running:
            drain(ground, release)
        ground.docker.remove(going)
    for container in ground.docker.containers(one_off=True):
        if container.release == release.id:
            ground.docker.remove(container)


def see_workers(ground: Ground, release: Release | None, away: Release | None) -> None:
    """See that the workers are those of this release, and no others."""
    wanted = generate.kinds(ground.model_of(release)).workers if release else ()
    there = {each.service: each for each in ground.docker.containers()}
    theirs = ()
    if away and ground.has_files(away):
        theirs = generate.kinds(ground.model_of(away)).workers
    for name in set(theirs) - set(wanted):
        if name in there and there[name].release == away.id:
            ground.docker.remove(there[name])
    if missing := [name for name in wanted if not _does_its(ground, there.get(name), release)]:
        start(ground, release, missing)


def start(ground: Ground, release: Release, services: Sequence[str], *how: str) -> None:
    """Start services of a release with the environment that is kept for it.

    Their images are pulled here: Compose has no credentials.
    """
    env = ground.store.environment(release.id)
    if env is None:
        raise Failed(
            f"The environment of {release.id} is not kept here any more.",
            next=f"sudo release deploy {release.image}",
        )
    made = ground.filled_in(release, env)
    for image in sorted({made["services"][name]["image"] for name in services}):
        if ground.docker.image(image) is None:
            _pull(ground, image)
    done = ground.docker.up(made, services, *how)
    if not done.is_good:
        raise Failed(f"{', '.join(services)} cannot be started: {done.last_words}")


def _pull(ground: Ground, image: str) -> None:
    try:
        ground.docker.pull(image)
    except Refused as err:
        # Without the registry's own words: an image may name any registry, or what looks like one.
        raise Failed(f"{image} cannot be pulled.", next=f"sudo docker pull {image}") from err


def drain(ground: Ground, release: Release) -> bool:
    """Wait for the requests that a slot still has; False when its time was over first."""
    patience_s = min(ground.wishes_of(release).drain_s, limits.DRAIN_S)
    began = ground.host.ticks()
    underway_s = min(UNDERWAY_S, patience_s)
    while (waited_s := ground.host.ticks() - began) < patience_s:
        if waited_s >= underway_s and not ground.host.connections_to(release.port):
            return True
        ground.host.sleep(POLL_S)
    return not ground.host.connections_to(release.port)


def finish(ground: Ground, release: Release, previous: Release | None, state: dict) -> Release:
    """End what is left of a release that serves: the slot before it, and its own record."""
    store = ground.store
    going = ground.web_of(previous) if previous else None
    if going and going.is_running:
        ground.docker.stop(going)
    if previous:
        store.write(previous.became(ROLLED_BACK if state["verb"] == "rollback" else REPLACED))
    again = {key: state[name] for key, name in AGAIN.items()}
    was_here = state["before"] in SERVED
    changes = {"again": (*release.again, again)} if was_here else {"seconds": state["served"]}
    done = store.write(release.became(SERVING, error="", **changes))
    store.keep_environments(release.id, previous.id if previous else "")
    store.note()
    return done


def discard(ground: Ground, candidate: Release | None, state: dict, error: str) -> None:
    """Record that a release did not come about."""
    store = ground.store
    if candidate is None:
        store.forget(state["id"])
    elif state["verb"] == "rollback":
        store.write(candidate.became(state["before"]))
    else:
        seconds = round(ground.host.now() - state["began"], 1)
        store.write(candidate.became(FAILED, error=error, seconds=seconds))
    store.keep_environments(store.current.id if store.current else "")
    store.note()


def repair(ground: Ground) -> str:
    """Finish or undo what was interrupted, and see that what should serve does. Says what it did.

    Needs the lock.
    """
    state, current = ground.store.state, ground.store.current
    candidate = ground.store.find(state.get("id"))
    if not state:
        says, well = "nothing was interrupted", settle(ground, current)
    elif candidate and current and current.id == candidate.id:
        well = settle(ground, candidate)
        current = finish(ground, candidate, ground.store.find(state["previous"]), state)
        says = f"{candidate.id} was finished"
    else:
        well = settle(ground, current, away=candidate)
        discard(ground, candidate, state, f"Interrupted in step {state['phase']}.")
        says = f"{state['id']} was undone"
    if not well:
        raise Failed(
            f"{current.id} runs but does not answer.", next="sudo release logs; release another"
        )
    return f"{says}; {current.id} serves" if current else f"{says}; nothing is released"


def _does_its(ground: Ground, container: Container | None, release: Release) -> bool:
    """Tell whether a worker runs, or has ended well, as one does that runs once."""
    if container is None or container.release != release.id:
        return False
    seen = ground.docker.look(container)
    return bool(seen) and (seen.is_running or (seen.state, seen.exit_code) == ("exited", 0))
