"""The two commands that start a rollout: deploy a new image, or roll back to an earlier release."""

from __future__ import annotations

from collections.abc import Mapping

from daybook_release import prepare, reconcile, settings, store
from daybook_release.context import HostContext
from daybook_release.errors import Refused
from daybook_release.rollout import Rollout
from daybook_release.settings import HostSettings
from daybook_release.signals import Signals
from daybook_release.store import REPLACED, SERVED, Release


def deploy(
    context: HostContext,
    image: str,
    signals: Signals,
    *,
    by: str,
    run: str = "",
    pinned_versions: Mapping[str, int],
) -> Release:
    """Release an image. The caller holds the lock."""
    prepare.check_reference(image, context.settings)
    began = context.system.now()
    previous = _check_host(context)
    id, at = context.store.unused_id(began, image), store.utc(began)
    release = Release(id, image, "", "", by, run, at, settings.digest(context.settings_text))
    rollout = Rollout(context, signals, "deploy", by, run, began, release, previous)
    context.store.save_state(**rollout.state("prepare"))
    try:
        rollout.candidate = _prepare(context, release, previous, pinned_versions)
        if _is_unchanged(context, rollout.candidate, previous):
            context.store.delete(id)
            context.store.clear_state()
            context.progress.line(
                "No changes: this image is serving with the same settings and secrets."
            )
            return previous
    except BaseException:
        signals.hold()
        context.store.delete(id)
        context.store.clear_state()
        raise
    return rollout.go()


def rollback(
    context: HostContext, id: str | None, signals: Signals, *, by: str, run: str = ""
) -> Release:
    """Serve an earlier release again, with its settings and secrets. The caller holds the lock."""
    began = context.system.now()
    previous = _check_host(context)
    release = _find_earlier(context, id, previous)
    rollout = Rollout(context, signals, "rollback", by, run, began, release, previous)
    context.store.save_state(**rollout.state("prepare"))
    try:
        with context.progress.step("pull", _short_digest(release.image)):
            prepare.pull(context, release.image)
        host = context.settings_of(release)
        # A release that is older than a rule must follow the rule, too.
        prepare.store_model(context, release.id, host)
        values = _fetch_secrets(context, host, release.secrets)[0]
        rollout.candidate = prepare.assign_slot(context, release, previous)
        prepare.write_files(context, rollout.candidate, values)
        context.store.write(rollout.candidate)
    except BaseException:
        signals.hold()
        context.store.clear_state()
        raise
    return rollout.go()


def _check_host(context: HostContext) -> Release | None:
    """Repair an interrupted release, check resources and Caddy; return the current release."""
    if context.store.state:
        with context.progress.step("repair") as step:
            step.text = reconcile.repair(context)
    context.docker.wait()
    previous = context.store.current
    with context.progress.step("room") as step:
        step.text = prepare.check_room(context, previous)
    if not context.caddy.is_running():
        raise Refused(
            "Caddy is not running: visitors get no response, and traffic cannot be switched.",
            next="sudo systemctl start caddy; sudo release status",
        )
    return previous


def _prepare(
    context: HostContext,
    release: Release,
    previous: Release | None,
    pinned_versions: Mapping[str, int],
) -> Release:
    with context.progress.step("pull", _short_digest(release.image)):
        image = prepare.pull(context, release.image)
    with context.progress.step("read", "compose.yaml"):
        prepare.store_files(context, release.id, image)
    values, versions = _fetch_secrets(context, context.settings, pinned_versions)
    release = store.replace(
        release,
        version=prepare.label(image, prepare.VERSION) or release.id.rpartition("-")[2],
        commit=prepare.label(image, prepare.REVISION),
        secrets=versions,
    )
    release = prepare.assign_slot(context, release, previous)
    with context.progress.step("write", f"for {release.slot} on port {release.port}"):
        prepare.write_files(context, release, values)
    return context.store.write(release)


def _fetch_secrets(
    context: HostContext, host: HostSettings, pinned_versions: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, int]]:
    with context.progress.step("secrets") as step:
        values, versions = prepare.fetch_secrets(context, host, pinned_versions)
        step.text = ", ".join(f"{n}={v}" for n, v in sorted(versions.items())) or "none"
    return values, versions


def _is_unchanged(context: HostContext, release: Release, previous: Release | None) -> bool:
    compared = ("image", "settings", "secrets")
    if not previous or any(getattr(release, k) != getattr(previous, k) for k in compared):
        return False
    return context.get_from_slot(previous, context.options_of(previous).health).status == 200


def _find_earlier(context: HostContext, id: str | None, current: Release | None) -> Release:
    """Return the release with this id; without an id, the one that was replaced last."""
    for release in context.store.all():
        is_candidate = release.result in SERVED and (not current or release.id != current.id)
        if is_candidate and (release.id == id or (not id and release.result == REPLACED)):
            return release
    message = "There is no earlier release to roll back to."
    if id:
        message = f"Cannot roll back to {id}: it does not exist, it failed, or it is serving now."
    raise Refused(message, next="sudo release list")


def _short_digest(image: str) -> str:
    return image.rpartition("@")[2][:19] + "…"
