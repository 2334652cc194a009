"""Old images go; those of the last releases stay, to go back to."""

from __future__ import annotations

from daybook_release.ground import Ground
from daybook_release.store import SERVED

RECORDS = 100
"""How many releases are remembered, with image or without."""


def kept(ground: Ground) -> set[str]:
    """Return the images that stay: what serves, and what served last."""
    served = [each for each in ground.store.all() if each.result in SERVED]
    newest = sorted(served, key=lambda each: (each.again or ({"at": each.at},))[-1]["at"])
    current = ground.store.current
    images = {each.image for each in newest[-ground.settings.keep :]}
    return images | ({current.image} if current else set())


def prune(ground: Ground) -> list[str]:
    """Remove the other images of the application's repository; needs the lock."""
    stay = kept(ground)
    there = ground.docker.images_of(ground.settings.repository)
    gone = [each for each in there if each not in stay and ground.docker.remove_image(each)]
    current = ground.store.current
    for old in ground.store.all()[RECORDS:]:
        if not current or old.id != current.id:
            ground.store.forget(old.id)
    return gone
