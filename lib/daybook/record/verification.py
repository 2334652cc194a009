"""Verify that records are as they were sealed, by whom, and that none is missing."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from daybook import git, private_files, settings, signers
from daybook.errors import SettingsError
from daybook.private_files import NoFile
from daybook.record import evidence, journal, seal, signing, summary
from daybook.signers import Signers

INTACT, UNSIGNED, BROKEN, OPEN = "intact", "unsigned", "broken", "open"
UNAPPROVED = "unapproved"
"""Unchanged since it was sealed, but the applied plan is not the approved plan."""
_LOST = (
    f"{seal.HEAD} could not be read: an earlier record may be missing; "
    "compare with the bucket's copy, then remove this file"
)


@dataclass(frozen=True)
class Verdict:
    """The result of verifying one record. signer: the name of the key, "" if it is not accepted."""

    environment: str
    run: str
    state: str
    signer: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_broken(self) -> bool:
        """True if the record was changed after it was closed, or shows an unapproved change."""
        return self.state in (BROKEN, UNAPPROVED)


def verify(folder: Path) -> Verdict:
    """Verify one run: journal, fields, files, signature, and the link to the previous record."""
    return _verify(folder, _link_problems(folder))


def verify_all(root: Path, environment: str = "*") -> Iterator[Verdict]:
    """Verify every run, and that no record of an environment was removed, added or replaced."""
    for home in sorted((root / "runs").glob(environment)):
        if not home.is_dir():
            continue
        folders = sorted({*seal.runs_of(root, home.name), *seal.empty_runs(root, home.name)})
        chain = _Chain.of(home, folders)
        for folder in folders:
            yield _verify(folder, chain.problems(folder.name))
        for run, problem in chain.missing():
            yield Verdict(home.name, run, BROKEN, problems=(problem,))


def _verify(folder: Path, link_problems: Iterable[str]) -> Verdict:
    environment, run = folder.parent.name, folder.name
    try:
        raw = private_files.read(folder / seal.NAME, seal.MAX_BYTES)
        record = seal.decode(raw)
    except FileNotFoundError:
        return _verify_open(folder)
    except (NoFile, ValueError) as err:
        problem = f"{seal.NAME}: {seal.reason(err)}"
        return Verdict(environment, run, BROKEN, problems=(problem,))
    signer, signature_problems = _check_signature(folder, raw, record)
    problems = (
        *_journal_problems(folder, record),
        *_file_problems(folder, record),
        *signature_problems,
        *link_problems,
    )
    if problems:
        return Verdict(environment, run, BROKEN, signer, problems)
    entries = journal.read(folder / journal.NAME)
    load = functools.partial(signers.load, folder.parents[2])
    required = functools.partial(_required, folder.parents[2], entries.header)
    if unapproved := tuple(evidence.problems(entries, load, required)):
        return Verdict(environment, run, UNAPPROVED, signer, unapproved)
    return Verdict(environment, run, INTACT if signer else UNSIGNED, signer)


def _required(root: Path, header: Mapping[str, Any]) -> int:
    """Return the number of approvals that the settings of a record's commit require.

    0 if the commit or its settings are unknown, and for a rehearsal, which may use uncommitted
    settings.
    """
    checkout = header.get("git")
    if header.get("target") == "sandbox" or not isinstance(checkout, dict) or not git.head(root):
        return 0
    commit, env = str(checkout.get("commit")), str(header.get("environment"))
    try:
        text = git.read(root, commit, f"environments/{env}.yml").decode()
        return settings.parse(text, env).approvals
    except (git.Unreadable, FileNotFoundError, UnicodeDecodeError, SettingsError):
        return 0


def _verify_open(folder: Path) -> Verdict:
    verdict = functools.partial(Verdict, folder.parent.name, folder.name)
    path = folder / journal.NAME
    try:
        if journal.is_empty(path):
            problem = "killed before its first journal line: daybook runs close"
            return verdict(OPEN, problems=(problem,))
        entries = journal.read(path)
    except NoFile as err:
        return verdict(BROKEN, problems=(f"{journal.NAME}: {seal.reason(err)}",))
    if (folder / seal.SIGNATURE).exists():
        return verdict(BROKEN, problems=(f"{seal.NAME}: missing, but its signature exists",))
    if not entries.header:
        return verdict(BROKEN, problems=(f"{journal.NAME} line 1: not a complete entry",))
    problems = () if not entries.end else ("ended but not sealed: daybook runs close",)
    return verdict(OPEN, problems=problems)


def _journal_problems(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Compare the record with the journal, from which all but its last fields are derived."""
    path = folder / journal.NAME
    if not path.exists():
        yield f"{journal.NAME}: missing"
        return
    try:
        problems = journal.verify(path)
    except NoFile as err:
        yield f"{journal.NAME}: {seal.reason(err)}"
        return
    yield from (f"{journal.NAME} {problem}" for problem in problems)
    if problems or seal.digest(path) != _sealed_digest(record, journal.NAME):
        return  # _file_problems reports the changed journal; the record is not compared with it.
    for name, value in summary.summarise(journal.read(path)).items():
        if record[name] != value:
            yield f"{seal.NAME}: {name} differs from the journal"
    for name, actual in (("run", folder.name), ("environment", folder.parent.name)):
        if record[name] != actual:
            yield f"{seal.NAME}: {name} is {record[name]!r}, but the folder is {actual!r}"


