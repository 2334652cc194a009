"""A run's record: close it whole, signed and read-only, also when its kernel is long gone."""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook import liveness, private_files, settings, target
from daybook.errors import SettingsError
from daybook.record import journal, provenance, render, signing, summary
from daybook.record.journal import Journal
from daybook.record.redact import Redactor

NAME = "record.json"
SIGNATURE = "record.json.sig"
TEMPLATE = "template.ipynb"
HEAD = ".head.json"
"""In `runs/<env>/`: which record is the newest, so that its removal shows too."""
REHEARSAL_SIGNERS = "rehearsal.signers"
"""In `runs/`: the sandbox's own keys; they count for rehearsals alone."""
UNBEGUN = "never begun; its empty folder was removed"
_PIECE = 1 << 20
_RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-(?P<step>.+)-[0-9a-f]{6}")
_AGE_S = 3600.0


@dataclass(frozen=True)
class Closed:
    """A closed record. unsigned: why it has no signature, or "".

    status: UNBEGUN for a run that was killed before its first line; its folder is removed.
    """

    folder: Path
    status: str
    unsigned: str = ""


def runs_of(root: Path, environment: str = "*") -> Iterator[Path]:
    """Give every run's folder, closed or not."""
    return (file.parent for file in (root / "runs").glob(f"{environment}/*/{journal.NAME}"))


def unbegun(root: Path, environment: str = "*") -> Iterator[Path]:
    """Give the folders of runs that were killed before the first line of their journal."""
    for folder in sorted((root / "runs").glob(f"{environment}/*/")):
        if _RUN.fullmatch(folder.name) and not (folder / NAME).exists():
            path = folder / journal.NAME
            is_empty = not path.exists() or not journal.read(path).lines
            if is_empty and not liveness.lives(liveness.file_of(folder)):
                yield folder


def step_of(run: str) -> str:
    """Return the step that a run's id names."""
    found = _RUN.fullmatch(run)
    return found["step"] if found else ""


def load(folder: Path) -> dict[str, Any] | None:
    """Return a closed run's record, or None while there is none."""
    try:
        return json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None


def close(
    folder: Path,
    status: str,
    *,
    reason: str = "",
    redactor: Redactor | None = None,
    open_journal: Journal | None = None,
    key: Path | None = None,
) -> Closed:
    """End a run's journal, take out what secrets still are in its files, and seal the folder.

    key: the operator's private key; without one the record is unsigned, and says so.
    """
    redactor = redactor or _patterns_and_environment()
    if open_journal:
        open_journal.release()
    path = folder / journal.NAME
    if not journal.read(path).end:
        found = dict(_scrub_attachments(folder, redactor))
        if journal.rewrite(path, redactor):
            found[journal.NAME] = found.get(journal.NAME, 0) + 1
        writer = Journal.resume(path, redactor)
        if found:
            writer.write("note", what="redacted", files=found)
        writer.close(status, reason)
    return _seal(folder, redactor, key)


def settle(root: Path, *, environment: str = "*") -> list[Closed]:
    """Close every run that is over, each with its true status and its own key.

    One whose kernel is gone is not over while a tool of it still writes into its attachments.
    """
    closed = []
    for folder in sorted(runs_of(root, environment)):
        if not (folder / NAME).exists():
            with _alone(folder.parent / ".settling"):
                closed += _settle(root, folder)
    for folder in list(unbegun(root, environment)):
        closed.append(Closed(folder, UNBEGUN))
        shutil.rmtree(folder)
    for home in (root / "runs").glob(f"{environment}/{liveness.FOLDER}"):
        _forget_dead(home)
    return closed


def _settle(root: Path, folder: Path) -> list[Closed]:
    """Close one run that is over; another process may just have done it."""
    if (folder / NAME).exists() or not folder.exists():
        return []
    entries = journal.read(folder / journal.NAME)
    if not entries.header or not is_over(folder):
        return []
    status = summary.left_behind(entries)
    reason = "" if entries.end else "its kernel was gone; closed afterwards"
    key = operator_key(root, folder.parent.name, entries.header.get("target") == "sandbox")
    return [close(folder, status, reason=reason, key=key)]


def is_over(folder: Path) -> bool:
    """Tell whether nothing of a run works any more: neither its kernel nor a tool of it."""
    if liveness.lives(liveness.file_of(folder)):
        return False
    if (folder / NAME).exists():
        return True
    path = folder / journal.NAME
    header = journal.read(path).header if path.exists() else {}
    return not provenance.is_alive(header.get("kernel", {}))


def note(folder: Path, **said: Any) -> None:
    """Add a note to the journal of a run whose kernel is gone, unless it is closed by now."""
    path = folder / journal.NAME
    with _alone(folder.parent / ".settling"):
        if not path.exists() or (folder / NAME).exists() or journal.read(path).end:
            return
        writer = Journal.resume(path, _patterns_and_environment())
        writer.write("note", **said)
        writer.release()


def _forget_dead(home: Path) -> None:
    """Remove what proves that a run is over, once no lock of its can need the proof any more."""
    for path in home.glob("*"):
        with suppress(FileNotFoundError):
            is_old = time.time() - path.stat().st_mtime > _AGE_S
            if is_old and not liveness.lives(path):
                path.unlink()


