"""List, search and find runs in an index of all records; a deleted index is rebuilt."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daybook import private_files
from daybook.errors import CommandFailed, SettingsError, VerifyFailed
from daybook.private_files import NoFile
from daybook.record import journal, provenance, seal, summary
from daybook.record.journal import Entries
from daybook.settings.types import shown
from daybook.ui import formats

INDEX = ".index.sqlite"
_VERSION = 2
_DAMAGED = (
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR),
    *(sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
)
"""SQLite's error codes for a damaged or outdated index."""
_MAX_CHARS = 60_000
_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SCHEMA = """
CREATE TABLE runs(
  id INTEGER PRIMARY KEY, run TEXT UNIQUE, environment TEXT, step TEXT, status TEXT, operator TEXT,
  target TEXT, start TEXT, seconds REAL, sealed INTEGER);
CREATE INDEX runs_by_environment ON runs(environment, step, id);
CREATE INDEX runs_open ON runs(sealed) WHERE NOT sealed;
CREATE VIRTUAL TABLE words USING fts5(content, tokenize = "unicode61 remove_diacritics 2");
CREATE TABLE homes(environment TEXT PRIMARY KEY, changed INTEGER);
"""


@dataclass(frozen=True)
class Row:
    """One run in a list. excerpt: a text with the matching words of a search in « and »."""

    run: str
    environment: str
    step: str
    status: str
    operator: str
    target: str
    start: str
    seconds: float
    excerpt: str = ""


@dataclass(frozen=True)
class Filters:
    """Filters for runs; empty ones match all. since, until: a date, a time, or `7d` ago."""

    environment: str = ""
    step: str = ""
    status: str = ""
    operator: str = ""
    since: str = ""
    until: str = ""

    def condition(self) -> tuple[str, list[Any]]:
        """Return an SQL condition and its values."""
        terms, values = ["1"], []
        for name in ("environment", "step", "status"):
            if value := getattr(self, name):
                terms.append(f"runs.{name} = ?")
                values.append(value)
        if self.operator:
            terms.append("runs.operator LIKE ?")
            values.append(f"%{self.operator}%")
        for name, operator in (("since", ">="), ("until", "<")):
            if value := getattr(self, name):
                terms.append(f"runs.id {operator} ?")
                values.append(_microseconds(parse_time(value)))
        return " AND ".join(terms), values


