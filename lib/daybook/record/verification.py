"""Find out whether records are what was sealed, by whom, and whether one is missing."""

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
"""Sealed as it was written, and what it says was applied is not what was approved."""
_LOST = (
    f"the {seal.HEAD} that was here could not be read: a record before it may be missing; "
    "compare with the bucket's copy, then remove this file"
)
_SAME_AS_JOURNAL = (
    *(
        "run",
        "step",
        "environment",
        "target",
        "account",
        "region",
        "caller_arn",
        "operator",
        "host",
    ),
    *("ci", "git", "parameters", "template", "versions", "plan", "approvals", "checks", "changes"),
    *("outputs", "start", "end", "status"),
)


@dataclass(frozen=True)
class Verdict:
    """What became of one record. signer: who sealed it, where a signers file knows the key."""

    environment: str
    run: str
    state: str
    signer: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_broken(self) -> bool:
        """True when something was changed after the record was closed, or never approved."""
        return self.state in (BROKEN, UNAPPROVED)


def verify(folder: Path) -> Verdict:
    """Check one run's folder: journal, fields, files, signature, and the link to the one before."""
    return _judge(folder, _link_problems(folder))


def verify_all(root: Path, environment: str = "*") -> Iterator[Verdict]:
    """Check every run, and of each environment that none was removed, added or exchanged."""
    for home in sorted((root / "runs").glob(environment)):
        known = {*seal.runs_of(root, home.name), *seal.unbegun(root, home.name)}
        if not home.is_dir():
            continue
        folders = sorted(known)
        chain = _Chain.of(home, folders)
        for folder in folders:
            yield _judge(folder, chain.problems(folder.name))
        for run, problem in chain.gone():
            yield Verdict(home.name, run, BROKEN, problems=(problem,))


def _judge(folder: Path, links: Iterable[str]) -> Verdict:
    environment, run = folder.parent.name, folder.name
    try:
        raw = private_files.read(folder / seal.NAME, seal.MAX_BYTES)
        said = seal.decode(raw)
    except FileNotFoundError:
        return _judge_open(folder)
    except (NoFile, ValueError) as err:
        problem = f"{seal.NAME}: {seal.reason(err)}"
        return Verdict(environment, run, BROKEN, problems=(problem,))
    signer, problems = _seal_problems(folder, raw, said)
    problems = (*_journal_problems(folder, said), *_file_problems(folder, said), *problems, *links)
    if problems:
        return Verdict(environment, run, BROKEN, signer, problems)
    entries = journal.read(folder / journal.NAME)
    load = functools.partial(signers.load, folder.parents[2])
    required = functools.partial(_required, folder.parents[2], entries.header)
    if unapproved := tuple(evidence.problems(entries, load, required)):
        return Verdict(environment, run, UNAPPROVED, signer, unapproved)
    return Verdict(environment, run, INTACT if signer else UNSIGNED, signer)


def _required(root: Path, header: Mapping[str, Any]) -> int:
    """Return how many approvals the settings of a record's commit ask for; 0 where nobody knows.

    A rehearsal goes by the files as they were, which need not be the commit's.
    """
    said = header.get("git")
    if header.get("target") == "sandbox" or not isinstance(said, dict) or not git.head(root):
        return 0
    commit, env = str(said.get("commit")), str(header.get("environment"))
    try:
        text = git.read(root, commit, f"environments/{env}.yml").decode()
        return settings.parse(text, env).approvals
    except (git.Unreadable, FileNotFoundError, UnicodeDecodeError, SettingsError):
        return 0


def _judge_open(folder: Path) -> Verdict:
    verdict = functools.partial(Verdict, folder.parent.name, folder.name)
    path = folder / journal.NAME
    try:
        if journal.is_unbegun(path):
            never = ("killed before its first line: daybook runs settle",)
            return verdict(OPEN, problems=never)
        entries = journal.read(path)
    except NoFile as err:
        return verdict(BROKEN, problems=(f"{journal.NAME}: {seal.reason(err)}",))
    if (folder / seal.SIGNATURE).exists():
        return verdict(BROKEN, problems=("record.json: gone, its signature is there",))
    if not entries.header:
        return verdict(BROKEN, problems=(f"{journal.NAME} line 1: not a whole entry",))
    reason = () if not entries.end else ("ended, not sealed yet: daybook runs settle",)
    return verdict(OPEN, problems=reason)


