"""The output of the commands that show releases, one release and the status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from daybook_release import generate, settings
from daybook_release.context import HostContext
from daybook_release.printable import LABEL_CHARS, printable, width
from daybook_release.store import Release

CELL = 32
"""The maximum width of a cell with text from an image or a person."""
LOG_LINES = 50
"""The number of lines shown from a failed release's log."""


def list_releases(context: HostContext) -> list[dict[str, Any]]:
    """Return all releases as JSON data, newest first."""
    current = context.store.current
    images = set(context.docker.images_of(context.settings.repository))
    return [
        asdict(release)
        | {
            "current": bool(current and release.id == current.id),
            "image_here": release.image in images,
        }
        for release in context.store.all()
    ]


def table(releases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a list of releases as the lines of a table."""
    head = ("", "release", "version", "result", "seconds", "by", "image")
    rows = [
        (
            "*" if release["current"] else "",
            release["id"],
            printable(release["version"], CELL),
            release["result"],
            f"{release['seconds']:.1f}",
            printable(release["by"], CELL),
            "present" if release["image_here"] else "pruned",
        )
        for release in releases
    ]
    widths = [max(width(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(
            cell + " " * (widest - width(cell)) for cell, widest in zip(row, widths, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def show_release(context: HostContext, release: Release) -> dict[str, Any]:
    """Return a release with its files and the changes to its compose file, as JSON data."""
    model = context.model_of(release)
    generated = json.loads(context.generated_of(release).read_text(encoding="utf-8"))
    return asdict(release) | {
        "compose": context.store.text(release.id, "compose.yaml"),
        "site": context.store.text(release.id, "site.caddy"),
        "difference": generate.difference(model, generated),
        "settings_text": context.store.text(release.id, "settings.json"),
        "log": _failed_log(context, release),
    }


def release_lines(shown: Mapping[str, Any]) -> list[str]:
    """Return the data of `show_release` as lines."""
    keys = ("id", "image", "version", "commit", "at", "by", "run", "seconds", "result", "error")
    lines = [f"{key:<9}{printable(shown[key], 1000)}" for key in keys if shown[key]]
    lines += [f"secrets  {name} at version {v}" for name, v in shown["secrets"].items()]
    lines += [f"again    {rollback['at']} by {rollback['by']}" for rollback in shown["again"]]
    lines += ["", *shown["difference"].splitlines(), "", *shown["site"].splitlines()]
    return lines + (["", "last output:", *shown["log"]] if shown["log"] else [])


def _failed_log(context: HostContext, release: Release) -> list[str]:
    """Return the last output of a failed release, saved before its container was removed."""
    try:
        return context.store.text(release.id, "failed.log").splitlines()[-LOG_LINES:]
    except FileNotFoundError:
        return []


def status(context: HostContext) -> dict[str, Any]:
    """Observe the current release and the rollout in progress; return them as JSON data."""
    store, state, is_locked = context.store, context.store.state, context.store.is_locked()
    current = store.current
    options = context.options_of(current) if current else None
    response = context.get_from_slot(current, options.health) if current else None
    version = ""
    if current and response.status == 200:
        version = current.version
        if options.version:
            version = version_in(context.get_from_slot(current, options.version).body)
    deploying = {key: state.get(key) for key in ("id", "since", "by", "pid", "phase")}
    interrupted = {"phase": state["phase"], "candidate": state["id"]} if state else None
    return {
        "current": current.id if current else None,
        "slot": current.slot if current else "",
        "healthy": bool(response and response.status == 200),
        "serving_version": version,
        "interrupted": None if is_locked else interrupted,
        "maintenance": store.in_maintenance,
        "deploying": deploying if is_locked and state else None,
        "settings": settings.digest(context.settings_text),
    }


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return the data of `status` as lines."""
    lines = ["no release yet; next: sudo release deploy IMAGE@DIGEST"]
    if status["current"]:
        health = "answers" if status["healthy"] else "does not answer; next: sudo release repair"
        version = status["serving_version"]
        lines = [f"{status['current']} in {status['slot']}: version {version} {health}"]
    if status["maintenance"]:
        lines.append("maintenance is on; next: sudo release maintenance off")
    if deploying := status["deploying"]:
        lines.append(
            f"{deploying['id']} is in step {deploying['phase']} since {deploying['since']}"
        )
        lines.append("to end it: sudo release stop")
    if interrupted := status["interrupted"]:
        lines.append(
            f"{interrupted['candidate']} was interrupted in step {interrupted['phase']};"
            " next: sudo release repair"
        )
    return lines


def version_in(body: str) -> str:
    """Return the version in an application's JSON response, or a text that there is none."""
    try:
        return printable(json.loads(body)["version"], LABEL_CHARS)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "no version"
