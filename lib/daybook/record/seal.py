"""Close the record of a run: complete, signed and read-only, even if its kernel has exited."""

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
from daybook.record import journal, model, provenance, render, signing, summary
from daybook.record.journal import Journal
from daybook.record.redact import Redactor

NAME = "record.json"
SIGNATURE = "record.json.sig"
TEMPLATE = "template.ipynb"
HEAD = ".head.json"
"""In `runs/<env>/`: names the newest record, so that its removal is detected too."""
LOST_HEAD = ".head.json.broken"
"""A head that could not be read when the next record was closed, kept for inspection."""
BROKEN = "broken"
"""The status of a run whose files cannot be read."""
MAX_BYTES = 16 << 20
REHEARSAL_SIGNERS = "rehearsal.signers"
"""In `runs/`: the sandbox's keys, which count for rehearsals only."""
NOT_STARTED = "not started; its empty folder was removed"
_CHUNK_BYTES = 1 << 20
_RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-(?P<step>.+)-[0-9a-f]{6}")
_AGE_S = 3600.0
_LOCK = ".settling"


@dataclass(frozen=True)
class CloseResult:
    """A closed record. unsigned: the reason why it has no signature, or "".

    status: NOT_STARTED for a run that was killed before its first journal line, BROKEN for one
    that could not be closed, with the reason in `unsigned`.
    """

    folder: Path
    status: str
    unsigned: str = ""


def runs_of(root: Path, environment: str = "*") -> Iterator[Path]:
    """Yield the folder of every run, open or closed."""
    return (file.parent for file in (root / "runs").glob(f"{environment}/*/{journal.NAME}"))


def empty_runs(root: Path, environment: str = "*") -> Iterator[Path]:
    """Yield the folders of runs that were killed before the first line of their journal."""
    for folder in sorted((root / "runs").glob(f"{environment}/*/")):
        if _RUN.fullmatch(folder.name) and not (folder / NAME).exists():
            with suppress(OSError):
                is_empty = journal.is_empty(folder / journal.NAME)
                if is_empty and not liveness.is_alive(liveness.file_of(folder)):
                    yield folder


def step_of(run: str) -> str:
    """Return the step that a run's id names, or ""."""
    match = _RUN.fullmatch(run)
    return match["step"] if match else ""


def load(folder: Path) -> dict[str, Any] | None:
    """Return the record of a run, None if the run is open; VerifyFailed if it cannot be read."""
    try:
        return decode(private_files.read(folder / NAME, MAX_BYTES))
    except FileNotFoundError:
        return None
    except (NoFile, ValueError) as err:
        raise broken(folder, NAME, err) from err


def broken(folder: Path, name: str, err: Exception) -> VerifyFailed:
    """Return the error for a run with a file that cannot be read."""
    return VerifyFailed(
        f"The record {folder.name} is broken.",
        expected=f"{name} as Daybook wrote it",
        observed=f"{name}: {reason(err)}",
        changed="",
        next=f"restore it from the bucket's copy; daybook runs verify {folder.name}",
    )


def decode(content: bytes) -> dict[str, Any]:
    """Return the record in a record.json; ValueError for anything else."""
    record = model.decode(content)
    if not model.is_valid(record, model.Record):
        raise ValueError("not a record")
    return record


def encode(record: Mapping[str, Any]) -> bytes:
    """Return the content of record.json: the bytes that are hashed and signed."""
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def reason(err: Exception) -> str:
    """Return in a few words why a file of a run cannot be read."""
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
) -> CloseResult:
    """End the journal of a run, redact remaining secrets in its files, and seal the folder.

    key: the operator's private key; without one the record is marked as unsigned.
    """
    redactor = redactor or _default_redactor()
    if open_journal:
        open_journal.release()
    path = folder / journal.NAME
    if not journal.read(path).end:
        counts = dict(_scrub_attachments(folder, redactor))
        if journal.rewrite(path, redactor):
            counts[journal.NAME] = counts.get(journal.NAME, 0) + 1
        writer = Journal.resume(path, redactor)
        if counts:
            writer.write("note", what="redacted", files=counts)
        writer.close(status, reason)
    return _seal(folder, redactor, key)