def _journal_problems(folder: Path, said: Mapping[str, Any]) -> Iterator[str]:
    path = folder / journal.NAME
    if not path.exists():
        yield f"{journal.NAME}: missing"
        return
    try:
        found = journal.verify(path)
    except NoFile as err:
        yield f"{journal.NAME}: {seal.reason(err)}"
        return
    yield from (f"{journal.NAME} {problem}" for problem in found)
    if found or seal.digest(path) != _sealed(said, journal.NAME):
        return  # A changed journal, which _file_problems tells, says nothing to compare with.
    told = summary.summarise(journal.read(path))
    for name in _SAME_AS_JOURNAL:
        if said.get(name) != told[name]:
            yield f"{seal.NAME}: {name} is not what the journal says"
    for name, here in (("run", folder.name), ("environment", folder.parent.name)):
        if said.get(name) != here:
            yield f"{seal.NAME}: {name} is {said.get(name)!r}, the folder says {here!r}"


def _file_problems(folder: Path, said: Mapping[str, Any]) -> Iterator[str]:
    here = {path.relative_to(folder).as_posix(): path for path in seal.files_of(folder)}
    for name in said["files"]:
        if name not in here:
            yield f"{name}: missing"
        elif seal.digest(here[name]) != _sealed(said, name):
            yield f"{name}: changed"
    yield from (f"{name}: not part of the record" for name in here.keys() - said["files"].keys())


def _sealed(said: Mapping[str, Any], name: str) -> str | None:
    """Return a file's hash as the record has it; None where an edit left no hash."""
    facts = said["files"].get(name)
    return facts.get("sha256") if isinstance(facts, dict) else None


def _seal_problems(folder: Path, raw: bytes, said: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return who signed, and what is wrong with it."""
    path = folder / seal.SIGNATURE
    if not path.is_file():
        is_signed = bool(said.get("signed"))
        return "", [f"{seal.SIGNATURE}: missing"] if is_signed else []
    is_rehearsal = said.get("target") == "sandbox"
    namespace = signing.REHEARSAL if is_rehearsal else signing.RECORD
    signature = private_files.read(path, seal.MAX_BYTES).decode("utf-8", "replace")
    allowed = _signers(folder.parents[2], is_rehearsal=is_rehearsal)
    found = signing.check(raw, signature, allowed, namespace, _time(said.get("end")))
    if not found.is_good:
        return "", [f"{seal.NAME}: changed after it was signed"]
    if not found.name:
        return "", [f"{seal.SIGNATURE}: by a stranger, {found.fingerprint}"]
    return found.name, []


def _signers(root: Path, *, is_rehearsal: bool) -> Signers:
    return signers.load(root, f"runs/{seal.REHEARSAL_SIGNERS}" if is_rehearsal else signers.FILE)


def _time(text: object) -> datetime | None:
    """Read a record's time; None, which stands for now, where an edit left none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _link_problems(folder: Path) -> Iterator[str]:
    """Check the link to the record before; verify_all sees the whole chain."""
    previous = seal.link_of(folder)
    if previous:
        before = folder.parent / previous["run"] / seal.NAME
        if not before.is_file():
            yield f"link: the record before, {previous['run']}, is gone"
        elif seal.digest(before) != previous["sha256"]:
            yield f"link: the record before, {previous['run']}, was changed"


@dataclass(frozen=True)
class _Chain:
    """One environment's closed records and how they follow each other.

    broken: what can no longer be told, because a head could not be read.
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
                broken.append((seal.HEAD, "gone: the newest record may be missing"))
        except ValueError as err:
            broken.append((seal.HEAD, f"{err}: the newest record may be missing"))
        if (home / seal.LOST_HEAD).exists():
            broken.append((seal.LOST_HEAD, _LOST))
        followers = Counter(link["run"] if link else None for link in links.values())
        reached = frozenset(_walk(newest, links))
        return cls(hashes, links, newest, followers, reached, tuple(broken))

    def problems(self, run: str) -> Iterator[str]:
        """Give what is wrong with the place of one record among the others."""
        if run not in self.links:
            return
        link = self.links[run]
        before = link["run"] if link else None
        if before and before not in self.hashes:
            yield f"link: the record before, {before}, is gone"
        elif before and self.hashes[before] != link["sha256"]:
            yield f"link: the record before, {before}, was changed"
        if self.followers[before] > 1:
            yield f"link: another record also follows {before or 'nothing'}"
        if self.head and self.head["run"] == run and self.head["sha256"] != self.hashes[run]:
            yield "link: not the record that was closed last here"
        if run not in self.reached:
            yield "link: the newest record does not lead back to this one"

    def gone(self) -> Iterator[tuple[str, str]]:
        """Give records that must have been and are not there."""
        yield from self.broken
        if self.head and self.head["run"] not in self.hashes:
            yield self.head["run"], "the newest record of this environment is gone"


def _walk(head: Mapping[str, Any] | None, links: Mapping[str, Any]) -> Iterator[str]:
    """Follow the chain from the newest record; past a gap, all count as reached."""
    run = head["run"] if head else ""
    seen = set()
    while run in links and run not in seen:
        seen.add(run)
        yield run
        run = (links[run] or {"run": None})["run"]
    if run is not None:
        yield from links
