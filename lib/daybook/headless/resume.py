"""Go on with a run that failed, was interrupted, or waits for approval."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from daybook import git
from daybook.approval.gate import AUTO
from daybook.approval.pending import differences
from daybook.errors import SettingsError
from daybook.private_files import NoFile
from daybook.record import journal, seal, search
from daybook.settings.types import shown

GIVEN_ANEW = ("approve", "confirm", "override_freeze", "override_git")
"""What an operator says of one run; every other parameter stays as it was."""


def prepare(
    root: Path, notebook: Path, name: str, given: Mapping[str, object]
) -> tuple[str, dict[str, object]]:
    """Return the run's whole id and the parameters to go on with.

    Nothing is skipped by trust: the new run asks and plans again, and what is done is no change
    any more. SettingsError says why a run cannot be gone on with.
    """
    folder = search.Archive(root).find(name)
    entries = journal.Entries(())
    with suppress(FileNotFoundError, NoFile):
        entries = journal.read(folder / journal.NAME)
    _require_open_end(folder, entries, notebook.stem)
    _require_unchanged(folder, entries.header, notebook, root)
    before = dict(entries.header.get("parameters", {}))
    if other := sorted(set(given) - set(GIVEN_ANEW)):
        raise SettingsError(
            f"{folder.name} is gone on with as it was begun.",
            expected=f"no parameters but {', '.join(GIVEN_ANEW)}",
            observed=", ".join(other),
            next="leave them out, or begin a new run",
        )
    if search.open_status(entries) != "waiting" and before.get("approve") != AUTO:
        before["approve"] = ""  # That plan was used; what is left is another one.
    return folder.name, before | given


def _require_open_end(folder: Path, entries: journal.Entries, step: str) -> None:
    status = search.open_status(entries)
    begun = entries.header.get("step")
    if not begun:
        raise SettingsError(
            f"{folder.name} cannot be gone on with.",
            expected="a run whose journal says what it was begun with",
            observed="a journal that cannot be read",
            next=f"daybook run {step}",
        )
    if begun != step:
        raise SettingsError(
            f"{folder.name} is no run of {step}.",
            expected=f"a run of {step}",
            observed=f"a run of {shown(begun)}",
            next=f"daybook run {begun} --resume {folder.name}",
        )
    if status in ("succeeded", "running"):
        raise SettingsError(
            f"{folder.name} cannot be gone on with.",
            expected="a run that failed, was interrupted, or waits",
            observed=status,
            next="wait for its end" if status == "running" else f"daybook run {step}",
        )


def _require_unchanged(folder: Path, header: Mapping[str, Any], notebook: Path, root: Path) -> None:
    env = folder.parent.name
    before = {
        "template": header.get("template", {}).get("sha256"),
        "settings": header.get("settings", {}).get("sha256"),
        "commit": header.get("git", {}).get("commit"),
    }
    now = {
        "template": _digest(notebook),
        "settings": _digest(root / "environments" / f"{env}.yml"),
        "commit": git.head(root),
    }
    if details := differences(before, now):
        raise SettingsError(
            f"{folder.name} cannot be gone on with: what it was begun with has changed.",
            details=details,
            next=f"begin a new run: daybook run {header['step']} -p env {env}",
        )


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256; None when it is gone."""
    try:
        return seal.digest(path)
    except (FileNotFoundError, NoFile):
        return None