def close_abandoned(root: Path, *, environment: str = "*") -> list[CloseResult]:
    """Close every run that has ended, each with its true status and its own key.

    A run that cannot be closed is reported as BROKEN and does not affect the others. A run whose
    kernel has exited has not ended while one of its tools still writes into its attachments.
    """
    results = []
    for folder in sorted(runs_of(root, environment)):
        if not (folder / NAME).exists():
            try:
                with _locked(folder.parent / _LOCK):
                    results += _close_if_ended(root, folder)
            except Exception as err:  # No error of one run may keep the others open.
                error = explained(err)
                results.append(CloseResult(folder, BROKEN, error.observed or error.message))
    for folder in list(empty_runs(root, environment)):
        results.append(CloseResult(folder, NOT_STARTED))
        shutil.rmtree(folder)
    for home in (root / "runs").glob(f"{environment}/{liveness.FOLDER}"):
        _remove_liveness_files(home)
    return results


def _close_if_ended(root: Path, folder: Path) -> list[CloseResult]:
    """Close a run if it has ended and no other process has closed it in the meantime."""
    if (folder / NAME).exists() or not folder.exists():
        return []
    path = folder / journal.NAME
    entries = journal.read(path)
    if not entries.header and not journal.is_empty(path):
        raise broken(folder, journal.NAME, ValueError("line 1 is not a header"))
    if not entries.header or not has_ended(folder):
        return []
    status = summary.abandoned_status(entries)
    reason = "" if entries.end else "the kernel exited; the run was closed later"
    is_rehearsal = entries.header.get("target") == "sandbox"
    key = _key_for(root, folder.parent.name, is_rehearsal=is_rehearsal)
    return [close(folder, status, reason=reason, key=key)]


def has_ended(folder: Path) -> bool:
    """Tell whether neither the kernel of a run nor one of its tools is still running."""
    if liveness.is_alive(liveness.file_of(folder)):
        return False
    if (folder / NAME).exists():
        return True
    path = folder / journal.NAME
    header = journal.read(path).header if path.exists() else {}
    return not provenance.is_alive(header.get("kernel", {}))


def note(folder: Path, **facts: Any) -> None:
    """Add a note to the journal of a run whose kernel has exited, unless the run is closed."""
    path = folder / journal.NAME
    with _locked(folder.parent / _LOCK):
        if not path.exists() or (folder / NAME).exists() or journal.read(path).end:
            return
        writer = Journal.resume(path, _default_redactor())
        writer.write("note", **facts)
        writer.release()


def _remove_liveness_files(home: Path) -> None:
    """Remove the proofs that runs have ended, once none of their locks can need them."""
    for path in home.glob("*"):
        with suppress(FileNotFoundError):
            is_old = time.time() - path.stat().st_mtime > _AGE_S
            if is_old and not liveness.is_alive(path):
                path.unlink()


def operator_key(environment: Environment) -> Path | None:
    """Return the private key that signs the environment's records, None if it does not exist."""
    key = environment.ssh_key
    return key if key.exists() or environment.ssh_public_key.exists() else None


def _key_for(root: Path, name: str, *, is_rehearsal: bool) -> Path | None:
    """Return the key for the record of an abandoned run, or None.

    Rehearsals are signed with the sandbox's key, which must never sign a record of AWS.
    """
    try:
        environment = Environment.load(root, name, rehearse=is_rehearsal)
    except SettingsError:
        return None
    return operator_key(environment) if environment.target.is_sandbox == is_rehearsal else None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with private_files.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """Yield every file that a record lists with its hash."""
    outside = {folder / NAME, folder / SIGNATURE}
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in outside)


def _seal(folder: Path, redactor: Redactor, key: Path | None) -> CloseResult:
    """Render the pages, link to the previous record, sign, and make everything read-only."""
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
    with _locked(folder.parent / ".lock"):  # Two runs may end at the same time.
        previous = _previous(folder.parent / HEAD, folder.name)
        record |= {"previous": previous, "signed": _can_sign(key)}
        unsigned = _write(folder, redactor.clean_value(record), key)
    _make_read_only(folder)
    return CloseResult(folder, record["status"], unsigned)


def _can_sign(key: Path | None) -> bool:
    """Tell whether the key can sign; the record itself says whether it has a signature."""
    return key is not None and bool(signing.sign(b"", key, signing.REHEARSAL)[0])


