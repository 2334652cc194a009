"""Find runs again: an index of all records, which can be deleted and is made anew from them."""

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

INDEX = ".index.sqlite"
_VERSION = 1
_DAMAGED = (
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR),
    *(sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
)
"""What SQLite says of an index that is not as it was made."""
_TEXT_LIMIT = 60_000
_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SCHEMA = """
CREATE TABLE runs(
  id INTEGER PRIMARY KEY, run TEXT UNIQUE, environment TEXT, step TEXT, status TEXT, operator TEXT,
  target TEXT, start TEXT, seconds REAL, sealed INTEGER);
CREATE INDEX runs_by_place ON runs(environment, step, id);
CREATE INDEX runs_open ON runs(sealed) WHERE NOT sealed;
CREATE VIRTUAL TABLE words USING fts5(said, tokenize = "unicode61 remove_diacritics 2");
CREATE TABLE homes(environment TEXT PRIMARY KEY, changed INTEGER);
"""


@dataclass(frozen=True)
class Row:
    """One run in a list. found: where a search met it, the words between « and »."""

    run: str
    environment: str
    step: str
    status: str
    operator: str
    target: str
    start: str
    seconds: float
    found: str = ""


@dataclass(frozen=True)
class Filters:
    """Which runs are meant; empty means all. since, until: a date, a time, or `7d` ago."""

    environment: str = ""
    step: str = ""
    status: str = ""
    operator: str = ""
    since: str = ""
    until: str = ""

    def where(self) -> tuple[str, list[Any]]:
        """Return an SQL condition and its values."""
        terms, values = ["1"], []
        for name in ("environment", "step", "status"):
            if wanted := getattr(self, name):
                terms.append(f"runs.{name} = ?")
                values.append(wanted)
        if self.operator:
            terms.append("runs.operator LIKE ?")
            values.append(f"%{self.operator}%")
        for name, sign in (("since", ">="), ("until", "<")):
            if wanted := getattr(self, name):
                terms.append(f"runs.id {sign} ?")
                values.append(_order(moment(wanted)))
        return " AND ".join(terms), values


