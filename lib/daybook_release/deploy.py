"""The two ways to a rollout: a new release of an image, and an earlier release again."""

from __future__ import annotations

from collections.abc import Mapping

from daybook_release import prepare, settings, settle, store
from daybook_release.errors import Refused
from daybook_release.ground import Ground
from daybook_release.rollout import Rollout
from daybook_release.settings import Settings
from daybook_release.signals import Signals
from daybook_release.store import REPLACED, SERVED, Release


def deploy(
    ground: Ground,
    image: str,
    signals: Signals,
    *,
    by: str,
    run: str = "",
    pinned: Mapping[str, int],
) -> Release:
    """Release an image; needs the lock."""
    prepare.check_reference(image, ground.settings)
    began = ground.host.now()
    previous = _ready(ground)
    id, at = store.new_id(began, image), store.utc(began)
    release = Release(id, image, "", "", by, run, at, settings.digest(ground.settings_text))
    rollout = Rollout(ground, signals, "deploy", by, run, began, release, previous)
    ground.store.note(**rollout.state("prepare"))
    try:
        rollout.candidate = _prepare(ground, release, previous, pinned)
        if _is_the_same(ground, rollout.candidate, previous):
            ground.store.forget(id)
            ground.store.note()
            ground.progress.line("Nothing to do: this image serves, configured like this.")
            return previous
    except BaseException:
        signals.hold()
        ground.store.forget(id)
        ground.store.note()
        raise
    return rollout.go()


def rollback(
    ground: Ground, id: str | None, signals: Signals, *, by: str, run: str = ""
) -> Release:
    """Let an earlier release serve again, all of it; needs the lock."""
    began = ground.host.now()
    previous = _ready(ground)
    release = _earlier(ground, id, previous)
    rollout = Rollout(ground, signals, "rollback", by, run, began, release, previous)
    ground.store.note(**rollout.state("prepare"))
    try:
        with ground.progress.step("pull", _short(release.image)):
            prepare.pull(ground, release.image)
        its = ground.settings_of(release)
        # What was released before a rule was made has to keep it, too.
        prepare.keep_model(ground, release.id, its)
        values = _secrets(ground, its, release.secrets)[0]
        rollout.candidate = prepare.place(ground, release, previous)
        prepare.write_files(ground, rollout.candidate, values)
        ground.store.write(rollout.candidate)
    except BaseException:
        signals.hold()
        ground.store.note()
        raise
    return rollout.go()


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
    ground: Ground, release: Release, previous: Release | None, pinned: Mapping[str, int]
) -> Release:
    with ground.progress.step("pull", _short(release.image)):
        image = prepare.pull(ground, release.image)
    with ground.progress.step("read", "compose.yaml"):
        prepare.keep_files(ground, release.id, image)
    values, versions = _secrets(ground, ground.settings, pinned)
    release = store.replace(
        release,
        version=prepare.label(image, prepare.VERSION) or release.id.rpartition("-")[2],
        commit=prepare.label(image, prepare.REVISION),
        secrets=versions,
    )
    release = prepare.place(ground, release, previous)
    with ground.progress.step("write", f"for {release.slot} on port {release.port}"):
        prepare.write_files(ground, release, values)
    return ground.store.write(release)


def _secrets(
    ground: Ground, its: Settings, pinned: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, int]]:
    with ground.progress.step("secrets") as said:
        values, versions = prepare.fetch_secrets(ground, its, pinned)
        said.text = ", ".join(f"{n}={v}" for n, v in sorted(versions.items())) or "none"
    return values, versions


def _is_the_same(ground: Ground, release: Release, previous: Release | None) -> bool:
    alike = ("image", "settings", "secrets")
    if not previous or any(getattr(release, k) != getattr(previous, k) for k in alike):
        return False
    return ground.ask(previous, ground.wishes_of(previous).health).status == 200


def _earlier(ground: Ground, id: str | None, current: Release | None) -> Release:
    """Return the release to go back to: this one, or the newest that was replaced."""
    for each in ground.store.all():
        is_able = each.result in SERVED and (not current or each.id != current.id)
        if is_able and (each.id == id or (not id and each.result == REPLACED)):
            return each
    says = f"{id} is no release to go back to." if id else "No release served before this one."
    raise Refused(says, next="sudo release list")


def _short(image: str) -> str:
    return image.rpartition("@")[2][:19] + "…"