def operator_key(root: Path, environment: str, is_rehearsal: bool) -> Path | None:
    """Return the private key that signs records of an environment, or None.

    A rehearsal has the sandbox's key, which must never sign anything real.
    """
    try:
        chosen = settings.load(root, environment)
    except SettingsError:
        return None
    goal = target.resolve(chosen, root, rehearse=is_rehearsal)
    if goal.is_sandbox != is_rehearsal:
        return None
    key = target.ssh_key(chosen, goal)
    return key if key.exists() or key.with_name(f"{key.name}.pub").exists() else None


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """Give every file that a record vouches for."""
    outside = {folder / NAME, folder / SIGNATURE}
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in outside)


def _seal(folder: Path, redactor: Redactor, key: Path | None) -> Closed:
    """Render, link to the environment's record before, sign, make read-only."""
    entries = journal.read(folder / journal.NAME)
    record = summary.summarise(entries)
    template = _template(folder)
    pages = {"notebook.ipynb": render.notebook, "report.html": render.report}
    for name, page in pages.items():
        journal.replace(folder / name, page(template, entries, record))
        scrub(folder / name, redactor)
    (folder / ".reserve").unlink(missing_ok=True)
    record["files"] = {
        path.relative_to(folder).as_posix(): {"sha256": digest(path), "bytes": path.stat().st_size}
        for path in files_of(folder)
    }
    with _chain(folder.parent) as head:
        record |= {"previous": _previous(head, record["run"]), "signed": _can_sign(key)}
        unsigned = _write(folder, redactor.clean_value(record), key)
    _make_read_only(folder)
    return Closed(folder, record["status"], unsigned)


def _can_sign(key: Path | None) -> bool:
    """Find out before the record is written, so that it says whether a signature belongs to it."""
    return key is not None and bool(signing.sign(b"", key, signing.REHEARSAL)[0])


def _write(folder: Path, record: Mapping[str, Any], key: Path | None) -> str:
    """Write head, signature and record, in this order: the record's presence means complete."""
    content = json.dumps(record, indent=1, ensure_ascii=False, default=str).encode() + b"\n"
    is_rehearsal = record["target"] == "sandbox"
    namespace = signing.REHEARSAL if is_rehearsal else signing.RECORD
    signature, why = signing.sign(content, key, namespace) if key else ("", "no SSH key was given")
    (folder / SIGNATURE).unlink(missing_ok=True)
    if signature:
        journal.replace(folder / SIGNATURE, signature.encode())
        if is_rehearsal:
            _allow_rehearsal(folder.parent.parent / REHEARSAL_SIGNERS, signing.public_key(key))
    link = {"run": record["run"], "sha256": hashlib.sha256(content).hexdigest()}
    head = link | {"previous": record["previous"]}
    journal.replace(folder.parent / HEAD, json.dumps(head).encode())
    journal.replace(folder / NAME, content)
    return why


def _previous(head: Path, run: str) -> dict[str, str] | None:
    """Return the link to the record before; a run closed a second time keeps its place."""
    if not head.exists():
        return None
    newest = json.loads(head.read_bytes())
    if newest["run"] == run:
        return newest["previous"]
    return {"run": newest["run"], "sha256": newest["sha256"]}


@contextmanager
def _chain(folder: Path) -> Iterator[Path]:
    """Hold the environment's chain of records: two runs may end at the same time."""
    with _alone(folder / ".lock"):
        yield folder / HEAD


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with open(path, "w", opener=private_files.opener) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _allow_rehearsal(signers: Path, public: str) -> None:
    line = f'sandbox namespaces="{signing.REHEARSAL}" {public}\n'
    known = signers.read_text(encoding="utf-8") if signers.exists() else ""
    if public and line not in known:
        journal.replace(signers, (known + line).encode())


def _template(folder: Path) -> dict[str, Any]:
    path = folder / "attachments" / TEMPLATE
    return json.loads(path.read_bytes()) if path.exists() else {}


def _patterns_and_environment() -> Redactor:
    redactor = Redactor()
    redactor.add_environment(os.environ)
    return redactor


def _scrub_attachments(folder: Path, redactor: Redactor) -> Iterator[tuple[str, int]]:
    for path in files_of(folder):
        if path.name not in (journal.NAME, ".reserve") and (count := scrub(path, redactor)):
            yield path.relative_to(folder).as_posix(), count


def scrub(path: Path, redactor: Redactor) -> int:
    """Take secrets out of a file of any size; return how many there were."""
    before = redactor.found.total()
    for _ in _clean_pieces(path, redactor):
        pass
    count = redactor.found.total() - before
    if count:
        scratch = path.with_name(f".{path.name}.new")
        with open(scratch, "wb", opener=private_files.opener) as file:
            for piece in _clean_pieces(path, redactor):
                file.write(piece.encode("utf-8", "surrogateescape"))
        scratch.replace(path)
    return count


def _clean_pieces(path: Path, redactor: Redactor) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    stream = redactor.stream()
    with path.open("rb") as file:
        while raw := file.read(_PIECE):
            yield stream.feed(decoder.decode(raw))
    yield stream.feed(decoder.decode(b"", final=True)) + stream.flush()


def _make_read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o550 if path.is_dir() else 0o440)
