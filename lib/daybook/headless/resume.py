"""Resume a run that failed, was interrupted, or waits for approval."""

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

CHANGEABLE = ("approve", "confirm", "override_freeze", "override_git")
"""The parameters that an operator gives for one run; the others stay as they were."""


def prepare(
    root: Path, notebook: Path, name: str, given: Mapping[str, object]
) -> tuple[str, dict[str, object]]:
    """Return the full id of a run and the parameters to resume it with.

    No phase is skipped: the new run checks and plans again, and finished changes are no longer
    in its plan. SettingsError explains why a run cannot be resumed.
    """
    folder = search.Archive(root).find(name)
    entries = journal.Entries(())
    with suppress(FileNotFoundError, NoFile):
        entries = journal.read(folder / journal.NAME)
    _require_resumable(folder, entries, notebook.stem)
    _require_unchanged(folder, entries.header, notebook, root)
    parameters = dict(entries.header.get("parameters", {}))
    if fixed := sorted(set(given) - set(CHANGEABLE)):
        raise SettingsError(
            f"{folder.name} must be resumed with its own parameters.",
            expected=f"no parameters but {', '.join(CHANGEABLE)}",
            observed=", ".join(fixed),
            next="omit them, or start a new run",
        )
    if search.open_status(entries) != "waiting" and parameters.get("approve") != AUTO:
        parameters["approve"] = ""  # The approved plan was used; the remaining changes are another.
    return folder.name, parameters | given


def _require_resumable(folder: Path, entries: journal.Entries, step: str) -> None:
    status = search.open_status(entries)
    own_step = entries.header.get("step")
    if not own_step:
        raise SettingsError(
            f"{folder.name} cannot be resumed.",
            expected="a journal with the run's step and parameters",
            observed="a journal that cannot be read",
            next=f"daybook run {step}",
        )
    if own_step != step:
        raise SettingsError(
            f"{folder.name} is not a run of {step}.",
            expected=f"a run of {step}",
            observed=f"a run of {shown(own_step)}",
            next=f"daybook run {own_step} --resume {folder.name}",
        )
    if status in ("succeeded", "running"):
        raise SettingsError(
            f"{folder.name} cannot be resumed.",
            expected="a run that failed, was interrupted, or is waiting",
            observed=status,
            next="wait until it ends" if status == "running" else f"daybook run {step}",
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
            f"{folder.name} cannot be resumed: its code or settings have changed.",
            details=details,
            next=f"start a new run: daybook run {header['step']} -p env {env}",
        )


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256; None if it does not exist."""
    try:
        return seal.digest(path)
    except (FileNotFoundError, NoFile):
        return None