def _file_problems(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    paths = {path.relative_to(folder).as_posix(): path for path in seal.files_of(folder)}
    for name in record["files"]:
        if name not in paths:
            yield f"{name}: missing"
        elif seal.digest(paths[name]) != _sealed_digest(record, name):
            yield f"{name}: changed"
    yield from (f"{name}: not part of the record" for name in paths.keys() - record["files"].keys())


def _sealed_digest(record: Mapping[str, Any], name: str) -> str | None:
    """Return the hash of a file in the record, None if the record does not list the file."""
    return record["files"].get(name, {}).get("sha256")


def _check_signature(folder: Path, raw: bytes, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the signer's name and the problems of the signature."""
    path = folder / seal.SIGNATURE
    if not path.is_file():
        return "", [f"{seal.SIGNATURE}: missing"] if record.get("signed") else []
    is_rehearsal = record["target"] == "sandbox"
    namespace = signing.REHEARSAL if is_rehearsal else signing.RECORD
    signature = private_files.read(path, seal.MAX_BYTES).decode("utf-8", "replace")
    allowed = _signers(folder.parents[2], is_rehearsal=is_rehearsal)
    signer = signing.check(raw, signature, allowed, namespace, _time(record["end"]))
    if not signer.is_good:
        return "", [f"{seal.NAME}: changed after it was signed"]
    if not signer.name:
        return "", [f"{seal.SIGNATURE}: by an unknown key, {signer.fingerprint}"]
    return signer.name, []


def _signers(root: Path, *, is_rehearsal: bool) -> Signers:
    return signers.load(root, f"runs/{seal.REHEARSAL_SIGNERS}" if is_rehearsal else signers.FILE)


def _time(text: str) -> datetime | None:
    """Return the time of a record, None (now) if the journal had no entries."""
    return datetime.fromisoformat(text) if text else None


def _link_problems(folder: Path) -> Iterator[str]:
    """Check the link to the previous record; `verify_all` checks the whole chain instead."""
    link = seal.link_of(folder)
    if link:
        previous = folder.parent / link["run"] / seal.NAME
        if not previous.is_file():
            yield f"link: the previous record, {link['run']}, is missing"
        elif seal.digest(previous) != link["sha256"]:
            yield f"link: the previous record, {link['run']}, was changed"


@dataclass(frozen=True)
class _Chain:
    """The closed records of one environment and their links.

    broken: the heads that could not be read, each with its problem. reached: the records to which
    the links lead from the newest one.
    """

    hashes: Mapping[str, str]
    links: Mapping[str, Mapping[str, str] | None]
    head: Mapping[str, Any] | None
    followers: Counter[str | None]
    reached: frozenset[str]
    broken: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, home: Path, folders: Iterable[Path]) -> _Chain:
        hashes, links = {}, {}
        for folder in folders:
            file = folder / seal.NAME
            if file.is_file():
                hashes[folder.name] = seal.digest(file)
                links[folder.name] = seal.link_of(folder)
        newest, broken = None, []
        try:
            newest = seal.head_of(home)
            if links and newest is None:
                broken.append((seal.HEAD, "missing: the newest record may be missing too"))
        except ValueError as err:
            broken.append((seal.HEAD, f"{err}: the newest record may be missing"))
        if (home / seal.LOST_HEAD).exists():
            broken.append((seal.LOST_HEAD, _LOST))
        followers = Counter(link["run"] if link else None for link in links.values())
        reached = frozenset(_walk(newest, links))
        return cls(hashes, links, newest, followers, reached, tuple(broken))

    def problems(self, run: str) -> Iterator[str]:
        """Yield the problems of a record's links to and from other records."""
        if run not in self.links:
            return
        link = self.links[run]
        previous = link["run"] if link else None
        if previous and previous not in self.hashes:
            yield f"link: the previous record, {previous}, is missing"
        elif previous and self.hashes[previous] != link["sha256"]:
            yield f"link: the previous record, {previous}, was changed"
        if self.followers[previous] > 1:
            yield f"link: another record also follows {previous or 'nothing'}"
        if self.head and self.head["run"] == run and self.head["sha256"] != self.hashes[run]:
            yield f"link: not the newest record that {seal.HEAD} names"
        if run not in self.reached:
            yield "link: the newest record does not lead back to this one"

    def missing(self) -> Iterator[tuple[str, str]]:
        """Yield each missing record or head with its problem."""
        yield from self.broken
        if self.head and self.head["run"] not in self.hashes:
            yield self.head["run"], "the newest record of this environment is missing"


def _walk(head: Mapping[str, Any] | None, links: Mapping[str, Any]) -> Iterator[str]:
    """Follow the links from the newest record; after a gap, all records count as reached."""
    run = head["run"] if head else ""
    visited = set()
    while run in links and run not in visited:
        visited.add(run)
        yield run
        run = (links[run] or {"run": None})["run"]
    if run is not None:
        yield from links
