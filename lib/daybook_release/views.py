"""What the program shows: releases, one release, what is going on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from daybook_release import generate, settings
from daybook_release.context import Context
from daybook_release.printable import LABEL_CHARS, printable, width
from daybook_release.store import Release

CELL = 32
"""The widest that a column may become by what an image or a person says."""
WORDS = 50
"""Lines of a failed release's log that are shown."""


def listed(context: Context) -> list[dict[str, Any]]:
    """Return every release as a program reads it, the newest first."""
    current = context.store.current
    there = set(context.docker.images_of(context.settings.repository))
    return [
        said(each)
        | {"current": bool(current and each.id == current.id), "image_here": each.image in there}
        for each in context.store.all()
    ]


def said(release: Release) -> dict[str, Any]:
    """Return a release as a program reads it."""
    return asdict(release)


def table(releases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a list of releases as lines for a person."""
    head = ("", "release", "version", "result", "seconds", "by", "image")
    rows = [
        (
            "*" if each["current"] else "",
            each["id"],
            printable(each["version"], CELL),
            each["result"],
            f"{each['seconds']:.1f}",
            printable(each["by"], CELL),
            "here" if each["image_here"] else "pruned",
        )
        for each in releases
    ]
    widths = [max(width(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(
            word + " " * (most - width(word)) for word, most in zip(row, widths, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def shown(context: Context, release: Release) -> dict[str, Any]:
    """Return all that is known of a release, and how its compose file was changed."""
    model = context.model_of(release)
    made = json.loads(context.generated_of(release).read_text(encoding="utf-8"))
    return said(release) | {
        "compose": context.store.text(release.id, "compose.yaml"),
        "site": context.store.text(release.id, "site.caddy"),
        "difference": generate.difference(model, made),
        "settings_text": context.store.text(release.id, "settings.json"),
        "said": _last_words(context, release),
    }


def page(shown: Mapping[str, Any]) -> list[str]:
    """Return one release as lines for a person."""
    facts = ("id", "image", "version", "commit", "at", "by", "run", "seconds", "result", "error")
    lines = [f"{name:<9}{printable(shown[name], 1000)}" for name in facts if shown[name]]
    lines += [f"secrets  {name} at version {v}" for name, v in shown["secrets"].items()]
    lines += [f"again    {each['at']} by {each['by']}" for each in shown["again"]]
    lines += ["", *shown["difference"].splitlines(), "", *shown["site"].splitlines()]
    return lines + (["", "what it said last:", *shown["said"]] if shown["said"] else [])


def _last_words(context: Context, release: Release) -> list[str]:
    """Return what a failed release said before its container went."""
    try:
        return context.store.text(release.id, "failed.log").splitlines()[-WORDS:]
    except FileNotFoundError:
        return []


def status(context: Context) -> dict[str, Any]:
    """Return what serves and what is going on, by looking."""
    store, state, busy = context.store, context.store.state, context.store.is_locked()
    current = store.current
    release_options = context.options_of(current) if current else None
    answer = context.ask(current, release_options.health) if current else None
    version = ""
    if current and answer.status == 200:
        version = current.version
        if release_options.version:
            body = context.ask(current, release_options.version).body
            version = version_in(body)
    begun = {key: state.get(key) for key in ("id", "since", "by", "pid", "phase")}
    return {
        "current": current.id if current else None,
        "slot": current.slot if current else "",
        "healthy": bool(answer and answer.status == 200),
        "serving_version": version,
        "interrupted": None
        if busy or not state
        else {"phase": state["phase"], "candidate": state["id"]},
        "maintenance": store.in_maintenance,
        "deploying": begun if busy and state else None,
        "settings": settings.digest(context.settings_text),
    }


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return the status as lines for a person."""
    lines = ["nothing is released yet; next: release deploy IMAGE@DIGEST"]
    if status["current"]:
        how = "answers" if status["healthy"] else "does not answer; next: sudo release repair"
        lines = [
            f"{status['current']} in {status['slot']}: version {status['serving_version']} {how}"
        ]
    if status["maintenance"]:
        lines.append("maintenance is on; next: sudo release maintenance off")
    if busy := status["deploying"]:
        lines.append(f"{busy['id']} is being released: {busy['phase']}, since {busy['since']}")
        lines.append("to end it: sudo release stop")
    if broken := status["interrupted"]:
        lines.append(
            f"{broken['candidate']} was interrupted in {broken['phase']}; next: sudo release repair"
        )
    return lines


def version_in(body: str) -> str:
    """Return the version that an application says, or that it says none."""
    try:
        return printable(json.loads(body)["version"], LABEL_CHARS)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "nothing that has a version"
