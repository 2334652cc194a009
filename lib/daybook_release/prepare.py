"""Collect and check everything that a release needs before the rollout begins."""

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
from daybook_release.context import HostContext
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
"""The maximum size of a label's file, unpacked."""
DOCKER_FILES = Path("/var/lib/docker")
RESERVE = 256 * 1024**2
"""Bytes that must stay free on disk beside a second copy, and a quarter of that in memory."""


def check_reference(image: str, host: HostSettings) -> None:
    """Refuse an image that is not named by digest or comes from another repository."""
    match = REFERENCE.fullmatch(image)
    if not match:
        raise UsageError(
            f"{image} does not name an image by digest.",
            next=f"sudo release deploy {host.repository}@sha256:…",
        )
    if match[1] != host.repository:
        raise Refused(
            f"{match[1]} is not this host's repository.", next=f"use {host.repository}@sha256:…"
        )


def check_room(context: HostContext, previous: Release | None) -> str:
    """Refuse if disk or memory is too small for a second copy; return a summary of both."""
    web = context.web_of(previous) if previous else None
    image = context.docker.image(previous.image) if previous else None
    disk = shutil.disk_usage(DOCKER_FILES).free
    memory = available_memory()
    needed_disk = RESERVE + (image.size if image else 0)
    needed_memory = RESERVE // 4 + (context.docker.memory_usage(web) if web else 0)
    for resource, free, needed, remedy in (
        ("disk", disk, needed_disk, "sudo release prune"),
        ("memory", memory, needed_memory, "check with: free -m; or use a larger instance"),
    ):
        if free < needed:
            message = f"A second copy needs {needed // 2**20} MiB of {resource}"
            raise Refused(f"{message}; {free // 2**20} MiB are free.", next=remedy)
    return f"{disk // 2**20} MiB disk, {memory // 2**20} MiB memory free"


def available_memory() -> int:
    """Return the bytes of memory available to new processes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def pull(context: HostContext, reference: str) -> LocalImage:
    """Return an image, pulled unless it is on this host."""
    image = context.docker.image(reference)
    if image is None:
        context.docker.pull(reference)
        image = context.docker.image(reference)
    if image is None or COMPOSE not in image.labels:
        raise Refused(
            "The image has no label with its compose file.",
            next="build it with Daybook, which adds the label: daybook run first-deploy",
        )
    return image


def label(image: LocalImage, name: str) -> str:
    """Return the value of a label as one short line, as it is shown, stored and compared."""
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
        message = f"A label of the image is truncated or holds more than {LABEL_BYTES // 1024} KiB."
        raise Refused(message, next="shorten the file, and build the image again with Daybook")
    return text


def store_files(context: HostContext, id: str, image: LocalImage) -> None:
    """Store the files from the image's labels; raise Refused if they cannot be released."""
    files, text = context.store, unpack(image.labels[COMPOSE])
    files.put(id, "compose.yaml", text)
    files.put(id, "settings.json", context.settings_text)
    store_model(context, id, context.settings)
    template = image.labels.get(CADDYFILE)
    files.put(id, "site.template", unpack(template) if template else site.BUILT_IN)


def store_model(context: HostContext, id: str, host: HostSettings) -> None:
    """Store a release's compose file as data; raise Refused if it breaks a rule."""
    try:
        compose = document.read(context.store.text(id, "compose.yaml"))
    except document.InvalidComposeFile as err:
        raise _invalid_compose_file([str(err)]) from err
    known = {*names.OWN, *host.secrets}
    if problems := [*rules.problems(compose.tree), *rules.unknown(compose.tree, known)]:
        raise _invalid_compose_file([problem.line(compose) for problem in problems])
    context.store.put(id, "model.json", json.dumps(compose.tree, indent=1))


def _invalid_compose_file(lines: list[str]) -> Refused:
    return Refused(
        "compose.yaml cannot be released:\n  " + "\n  ".join(lines),
        next="correct compose.yaml and build the image again",
    )


def check_compose_output(context: HostContext, release: Release, model: rules.Model) -> None:
    """Apply the rules to the model as Compose interprets it."""
    host = context.settings_of(release)
    slot = context.slot_of(release)
    taken = (host.port, host.port + 1)
    rendered = rules.RenderedValues(host.app, release.image, slot, release.port, taken)
    interpreted = context.docker.config(model)
    lines = [
        f"{'.'.join(map(str, p.path))}: {p.message}" for p in rules.problems(interpreted, rendered)
    ]
    if set(interpreted.get("services") or ()) != set(model["services"]):
        lines.append("services: they differ from those in compose.yaml")
    if lines:
        raise Refused(
            "compose.yaml as Compose interprets it cannot be released:\n  " + "\n  ".join(lines),
            next="correct compose.yaml and build the image again",
        )


def fetch_secrets(
    context: HostContext, host: HostSettings, pinned_versions: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return values and versions of the declared secrets; without a pinned version, the newest."""
    if unknown := sorted(set(pinned_versions) - set(host.secrets)):
        raise Refused(
            f"This host's settings do not declare {', '.join(unknown)}.", next=settings.CONFIGURE
        )
    if problems := [problem for name in host.secrets if (problem := names.problem_of(name))]:
        raise Refused(
            "A secret has a name that is not allowed: " + "; ".join(problems),
            next="rename it in the environment's settings, then: daybook run configure",
        )
    if not host.secrets:
        return {}, {}
    requested = {name: pinned_versions.get(name) for name in host.secrets}
    values, versions = parameters.fetch(context.system, host.region, host.parameters, requested)
    for name, value in values.items():
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Refused(
                f"The value of {name} cannot be stored in an environment variable.",
                next=f"daybook secrets set {name}",
            )
    return values, versions


def assign_slot(context: HostContext, release: Release, previous: Release | None) -> Release:
    """Return the release with the free slot and the free port."""
    base = context.settings_of(release).port
    blue, green = generate.SLOTS
    slot = green if previous and previous.slot == blue else blue
    ports = (base, base + 1) if slot == blue else (base + 1, base)
    port = next(port for port in ports if not previous or port != previous.port)
    return store.replace(release, slot=slot, port=port)


def write_files(context: HostContext, release: Release, values: Mapping[str, str]) -> None:
    """Write and check the compose model of a release's slot and its Caddy site."""
    host, files = context.settings_of(release), context.store
    own = {
        "APP_NAME": host.app,
        "APP_IMAGE": release.image,
        "APP_VERSION": release.version,
        "APP_ENVIRONMENT": host.environment,
        "APP_HOST": host.host,
        "APP_PORT": str(release.port),
    }
    environment = {**values, **own}
    generated = generate.generate(
        context.model_of(release),
        app=host.app,
        release=release.id,
        slot=release.slot,
        port=release.port,
        names=tuple(sorted(environment)),
    )
    files.put(release.id, "environment.json", json.dumps(environment), mode=0o600)
    files.put(release.id, "generated.json", json.dumps(generated, indent=1))
    placeholders = dict.fromkeys(values, "value") | own
    check_compose_output(context, release, variables.render(generated, placeholders))
    rendered = site.render(files.text(release.id, "site.template"), host.names, host.app, host.port)
    context.caddy.check(rendered)
    files.put(release.id, "site.caddy", rendered.text)
