"""Remove old images; keep those of the last releases for a rollback."""

from __future__ import annotations

from daybook_release.context import HostContext
from daybook_release.store import SERVED, Release

RECORDS = 100
"""The number of releases that stay recorded, with or without their image."""


def kept_images(context: HostContext) -> set[str]:
    """Return the images of the current release and of the releases that served last."""
    served = [release for release in context.store.all() if release.result in SERVED]
    newest = sorted(served, key=_last_served)[-context.settings.keep :]
    current = context.store.current
    return {release.image for release in newest} | ({current.image} if current else set())


def prune(context: HostContext) -> list[str]:
    """Remove the other images of the application's repository. The caller holds the lock."""
    kept = kept_images(context)
    images = context.docker.images_of(context.settings.repository)
    removed = [name for name in images if name not in kept and context.docker.remove_image(name)]
    current = context.store.current
    for old in context.store.all()[RECORDS:]:
        if not current or old.id != current.id:
            context.store.delete(old.id)
    return removed


def _last_served(release: Release) -> str:
    return (release.again or ({"at": release.at},))[-1]["at"]
