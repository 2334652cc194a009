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

from daybook import liveness, private_files
from daybook.environment import Environment
from daybook.errors import SettingsError, VerifyFailed, explained
from daybook.private_files import NoFile
from daybook.record import journal, provenance, render, shapes, signing, summary
from daybook.record.journal import Journal
from daybook.record.redact import Redactor

NAME = "record.json"
SIGNATURE = "record.json.sig"
TEMPLATE = "template.ipynb"
HEAD = ".head.json"
"""In `runs/<env>/`: which record is the newest, so that its removal shows too."""
LOST_HEAD = ".head.json.broken"
"""One that could not be read when the next record was closed: kept, until somebody has looked."""
BROKEN = "broken"
"""What a run is called whose files cannot be read as a run's."""
MAX_BYTES = 16 << 20
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
    BROKEN for one that could not be closed; `unsigned` says why.
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
            with suppress(OSError):
                is_empty = journal.is_unbegun(folder / journal.NAME)
                if is_empty and not liveness.is_alive(liveness.file_of(folder)):
                    yield folder


def step_of(run: str) -> str:
    """Return the step that a run's id names."""
    found = _RUN.fullmatch(run)
    return found["step"] if found else ""


def load(folder: Path) -> dict[str, Any] | None:
    """Return a closed run's record, or None while there is none; VerifyFailed for a broken one."""
    try:
        return decode(private_files.read(folder / NAME, MAX_BYTES))
    except FileNotFoundError:
        return None
    except (NoFile, ValueError) as err:
        raise broken(folder, NAME, err) from err


def broken(folder: Path, name: str, err: Exception) -> VerifyFailed:
    """Return what to say of a run whose file cannot be read as what Daybook wrote."""
    return VerifyFailed(
        f"The record {folder.name} is broken.",
        expected=f"{name} as it was written",
        observed=f"{name}: {reason(err)}",
        changed="",
        next=f"restore it from the bucket's copy; daybook runs verify {folder.name}",
    )


def decode(content: bytes) -> dict[str, Any]:
    """Return the record in a record.json; ValueError for anything else."""
    said = shapes.decode(content)
    if not shapes.fits(said, shapes.RECORD):
        raise ValueError("not a record")
    return said


def reason(err: Exception) -> str:
    """Return in a few words why a file of a run cannot be used."""
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    return "not JSON" if isinstance(err, json.JSONDecodeError | UnicodeError) else str(err)


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


def close_abandoned(root: Path, *, environment: str = "*") -> list[Closed]:
    """Close every run that is over, each with its true status and its own key.

    One that cannot be closed stays, as BROKEN, and stops no other. One whose kernel is gone is not
    over while a tool of it still writes into its attachments.
    """
    closed = []
    for folder in sorted(runs_of(root, environment)):
        if not (folder / NAME).exists():
            try:
                with _alone(folder.parent / ".settling"):
                    closed += _settle(root, folder)
            except Exception as err:  # Whatever it is, it is not the other runs'.
                why = explained(err)
                closed.append(Closed(folder, BROKEN, why.observed or why.message))
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
    path = folder / journal.NAME
    entries = journal.read(path)
    if not entries.header and not journal.is_unbegun(path):
        raise broken(folder, journal.NAME, ValueError("line 1 is no header"))
    if not entries.header or not is_over(folder):
        return []
    status = summary.left_behind(entries)
    reason = "" if entries.end else "its kernel was gone; closed afterwards"
    is_rehearsal = entries.header.get("target") == "sandbox"
    key = _key_for(root, folder.parent.name, is_rehearsal=is_rehearsal)
    return [close(folder, status, reason=reason, key=key)]


def is_over(folder: Path) -> bool:
    """Tell whether nothing of a run works any more: neither its kernel nor a tool of it."""
    if liveness.is_alive(liveness.file_of(folder)):
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
            if is_old and not liveness.is_alive(path):
                path.unlink()


def operator_key(environment: Environment) -> Path | None:
    """Return the private key that signs the environment's records, or None where there is none."""
    key = environment.ssh_key
    return key if key.exists() or environment.ssh_public_key.exists() else None


