"""Bring the host to the state that one release describes, whatever its state is now.

This undoes a failed release and repairs an interrupted one. It assumes nothing about the host,
observes before it changes anything, and is idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence

from daybook_release import generate, limits
from daybook_release.context import HostContext
from daybook_release.docker import Container
from daybook_release.errors import Failed, Refused
from daybook_release.store import FAILED, REPLACED, ROLLED_BACK, SERVED, SERVING, Release

READY_S = 60.0
POLL_S = 0.1
AGAIN = {"at": "since", "by": "by", "run": "run", "seconds": "served"}
"""The keys of an entry in `Release.again`, and the keys of the state that they come from."""
IN_FLIGHT_S = 1.0
"""How long a request that Caddy routed to the old slot before the switch may take to reach it."""


def reconcile(
    context: HostContext,
    release: Release | None,
    *,
    removed: Release | None = None,
    is_switched: bool = True,
) -> bool:
    """Make `release` the only one that serves; return whether it answers.

    removed: a release to remove from the host. is_switched: False if Caddy certainly routes to
    `release`.
    """
    context.docker.wait()
    if release:
        ensure_accessories(context, release)
        ensure_web(context, release)
    was_switched = is_switched and context.caddy.restore(context.site_of(release))
    if removed:
        remove_slot(context, removed, has_traffic=was_switched)
    ensure_workers(context, release, removed)
    return release is None or answers(context, release)


def ensure_accessories(context: HostContext, release: Release) -> None:
    """Start the accessories that do not run; never recreate one."""
    names = generate.service_kinds(context.model_of(release)).accessories
    containers = context.docker.containers()
    running = {container.service for container in containers if container.is_running}
    if missing := [name for name in names if name not in running]:
        start(context, release, missing, "--no-recreate")


def ensure_web(context: HostContext, release: Release) -> None:
    """Start a release's slot unless it runs."""
    container = context.web_of(release)
    if container is None:
        start(context, release, [context.slot_of(release)])
    elif not container.is_running:
        context.docker.start(container)


def answers(context: HostContext, release: Release) -> bool:
    """Wait until a release's slot answers its health path; False when it timed out."""
    path = context.options_of(release).health
    deadline = context.system.monotonic() + READY_S
    while context.get_from_slot(release, path).status != 200:
        if context.system.monotonic() > deadline:
            return False
        context.system.sleep(POLL_S)
    return True


def remove_slot(context: HostContext, release: Release, *, has_traffic: bool) -> None:
    """Drain and remove a release's slot, and remove the containers of its migration."""
    web = context.web_of(release) if context.has_files(release) else None
    if web:
        if has_traffic and web.is_running:
            drain(context, release)
        context.docker.remove(web)
    for container in context.docker.containers(one_off=True):
        if container.release == release.id:
            context.docker.remove(container)


def ensure_workers(context: HostContext, release: Release | None, removed: Release | None) -> None:
    """Start the missing workers of `release` and remove the other workers of `removed`."""
    kept = generate.service_kinds(context.model_of(release)).workers if release else ()
    containers = {container.service: container for container in context.docker.containers()}
    old_workers = ()
    if removed and context.has_files(removed):
        old_workers = generate.service_kinds(context.model_of(removed)).workers
    for name in set(old_workers) - set(kept):
        if name in containers and containers[name].release == removed.id:
            context.docker.remove(containers[name])
    missing = [name for name in kept if not _has_run(context, containers.get(name), release)]
    if missing:
        start(context, release, missing)


def start(context: HostContext, release: Release, services: Sequence[str], *options: str) -> None:
    """Start services of a release with its stored environment.

    Images are pulled here, because Compose has no credentials.
    """
    environment = context.store.environment(release.id)
    if environment is None:
        raise Failed(
            f"The environment of {release.id} is no longer stored on this host.",
            next=f"sudo release deploy {release.image}",
        )
    model = context.render(release, environment)
    for image in sorted({model["services"][name]["image"] for name in services}):
        if context.docker.image(image) is None:
            _pull(context, image)
    result = context.docker.up(model, services, *options)
    if not result.is_success:
        raise Failed(f"Cannot start {', '.join(services)}: {result.output_tail}")


def _pull(context: HostContext, image: str) -> None:
    try:
        context.docker.pull(image)
    except Refused as err:
        # Omit the registry's response: the image may come from any registry, or a fake one.
        raise Failed(f"Cannot pull {image}.", next=f"sudo docker pull {image}") from err


def drain(context: HostContext, release: Release) -> bool:
    """Wait until a slot has no open requests; False when it timed out first."""
    system = context.system
    timeout_s = min(context.options_of(release).drain_s, limits.DRAIN_S)
    began = system.monotonic()
    in_flight_s = min(IN_FLIGHT_S, timeout_s)
    while (waited_s := system.monotonic() - began) < timeout_s:
        if waited_s >= in_flight_s and not system.open_connections(release.port):
            return True
        system.sleep(POLL_S)
    return not system.open_connections(release.port)


def finish(
    context: HostContext, release: Release, previous: Release | None, state: dict
) -> Release:
    """Complete a committed release: stop the previous slot and record both results."""
    store = context.store
    old_web = context.web_of(previous) if previous else None
    if old_web and old_web.is_running:
        context.docker.stop(old_web)
    if previous:
        result = ROLLED_BACK if state["verb"] == "rollback" else REPLACED
        store.write(previous.with_result(result))
    again = {key: state[name] for key, name in AGAIN.items()}
    has_served = state["before"] in SERVED
    changes = {"again": (*release.again, again)} if has_served else {"seconds": state["served"]}
    finished = store.write(release.with_result(SERVING, error="", **changes))
    store.delete_environments(except_for=(release.id, previous.id if previous else ""))
    store.clear_state()
    return finished


def discard(context: HostContext, candidate: Release | None, state: dict, error: str) -> None:
    """Record that a rollout failed."""
    store = context.store
    if candidate is None:
        store.delete(state["id"])
    elif state["verb"] == "rollback":
        store.write(candidate.with_result(state["before"]))
    else:
        seconds = round(context.system.now() - state["began"], 1)
        store.write(candidate.with_result(FAILED, error=error, seconds=seconds))
    store.delete_environments(except_for=(store.current.id,) if store.current else ())
    store.clear_state()


def repair(context: HostContext) -> str:
    """Finish or undo an interrupted rollout and start the current release if needed.

    Returns a summary. The caller holds the lock.
    """
    state, current = context.store.state, context.store.current
    candidate = context.store.find(state.get("id"))
    if not state:
        summary, is_serving = "nothing was interrupted", reconcile(context, current)
    elif candidate and current and current.id == candidate.id:
        is_serving = reconcile(context, candidate)
        current = finish(context, candidate, context.store.find(state["previous"]), state)
        summary = f"{candidate.id} was finished"
    else:
        is_serving = reconcile(context, current, removed=candidate)
        discard(context, candidate, state, f"Interrupted in step {state['phase']}.")
        summary = f"{state['id']} was undone"
    if not is_serving:
        raise Failed(
            f"{current.id} runs but does not answer.", next="sudo release logs; release another"
        )
    return f"{summary}; {current.id} serves" if current else f"{summary}; no release is serving"


def _has_run(context: HostContext, container: Container | None, release: Release) -> bool:
    """Tell whether a worker runs, or has exited with code 0 as a one-time task does."""
    if container is None or container.release != release.id:
        return False
    latest = context.docker.inspect(container)
    return bool(latest) and (latest.is_running or (latest.state, latest.exit_code) == ("exited", 0))
