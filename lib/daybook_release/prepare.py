"""Everything a release needs, found and checked before anything is begun."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from daybook_release import (
    document,
    generate,
    names,
    parameters,
    rules,
    settings,
    site,
    store,
    variables,
)
from daybook_release.context import Context
from daybook_release.docker import LocalImage
from daybook_release.errors import Refused, UsageError
from daybook_release.printable import LABEL_CHARS, printable
from daybook_release.settings import HostSettings
from daybook_release.store import Release

REFERENCE = re.compile(r"([^@\s]+)@sha256:[0-9a-f]{64}")
VERSION = "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"
COMPOSE, CADDYFILE = "daybook.compose", "daybook.caddyfile"
LABEL_BYTES = 1024**2
"""The most that a label's file may hold, unpacked."""
DOCKER_FILES = Path("/var/lib/docker")
SPARE = 256 * 1024**2
"""Bytes that must be left on disk, and in memory, besides what the second copy takes."""


def check_reference(image: str, its: HostSettings) -> None:
    """Refuse an image that is not named by its digest, or not this application's."""
    found = REFERENCE.fullmatch(image)
    if not found:
        raise UsageError(
            f"{image} does not name an image by its digest.",
            next=f"sudo release deploy {its.repository}@sha256:…",
        )
    if found[1] != its.repository:
        raise Refused(
            f"{found[1]} is not this host's repository.", next=f"give {its.repository}@sha256:…"
        )


def check_room(context: Context, previous: Release | None) -> str:
    """Refuse when there is no room for a second copy; says what there is."""
    serving = context.web_of(previous) if previous else None
    image = context.docker.image(previous.image) if previous else None
    disk = shutil.disk_usage(DOCKER_FILES).free
    memory = available_memory()
    wants_disk = SPARE + (image.size if image else 0)
    wants_memory = SPARE // 4 + (context.docker.memory(serving) if serving else 0)
    for what, there, wanted, do in (
        ("disk", disk, wants_disk, "sudo release prune"),
        ("memory", memory, wants_memory, "look with: free -m; or take a larger instance"),
    ):
        if there < wanted:
            message = f"{there // 2**20} MiB of {what} are free, a second copy needs"
            raise Refused(f"{message} {wanted // 2**20}.", next=do)
    return f"{disk // 2**20} MiB disk, {memory // 2**20} MiB memory free"


def available_memory() -> int:
    """Return the bytes that a new process could have."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        said = dict(line.split(":", 1) for line in lines)
    return int(said["MemAvailable"].split()[0]) * 1024


def pull(context: Context, reference: str) -> LocalImage:
    """Return the image, fetched unless it is here."""
    image = context.docker.image(reference)
    if image is None:
        context.docker.pull(reference)
        image = context.docker.image(reference)
    if image is None or COMPOSE not in image.labels:
        raise Refused(
            "The image does not carry its compose file.",
            next="build it with Daybook, which labels it: daybook run first-deploy",
        )
    return image


def label(image: LocalImage, name: str) -> str:
    """Return what a label says, as one short line: it is shown, kept and compared like this."""
    return printable(image.labels.get(name) or "", LABEL_CHARS)


def unpack(label: str) -> str:
    """Return the text of a label: base64 of gzip."""
    try:
        packed = zlib.decompressobj(wbits=31)
        text = packed.decompress(base64.b64decode(label, validate=True), LABEL_BYTES).decode()
    except (ValueError, zlib.error) as err:
        raise Refused(
            "A label of the image is damaged.", next="build the image again with Daybook"
        ) from err
    if not packed.eof:
        message = f"A label of the image is cut, or holds more than {LABEL_BYTES // 1024} KiB."
        raise Refused(message, next="shorten the file, and build the image again with Daybook")
    return text


def keep_files(context: Context, id: str, image: LocalImage) -> None:
    """Put what the image carries into the release's folder, and refuse what cannot be released."""
    kept, text = context.store, unpack(image.labels[COMPOSE])
    kept.put(id, "compose.yaml", text)
    kept.put(id, "settings.json", context.settings_text)
    keep_model(context, id, context.settings)
    template = image.labels.get(CADDYFILE)
    kept.put(id, "site.template", unpack(template) if template else site.BUILT_IN)