class Archive:
    """The index of all runs of a project; each query first adds new runs."""

    def __init__(self, root: Path) -> None:
        self.home = root / "runs"
        private_files.make_folder(self.home, 0o750)
        self._db = _open(self.home / INDEX)

    def close(self) -> None:
        self._db.close()

    def list(self, filters: Filters = Filters(), limit: int = 50) -> list[Row]:
        """Return runs, newest first."""
        condition, values = filters.condition()
        query = f"SELECT {_COLUMNS} FROM runs WHERE {condition} ORDER BY id DESC LIMIT ?"
        return [Row(*row) for row in self._query(query, [*values, limit])]

    def search(self, text: str, filters: Filters = Filters(), limit: int = 50) -> list[Row]:
        """Return runs that contain all these words, newest first; the last word may be a prefix."""
        condition, values = filters.condition()
        query = f"""SELECT {_COLUMNS}, snippet(words, 0, '«', '»', '…', 12) FROM words
            JOIN runs ON runs.id = words.rowid WHERE words MATCH ? AND {condition}
            ORDER BY words.rowid DESC LIMIT ?"""
        return [Row(*row) for row in self._query(query, [_fts_query(text), *values, limit])]

    def find(self, text: str | None = None) -> Path:
        """Return the folder of a run, by its id or the first or last part of it; None: the newest.

        SettingsError unless exactly one run matches.
        """
        if text is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text):
            raise SettingsError(
                f"{shown(text)} is not the id of a run.",
                expected="the id of a run, or the first or last part of it",
                next="daybook runs list",
            )
        matches = r"run LIKE ? ESCAPE '\' OR run LIKE ? ESCAPE '\'"
        query = f"SELECT environment, run FROM runs WHERE {matches} ORDER BY id DESC LIMIT 6"
        part = (text or "").replace("_", r"\_")  # In LIKE, _ matches any character.
        pairs = self._query(query, [f"{part}%", f"%{part}"])
        exact = [pair for pair in pairs if pair[1] == text]
        if not pairs or (text and len(pairs) > 1 and not exact):
            message = "No run exists yet."
            if text:
                message = f"{text} matches {'more than one run' if pairs else 'no run'}."
            raise SettingsError(
                message,
                expected="the id of one run, or the first or last part of it",
                observed=", ".join(run for _, run in pairs) or "no match",
                next="daybook runs list",
            )
        environment, run = (exact or pairs)[0]
        return self.home / environment / run

    def _query(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Add new runs and query the index; a damaged index is rebuilt once."""
        try:
            return self._query_once(query, values)
        except sqlite3.DatabaseError as err:
            if not _is_damaged(err):
                raise _unusable(self.home / INDEX, err) from err
        self._db.close()
        (self.home / INDEX).unlink(missing_ok=True)
        self._db = _open(self.home / INDEX)
        return self._query_once(query, values)

    def _query_once(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        self.refresh()
        return self._db.execute(query, values).fetchall()

    def refresh(self) -> int:
        """Add new runs and update open ones; return the number of runs that were read."""
        with self._db:
            read = sum(self._refresh_home(home) for home in self._changed_homes())
            is_open = "SELECT environment, run FROM runs WHERE NOT sealed"
            for environment, run in self._db.execute(is_open).fetchall():
                read += self._add(self.home / environment / run)
        return read

    def _changed_homes(self) -> Iterator[Path]:
        """Yield the environments with added or removed folders since the last refresh."""
        known = dict(self._db.execute("SELECT environment, changed FROM homes"))
        homes = {name: self.home / name for name in _names(self.home)}
        homes = {name: path for name, path in homes.items() if path.is_dir()}
        for name in known.keys() - homes.keys():
            self._remove(run for (run,) in self._runs_of(name))
            self._db.execute("DELETE FROM homes WHERE environment = ?", [name])
        for name, path in homes.items():
            changed = path.stat().st_mtime_ns
            if known.get(name) != changed:
                yield path
                self._db.execute("INSERT OR REPLACE INTO homes VALUES (?, ?)", [name, changed])

    def _refresh_home(self, home: Path) -> int:
        existing = _names(home)
        known = {run for (run,) in self._runs_of(home.name)}
        self._remove(known - existing)
        return sum(self._add(home / run) for run in sorted(existing - known))

    def _runs_of(self, environment: str) -> Iterable[tuple[str]]:
        return self._db.execute("SELECT run FROM runs WHERE environment = ?", [environment])

    def _add(self, folder: Path) -> int:
        is_sealed, entries = True, Entries(())
        try:
            with suppress(FileNotFoundError):
                entries = journal.read(folder / journal.NAME)
            if not entries.lines and not _is_run(folder):
                return 0
            record = seal.load(folder)
            if record is None:
                is_sealed = False
                record = _unsealed(folder, entries)
        except NotADirectoryError:
            return 0
        except (NoFile, PermissionError, VerifyFailed):
            is_sealed = False  # Read again on each refresh, because it may be restored.
            record = summary.summarise(Entries(())) | {"status": seal.BROKEN}
        if not record["start"]:
            record |= {"step": seal.step_of(folder.name), "start": _start_of(folder)}
        self._remove([folder.name])
        identity = self._free_id(_microseconds(record["start"]))
        row = (
            *(folder.name, folder.parent.name, record["step"], record["status"]),
            *(_operator(record), record["target"], record["start"], record["seconds"], is_sealed),
        )
        marks = ", ".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT INTO runs VALUES ({marks})", [identity, *map(_storable, row)])
        text = _storable(_searchable_text(record, entries))
        self._db.execute("INSERT INTO words(rowid, content) VALUES (?, ?)", [identity, text])
        return 1

    def _free_id(self, identity: int) -> int:
        taken = "SELECT 1 FROM runs WHERE id = ?"
        while self._db.execute(taken, [identity]).fetchone():
            identity += 1
        return identity

    def _remove(self, runs: Iterable[str]) -> None:
        for run in list(runs):
            for (identity,) in self._db.execute("SELECT id FROM runs WHERE run = ?", [run]):
                self._db.execute("DELETE FROM words WHERE rowid = ?", [identity])
            self._db.execute("DELETE FROM runs WHERE run = ?", [run])


_COLUMNS = ", ".join(f"runs.{name}" for name in list(Row.__dataclass_fields__)[:-1])


def parse_time(text: str) -> str:
    """Return the ISO time for `7d` or `12h` ago, `2026-11-23`, or a full time."""
    try:
        if ago := _AGO.fullmatch(text):
            time = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            time = datetime.fromisoformat(text)
        if not 1970 < time.year < 9999:
            raise ValueError
        return (time if time.tzinfo else time.astimezone()).isoformat()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{shown(text)} is not a time.",
            expected="2026-11-23, 2026-11-23T18:45 or 7d, after 1970",
            next="correct the value of --since or --until",
        ) from None


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as a JSON object; after a search, `found` is the excerpt."""
    facts = asdict(row)
    excerpt = facts.pop("excerpt")
    return facts | ({"found": excerpt} if excerpt else {})


def open_status(entries: Entries) -> str:
    """Return the status of an open run: while its kernel is running, that of the last cell."""
    if entries.end or not provenance.is_alive(entries.header.get("kernel", {})):
        return summary.abandoned_status(entries)
    states = list(entries.of("status", "cell_start"))
    return states[-1]["status"] if states and states[-1]["kind"] == "status" else "running"


def _open(path: Path) -> sqlite3.Connection:
    """Open the index; one that is damaged or of another version is rebuilt."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as err:
        if not _is_damaged(err):
            raise _unusable(path, err) from err
        path.unlink()
        return _connect(path)


def _is_damaged(err: sqlite3.DatabaseError) -> bool:
    """Tell whether an index must be rebuilt, rather than being locked or on a full disk."""
    return getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGED


def _unusable(path: Path, err: sqlite3.DatabaseError) -> CommandFailed:
    return CommandFailed(
        "The index of runs cannot be used.",
        expected="an index that no other process locks, and free disk space",
        observed=str(err),
        next=f"run the same command again; if it fails again, remove {path}: it will be rebuilt",
    )


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(0o600)
    db = sqlite3.connect(path, timeout=30)
    db.execute("PRAGMA synchronous = OFF")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        db.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
    elif version != _VERSION:
        db.close()
        raise sqlite3.DatabaseError(f"index version {version}")
    return db


def _names(folder: Path) -> set[str]:
    """Return the names in a folder, without hidden and unprintable ones, which are not runs."""
    names = (path.name for path in folder.iterdir())
    return {name for name in names if name.isprintable() and not name.startswith(".")}


def _is_run(folder: Path) -> bool:
    """Tell whether a folder without a readable journal is a run."""
    return bool(seal.step_of(folder.name)) or (folder / journal.NAME).is_file()


def _unsealed(folder: Path, entries: Entries) -> dict[str, Any]:
    is_broken = not entries.header and not journal.is_empty(folder / journal.NAME)
    status = seal.BROKEN if is_broken else open_status(entries)
    return summary.summarise(entries) | {"status": status}


def _start_of(folder: Path) -> str:
    """Return the start of a run without a readable journal: from its id, or from its folder."""
    try:
        time = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        time = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return time.isoformat()


def _storable(value: Any) -> Any:
    """Return a value for SQLite, with lone surrogates in text replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _microseconds(time: str) -> int:
    """Return a time in microseconds since 1970; runs are ordered by it."""
    return int(datetime.fromisoformat(time).timestamp() * 1_000_000)


def _operator(record: dict[str, Any]) -> str:
    """Return `Ann Example <ann@example.com> ann`, as far as it is known."""
    operator = record["operator"]
    names = (formats.person(operator), operator.get("user") or "")
    return " ".join(filter(None, dict.fromkeys(names)))


def _fts_query(text: str) -> str:
    words = ['"' + word.replace('"', '""') + '"' for word in text.split()]
    return " ".join(words) + "*" if words else '""'


def _searchable_text(record: dict[str, Any], entries: Entries) -> str:
    """Return the text that is indexed: facts of the record, then outputs of its cells."""
    facts = ("run", "account", "operator", "parameters", "plan", "checks", "changes", "outputs")
    texts = [json.dumps(record[name], ensure_ascii=False, default=str) for name in facts]
    texts += [json.dumps(record[name], ensure_ascii=False) for name in ("tools", "error")]
    size = sum(map(len, texts))
    for output in entries.of("output"):
        text = output.get("text") or output.get("evalue") or ""
        text = text or (output.get("data") or {}).get("text/plain", "")
        texts.append("".join(map(str, text)) if isinstance(text, list) else str(text))
        size += len(texts[-1])
        if size > _MAX_CHARS:
            break
    return "\n".join(texts)[:_MAX_CHARS]