def _write(folder: Path, record: Mapping[str, Any], key: Path | None) -> str:
    """Write signature, head and record; return the reason if the record is unsigned.

    The record comes last: if it exists, it is complete.
    """
    content = encode(record)
    is_rehearsal = record["target"] == "sandbox"
    namespace = signing.REHEARSAL if is_rehearsal else signing.RECORD
    signature, problem = signing.sign(content, key, namespace) if key else ("", "no SSH key given")
    (folder / SIGNATURE).unlink(missing_ok=True)
    if signature:
        journal.replace(folder / SIGNATURE, signature.encode())
        if is_rehearsal:
            _allow_rehearsal(folder.parent.parent / REHEARSAL_SIGNERS, signing.public_key(key))
    link = {"run": folder.name, "sha256": hashlib.sha256(content).hexdigest()}
    head = link | {"previous": record["previous"]}
    journal.replace(folder.parent / HEAD, json.dumps(head).encode())
    journal.replace(folder / NAME, content)
    return problem


def head_of(home: Path) -> dict[str, Any] | None:
    """Return the link to an environment's newest record, None without one; ValueError if broken."""
    try:
        head = model.decode(private_files.read(home / HEAD, MAX_BYTES))
    except FileNotFoundError:
        return None
    except NoFile as err:
        raise ValueError(reason(err)) from err
    if not model.is_valid(head, model.Head):
        raise ValueError("not a link")
    return head


def link_of(folder: Path) -> dict[str, str] | None:
    """Return the link to the previous record; None for the first and for a broken record."""
    try:
        return (load(folder) or {}).get("previous")
    except VerifyFailed:
        return None


def _previous(head: Path, run: str) -> dict[str, str] | None:
    """Return the link to the previous record; a run that is closed again keeps its link.

    A broken head is set aside for `verify` to report; the chain continues from its last record.
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
    """Return the link to the closed record that no other record follows; of several, the last."""
    links = {}
    for file in home.glob(f"*/{NAME}"):
        with suppress(VerifyFailed):
            links[file.parent.name] = load(file.parent)["previous"]
    followed = {link["run"] for link in links.values() if link}
    ends = sorted(links.keys() - followed)
    return {"run": ends[-1], "sha256": digest(home / ends[-1] / NAME)} if ends else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(path, flags, 0o600)  # Nonblocking: opening a FIFO would wait for its reader.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _allow_rehearsal(signers: Path, public: str) -> None:
    """Add the sandbox's public key to the signers of rehearsals."""
    line = f'sandbox namespaces="{signing.REHEARSAL}" {public}\n'
    known = private_files.read(signers, MAX_BYTES) if signers.exists() else b""
    if public and line.encode() not in known:
        journal.replace(signers, known + line.encode())


def _template(folder: Path) -> dict[str, Any]:
    """Return the notebook that was run, {} if it is missing or cannot be read."""
    path = folder / "attachments" / TEMPLATE
    try:
        notebook = model.decode(private_files.read(path, journal.MAX_BYTES))
    except (FileNotFoundError, NoFile, ValueError):
        return {}
    return notebook if model.is_valid(notebook, model.Notebook) else {}


def _default_redactor() -> Redactor:
    """Return a redactor of known patterns and of this process's environment."""
    redactor = Redactor()
    redactor.add_environment(os.environ)
    return redactor


def _scrub_attachments(folder: Path, redactor: Redactor) -> Iterator[tuple[str, int]]:
    for path in files_of(folder):
        if path.name not in (journal.NAME, ".reserve") and (count := scrub(path, redactor)):
            yield path.relative_to(folder).as_posix(), count


def scrub(path: Path, redactor: Redactor) -> int:
    """Redact secrets in a file of any size; return their number."""
    before = redactor.counts.total()
    for _ in _clean_chunks(path, redactor):
        pass
    count = redactor.counts.total() - before
    if count:
        scratch = path.with_name(f".{path.name}.new")
        with open(scratch, "wb", opener=private_files.opener) as file:
            for chunk in _clean_chunks(path, redactor):
                file.write(chunk.encode("utf-8", "surrogateescape"))
        scratch.replace(path)
    return count


def _clean_chunks(path: Path, redactor: Redactor) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    stream = redactor.stream()
    with path.open("rb") as file:
        while raw := file.read(_CHUNK_BYTES):
            yield stream.feed(decoder.decode(raw))
    yield stream.feed(decoder.decode(b"", final=True)) + stream.flush()


def _make_read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():  # The target of a link is not part of the record.
            continue
        path.chmod(0o550 if path.is_dir() else 0o440)