def keep_model(context: Context, id: str, its: HostSettings) -> None:
    """Keep what a release's compose.yaml says as data; Refused when it breaks a rule."""
    try:
        read = document.read(context.store.text(id, "compose.yaml"))
    except document.InvalidComposeFile as err:
        raise _cannot([str(err)]) from err
    known = {*names.OWN, *its.secrets}
    if found := rules.problems(read.tree) + rules.unknown(read.tree, known):
        raise _cannot([problem.line(read) for problem in found])
    context.store.put(id, "model.json", json.dumps(read.tree, indent=1))


def _cannot(lines: list[str]) -> Refused:
    return Refused(
        "compose.yaml cannot be released:\n  " + "\n  ".join(lines),
        next="correct compose.yaml and build the image again",
    )


def check_as_compose_reads(context: Context, release: Release, filled_in: rules.Model) -> None:
    """Hold what Compose itself makes of the file to the same rules."""
    its = context.settings_of(release)
    web = context.slot_of(release)
    taken = (its.port, its.port + 1)
    final = rules.RenderedValues(its.app, release.image, web, release.port, taken)
    printed = context.docker.config(filled_in)
    found = [f"{'.'.join(map(str, p.path))}: {p.message}" for p in rules.problems(printed, final)]
    if set(printed.get("services") or ()) != set(filled_in["services"]):
        found.append("services: they are not those of compose.yaml")
    if found:
        raise Refused(
            "What Compose makes of compose.yaml cannot be released:\n  " + "\n  ".join(found),
            next="correct compose.yaml and build the image again",
        )


def fetch_secrets(
    context: Context, its: HostSettings, pinned: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return values and versions of the declared secrets, each at its pinned version if any."""
    if unknown := sorted(set(pinned) - set(its.secrets)):
        raise Refused(f"This host does not know {', '.join(unknown)}.", next=settings.CONFIGURE)
    if found := [problem for name in its.secrets if (problem := names.problem_of(name))]:
        raise Refused(
            "A secret has a name that it may not have: " + "; ".join(found),
            next="rename it in the environment's settings, then: daybook run configure",
        )
    if not its.secrets:
        return {}, {}
    wanted = {name: pinned.get(name) for name in its.secrets}
    values, versions = parameters.fetch(context.host, its.region, its.parameters, wanted)
    for name, value in values.items():
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Refused(
                f"The value of {name} is not text that a variable can hold.",
                next=f"daybook secrets set {name}",
            )
    return values, versions


def place(context: Context, release: Release, previous: Release | None) -> Release:
    """Return the release with the slot and the port that are free."""
    base = context.settings_of(release).port
    blue, green = generate.SLOTS
    slot = green if previous and previous.slot == blue else blue
    ports = (base, base + 1) if slot == blue else (base + 1, base)
    port = next(port for port in ports if not previous or port != previous.port)
    return store.replace(release, slot=slot, port=port)


def write_files(context: Context, release: Release, values: Mapping[str, str]) -> None:
    """Write what starts the release in its slot and what Caddy will say, and have it checked."""
    its, kept = context.settings_of(release), context.store
    message = {
        "APP_NAME": its.app,
        "APP_IMAGE": release.image,
        "APP_VERSION": release.version,
        "APP_ENVIRONMENT": its.environment,
        "APP_HOST": its.host,
        "APP_PORT": str(release.port),
    }
    environment = {**values, **message}
    made = generate.generated(
        context.model_of(release),
        app=its.app,
        release=release.id,
        slot=release.slot,
        port=release.port,
        names=tuple(sorted(environment)),
    )
    kept.put(release.id, "environment.json", json.dumps(environment), mode=0o600)
    kept.put(release.id, "generated.json", json.dumps(made, indent=1))
    nothing_secret = dict.fromkeys(values, "value") | message
    check_as_compose_reads(context, release, variables.render(made, nothing_secret))
    rendered = site.render(kept.text(release.id, "site.template"), its.names, its.app, its.port)
    context.caddy.check(rendered)
    kept.put(release.id, "site.caddy", rendered.text)