def _key_for(root: Path, name: str, *, is_rehearsal: bool) -> Path | None:
    """Return the key for an abandoned run's record, or None.

    A rehearsal has the sandbox's key, which must never sign a record of AWS.
    """
    try:
        environment = Environment.load(root, name, rehearse=is_rehearsal)
    except SettingsError:
        return None
    return operator_key(environment) if environment.target.is_sandbox == is_rehearsal else None


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with private_files.open_regular(path) as file:
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
        record |= {"previous": _previous(head, folder.name), "signed": _can_sign(key)}
        unsigned = _write(folder, redactor.clean_value(record), key)
    _make_read_only(folder)
    return Closed(folder, record["status"], unsigned)


def _can_sign(key: Path | None) -> bool:
    """Find out before the record is written, so that it says whether a signature belongs to it."""
    return key is not None and bool(signing.sign(b"", key, signing.REHEARSAL)[0])


def _write(folder: Path, record: Mapping[str, Any], key: Path | None) -> str:
    """Write head, signature and record, in this order: the record's presence means complete."""
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str)
    content = text.encode("utf-8", "backslashreplace") + b"\n"
    is_rehearsal = record["target"] == "sandbox"
    namespace = signing.REHEARSAL if is_rehearsal else signing.RECORD
    signature, why = signing.sign(content, key, namespace) if key else ("", "no SSH key was given")
    (folder / SIGNATURE).unlink(missing_ok=True)
    if signature:
        journal.replace(folder / SIGNATURE, signature.encode())
        if is_rehearsal:
            _allow_rehearsal(folder.parent.parent / REHEARSAL_SIGNERS, signing.public_key(key))
    link = {"run": folder.name, "sha256": hashlib.sha256(content).hexdigest()}
    head = link | {"previous": record["previous"]}
    journal.replace(folder.parent / HEAD, json.dumps(head).encode())
    journal.replace(folder / NAME, content)
    return why


def head_of(home: Path) -> dict[str, Any] | None:
    """Return which record of an environment is the newest, None for none; ValueError if broken."""
    try:
        head = shapes.decode(private_files.read(home / HEAD, MAX_BYTES))
    except FileNotFoundError:
        return None
    except NoFile as err:
        raise ValueError(reason(err)) from err
    if not shapes.fits(head, shapes.HEAD):
        raise ValueError("not a link")
    return head


def link_of(folder: Path) -> dict[str, str] | None:
    """Return a closed record's link to the record before; None for none, and in a broken record."""
    try:
        return (load(folder) or {}).get("previous")
    except VerifyFailed:
        return None


def _previous(head: Path, run: str) -> dict[str, str] | None:
    """Return the link to the record before; a run closed a second time keeps its place.

    A head that is broken is put aside for `verify` to tell, and the chain goes on from its end.
    """
    try:
        newest = head_of(head.parent)
    except ValueError:
        head.rename(head.with_name(LOST_HEAD))
        newest = _end_of_chain(head.parent)
    if newest is None:
        return None
    if newest["run"] == run:
        return newest.get("previous")
    return {"run": newest["run"], "sha256": newest["sha256"]}


def _end_of_chain(home: Path) -> dict[str, str] | None:
    """Return the closed record that no other one follows; the last of several."""
    links = {}
    for file in home.glob(f"*/{NAME}"):
        with suppress(VerifyFailed):
            links[file.parent.name] = load(file.parent)["previous"]
    followed = {link["run"] for link in links.values() if link}
    ends = sorted(links.keys() - followed)
    return {"run": ends[-1], "sha256": digest(home / ends[-1] / NAME)} if ends else None


@contextmanager
def _chain(folder: Path) -> Iterator[Path]:
    """Hold the environment's chain of records: two runs may end at the same time."""
    with _alone(folder / ".lock"):
        yield folder / HEAD


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(path, flags, 0o600)  # Nonblocking: opening must not wait for a FIFO's reader.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _allow_rehearsal(signers: Path, public: str) -> None:
    line = f'sandbox namespaces="{signing.REHEARSAL}" {public}\n'
    known = private_files.read(signers, MAX_BYTES) if signers.exists() else b""
    if public and line.encode() not in known:
        journal.replace(signers, known + line.encode())


def _template(folder: Path) -> dict[str, Any]:
    """Return the notebook that was run; {} when there is none, or none that can be read."""
    try:
        found = shapes.decode(
            private_files.read(folder / "attachments" / TEMPLATE, journal.MAX_BYTES)
        )
    except (FileNotFoundError, NoFile, ValueError):
        return {}
    return found if shapes.fits(found, shapes.NOTEBOOK) else {}


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
        if path.is_symlink():  # What it leads to is no part of the record.
            continue
        path.chmod(0o550 if path.is_dir() else 0o440)