class Archive:
    """All runs of a project; each question first takes in what is new in runs/."""

    def __init__(self, root: Path) -> None:
        self.home = root / "runs"
        private_files.make_folder(self.home, 0o750)
        self._db = _open(self.home / INDEX)

    def close(self) -> None:
        self._db.close()

    def list(self, filters: Filters = Filters(), limit: int = 50) -> list[Row]:
        """Return runs, the newest first."""
        where, values = filters.where()
        query = f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY id DESC LIMIT ?"
        return [Row(*row) for row in self._ask(query, [*values, limit])]

    def search(self, text: str, filters: Filters = Filters(), limit: int = 50) -> list[Row]:
        """Return runs that hold all these words, the last one as a beginning; newest first."""
        where, values = filters.where()
        query = f"""SELECT {_COLUMNS}, snippet(words, 0, '«', '»', '…', 12) FROM words
            JOIN runs ON runs.id = words.rowid WHERE words MATCH ? AND {where}
            ORDER BY words.rowid DESC LIMIT ?"""
        return [Row(*row) for row in self._ask(query, [_match(text), *values, limit])]

    def find(self, text: str | None = None) -> Path:
        """Return the folder of the run meant by an id, its beginning or its end; None: the newest.

        SettingsError when there is none, or more than one.
        """
        if text is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text):
            raise SettingsError(
                f"{shown(text)} is no run's id.",
                expected="one run's id, its beginning or its end",
                next="daybook runs list",
            )
        fits = r"run LIKE ? ESCAPE '\' OR run LIKE ? ESCAPE '\'"
        query = f"SELECT environment, run FROM runs WHERE {fits} ORDER BY id DESC LIMIT 6"
        part = (text or "").replace("_", r"\_")  # LIKE takes _ for any character.
        found = self._ask(query, [f"{part}%", f"%{part}"])
        exact = [pair for pair in found if pair[1] == text]
        if not found or (text and len(found) > 1 and not exact):
            raise SettingsError(
                f"There is no run {text}." if text else "There are no runs yet.",
                expected="one run's id, its beginning or its end",
                observed=", ".join(run for _, run in found) or "none that fits",
                next="daybook runs list",
            )
        environment, run = (exact or found)[0]
        return self.home / environment / run

    def _ask(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Take in what is new and ask; an index that is damaged is made anew, once."""
        try:
            return self._asked(query, values)
        except sqlite3.DatabaseError as err:
            if not _is_damaged(err):
                raise _unusable(self.home / INDEX, err) from err
        self._db.close()
        (self.home / INDEX).unlink(missing_ok=True)
        self._db = _open(self.home / INDEX)
        return self._asked(query, values)

    def _asked(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        self.refresh()
        return self._db.execute(query, values).fetchall()

    def refresh(self) -> int:
        """Take in new runs and what became of open ones; return how many were read."""
        with self._db:
            read = sum(self._refresh_home(home) for home in self._changed_homes())
            is_open = "SELECT environment, run FROM runs WHERE NOT sealed"
            for environment, run in self._db.execute(is_open).fetchall():
                read += self._add(self.home / environment / run)
        return read

    def _changed_homes(self) -> Iterator[Path]:
        """Give the environments in which a folder came or went since the last look."""
        seen = dict(self._db.execute("SELECT environment, changed FROM homes"))
        homes = {name: self.home / name for name in _names(self.home)}
        homes = {name: path for name, path in homes.items() if path.is_dir()}
        for name in seen.keys() - homes.keys():
            self._remove(run for (run,) in self._runs_of(name))
            self._db.execute("DELETE FROM homes WHERE environment = ?", [name])
        for name, path in homes.items():
            changed = path.stat().st_mtime_ns
            if seen.get(name) != changed:
                yield path
                self._db.execute("INSERT OR REPLACE INTO homes VALUES (?, ?)", [name, changed])

    def _refresh_home(self, home: Path) -> int:
        here = _names(home)
        known = {run for (run,) in self._runs_of(home.name)}
        self._remove(known - here)
        return sum(self._add(home / run) for run in sorted(here - known))

    def _runs_of(self, environment: str) -> Iterable[tuple[str]]:
        return self._db.execute("SELECT run FROM runs WHERE environment = ?", [environment])

    def _add(self, folder: Path) -> int:
        is_sealed, entries = True, Entries(())
        try:
            with suppress(FileNotFoundError):
                entries = journal.read(folder / journal.NAME)
            if not entries.lines and not _is_run(folder):
                return 0
            said = seal.load(folder)
            if said is None:
                is_sealed = False
                said = _unsealed(folder, entries)
        except NotADirectoryError:
            return 0
        except (NoFile, PermissionError, VerifyFailed):
            is_sealed = False  # Looked at again each time: it may be restored.
            said = summary.summarise(Entries(())) | {"status": seal.BROKEN}
        if not said["start"]:
            said |= {"step": seal.step_of(folder.name), "start": _time_of(folder)}
        self._remove([folder.name])
        identity = self._free_id(_order(said["start"]))
        row = (
            *(folder.name, folder.parent.name, said["step"], said["status"], _operator(said)),
            *(said["target"], said["start"], said["seconds"], is_sealed),
        )
        marks = ", ".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT INTO runs VALUES ({marks})", [identity, *map(_storable, row)])
        text = _storable(_words(said, entries))
        self._db.execute("INSERT INTO words(rowid, said) VALUES (?, ?)", [identity, text])
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


def moment(text: str) -> str:
    """Return the time that an operator means by `7d`, `12h`, `2026-11-23` or a full time."""
    try:
        if ago := _AGO.fullmatch(text):
            then = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            then = datetime.fromisoformat(text)
        if not 1970 < then.year < 9999:
            raise ValueError
        return (then if then.tzinfo else then.astimezone()).isoformat()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{shown(text)} is no time.",
            expected="2026-11-23, 2026-11-23T18:45 or 7d, after 1970",
            next="give --since or --until such a time",
        ) from None


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows for a program; `found` only where there was a search."""
    return [{k: v for k, v in asdict(row).items() if k != "found" or v} for row in rows]


def current(entries: Entries) -> str:
    """Return the status of a run that is not closed: of its last cell while its kernel lives."""
    if entries.end or not provenance.is_alive(entries.header.get("kernel", {})):
        return summary.left_behind(entries)
    states = list(entries.of("status", "cell_start"))
    return states[-1]["status"] if states and states[-1]["kind"] == "status" else "running"


def _open(path: Path) -> sqlite3.Connection:
    """Open the index; one of another version, or a broken one, is made anew."""
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as err:
        if not _is_damaged(err):
            raise _unusable(path, err) from err
        path.unlink()
        return _prepared(path)


def _is_damaged(err: sqlite3.DatabaseError) -> bool:
    """Tell whether an index has to be made anew: not one that is locked, or on a full disk."""
    return getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGED


def _unusable(path: Path, err: sqlite3.DatabaseError) -> CommandFailed:
    return CommandFailed(
        "The index of runs cannot be used.",
        expected="a file that nobody else holds, on a disk with room",
        observed=str(err),
        next=f"run the same command again; if it fails again, remove {path}: it is made anew",
    )


def _prepared(path: Path) -> sqlite3.Connection:
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
    """Return what is in a folder; names that are hidden or no text are of no run."""
    names = (path.name for path in folder.iterdir())
    return {name for name in names if name.isprintable() and not name.startswith(".")}


def _is_run(folder: Path) -> bool:
    """Tell whether a folder without a readable journal is a run all the same."""
    return bool(seal.step_of(folder.name)) or (folder / journal.NAME).is_file()


def _unsealed(folder: Path, entries: Entries) -> dict[str, Any]:
    is_broken = not entries.header and not journal.is_unbegun(folder / journal.NAME)
    status = seal.BROKEN if is_broken else current(entries)
    return summary.summarise(entries) | {"status": status}


def _time_of(folder: Path) -> str:
    """Return when a run began that does not say so itself: by its name, or by its folder."""
    try:
        found = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        found = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return found.isoformat()


def _storable(value: Any) -> Any:
    """Return what SQLite can keep: a text without halves of surrogate pairs."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _order(time: str) -> int:
    """Return a time as the number by which runs are ordered: microseconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp() * 1_000_000)


def _operator(said: dict[str, Any]) -> str:
    """Return `Ann Example <ann@example.com> ann`, as far as it is known."""
    who = said["operator"]
    address = f"<{who['email']}>" if who.get("email") else ""
    return " ".join(filter(None, (who.get("name"), address, who.get("user"))))


def _match(text: str) -> str:
    words = ['"' + word.replace('"', '""') + '"' for word in text.split()]
    return " ".join(words) + "*" if words else '""'


def _words(said: dict[str, Any], entries: Entries) -> str:
    """Return what a search looks through: facts first, then what the cells put out."""
    facts = ("run", "account", "operator", "parameters", "plan", "checks", "changes", "outputs")
    told = [json.dumps(said[name], ensure_ascii=False, default=str) for name in facts]
    told += [json.dumps(said[name], ensure_ascii=False) for name in ("tools", "error")]
    size = sum(map(len, told))
    for output in entries.of("output"):
        text = output.get("text") or output.get("evalue") or ""
        text = text or (output.get("data") or {}).get("text/plain", "")
        told.append("".join(map(str, text)) if isinstance(text, list) else str(text))
        size += len(told[-1])
        if size > _TEXT_LIMIT:
            break
    return "\n".join(told)[:_TEXT_LIMIT]
