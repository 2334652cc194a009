"""Parse environments/signers: the accepted SSH keys and their purposes. The only parser of it.

    ann@example.com namespaces="daybook-record,daybook-approval" ssh-ed25519 AAAA… github:ann

The format is a strict subset of ssh-keygen's allowed signers: one name per line, explicit
namespaces, no patterns and no certificate authorities. The key of a line without namespaces can
log in to the hosts, but its signatures are not accepted. Times are in UTC.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daybook import private_files
from daybook.errors import SettingsError, explained
from daybook.private_files import NoFile

FILE = "environments/signers"
RECORD = "daybook-record"
"""The namespace for signatures of records, plans and applies."""
APPROVAL = "daybook-approval"
"""The namespace for approving or declining another person's plan."""
WORKFLOWS = "-workflows"
"""The suffix of the name of a workflow's key, `hello-staging-workflows`; it cannot approve."""
MAX_BYTES, MAX_LINES = 256 * 1024, 1000
KEY_TYPES = (
    *("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"),
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*(@[a-z0-9-]+(\.[a-z0-9-]+)*)?")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9@._-]*")
_LOGIN = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION = re.compile(r'([a-z-]+)(?:="([^"]*)"|=([^",]*))?(?:,|$)', re.IGNORECASE)
_TIME_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class Signer:
    """One line. name: the person's identity. key: `type base64`. github: a login, or ""."""

    line: int
    name: str
    namespaces: tuple[str, ...]
    key: str
    fingerprint: str
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    github: str = ""

    @property
    def is_workflow(self) -> bool:
        """True for the key of a workflow, which belongs to no person."""
        return is_workflow(self.name)

    def is_valid_at(self, moment: datetime) -> bool:
        """Tell whether the line is valid at this time."""
        has_begun = self.valid_after is None or self.valid_after <= moment
        return has_begun and (self.valid_before is None or moment < self.valid_before)


@dataclass(frozen=True)
class Signers:
    """All lines of a signers file; each key belongs to one name."""

    lines: tuple[Signer, ...] = ()

    def of(self, fingerprint: str) -> tuple[Signer, ...]:
        """Return the lines with a key."""
        return tuple(line for line in self.lines if line.fingerprint == fingerprint)

    def named(self, name: str) -> tuple[Signer, ...]:
        """Return the lines with a person's name."""
        return tuple(line for line in self.lines if line.name == identity(name))

    def allowed(
        self, fingerprint: str, namespace: str, when: datetime | None = None
    ) -> Signer | None:
        """Return the line that allows a key to sign in a namespace, or None. when: default now."""
        moment = when or datetime.now(UTC)
        lines = (line for line in self.of(fingerprint) if namespace in line.namespaces)
        return next((line for line in lines if line.is_valid_at(moment)), None)

    def refusal(self, fingerprint: str, namespace: str, when: datetime | None = None) -> str:
        """Return why a key may not sign in a namespace, or ""."""
        if self.allowed(fingerprint, namespace, when):
            return ""
        if not fingerprint:
            return "no usable SSH key"
        lines = self.of(fingerprint)
        if not lines:
            return f"{fingerprint} is not in {FILE}"
        at = f"{FILE}:{lines[0].line}"
        if not any(line.namespaces for line in lines):
            return f"{at}: {lines[0].name} has no namespaces, so the key cannot sign"
        if not any(namespace in line.namespaces for line in lines):
            return f"{at}: the namespaces of {lines[0].name} do not include {namespace}"
        return f"{at}: the key of {lines[0].name} is not valid at this time"


def load(root: Path, file: str = FILE) -> Signers:
    """Read the project's signers; SettingsError lists each invalid line."""
    return parse(_read(root / file, file), file)


def parse(text: str, source: str) -> Signers:
    """Parse the text of a signers file; SettingsError lists each invalid line of `source`."""
    numbered = enumerate(text.split("\n"), start=1)
    lines, problems = [], []
    for number, line in numbered:
        bare = line.strip(" \t\r")
        if not bare or bare.startswith("#"):
            continue
        if number > MAX_LINES:
            problems.append(f"{source}:{number}: more than {MAX_LINES} lines")
            break
        try:
            lines.append(_signer(number, bare))
        except ValueError as err:
            problems.append(f"{source}:{number}: {err}")
    problems += [f"{source}:{number}: {problem}" for number, problem in _conflicts(lines)]
    if problems:
        raise _unusable(source, problems)
    return Signers(tuple(lines))


def identity(name: str) -> str:
    """Return a name normalized for comparison: `" Ann@Example.com"` is `ann@example.com`."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def is_workflow(name: str) -> bool:
    """Tell whether a name is that of a workflow's key."""
    return "@" not in name and name.endswith(WORKFLOWS)


def fingerprint(public: str) -> str:
    """Return `SHA256:…` of `type base64`, as `ssh-keygen -l` prints it; "" if it is not a key."""
    words = public.split()
    try:
        return fingerprint_of(base64.b64decode(words[1], validate=True))
    except (IndexError, ValueError):
        return ""


def fingerprint_of(blob: bytes) -> str:
    """Return `SHA256:…` of a public key's bytes."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def _read(path: Path, source: str) -> str:
    try:
        raw = private_files.read(path, MAX_BYTES)
    except FileNotFoundError:
        return ""
    except NoFile as err:
        raise _unusable(source, [f"{source}: {err.strerror}"]) from err
    except OSError as err:
        raise explained(err, cls=SettingsError, folder=path) from err
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        number = raw[: err.start].count(b"\n") + 1
        raise _unusable(source, [f"{source}:{number}: not UTF-8"]) from err


def _signer(number: int, line: str) -> Signer:
    """Parse one line; ValueError describes the problem without repeating the line."""
    if any(unicodedata.category(char) == "Cc" and char != "\t" for char in line):
        raise ValueError("a control character")
    words = _WORD.findall(line)
    if re.sub(_WORD, "", line).strip(" \t"):
        raise ValueError("an unmatched quotation mark")
    kind_at = next((at for at, word in enumerate(words[1:3], start=1) if word in KEY_TYPES), None)
    if kind_at is None:
        raise ValueError("no supported key type after the name and its options")
    if len(words) < kind_at + 2:
        raise ValueError("no key after its type")
    options = _options(words[1]) if kind_at == 2 else {}
    key, blob = _key(words[kind_at], words[kind_at + 1])
    after, before = (_time(options.get(f"valid-{when}")) for when in ("after", "before"))
    if after and before and after >= before:
        raise ValueError("valid-after is not before valid-before, so the line is never valid")
    return Signer(
        line=number,
        name=_name(words[0]),
        namespaces=_namespaces(options.get("namespaces")),
        key=key,
        fingerprint=fingerprint_of(blob),
        valid_after=after,
        valid_before=before,
        github=_github(words[kind_at + 2 :]),
    )


def _name(word: str) -> str:
    name = identity(word)
    if "," in name:
        raise ValueError("several names; write one line per person, with one name")
    if set(name) & set("*?!"):
        raise ValueError("a pattern instead of a name")
    if not _NAME.fullmatch(name):
        raise ValueError("no name such as ann@example.com at the start")
    return name


def _options(word: str) -> dict[str, str]:
    """Return a line's options: `{"namespaces": "daybook-record"}`."""
    options, at = {}, 0
    while at < len(word):
        match = _OPTION.match(word, at)
        if match is None:
            raise ValueError("invalid options")
        name, value = match[1].casefold(), match[2] if match[2] is not None else match[3]
        if name == "cert-authority":
            raise ValueError("a certificate authority; list each person's own key instead")
        if name not in ("namespaces", "valid-after", "valid-before") or value is None:
            raise ValueError("an option other than namespaces, valid-after and valid-before")
        if name in options:
            raise ValueError(f"{name} is set twice")
        options[name], at = value, match.end()
    return options


def _namespaces(value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    names = tuple(value.split(","))
    if not all(map(_NAMESPACE.fullmatch, names)):
        raise ValueError("namespaces that are empty, patterns or not in lower case")
    return names


def _time(value: str | None) -> datetime | None:
    if value is None:
        return None
    digits = value.removesuffix("Z")
    if not (digits.isascii() and digits.isdigit() and len(digits) in _TIME_FORMATS):
        raise ValueError("a time that is not YYYYMMDD or YYYYMMDDHHMM[SS] in UTC")
    try:
        return datetime.strptime(digits, _TIME_FORMATS[len(digits)]).replace(tzinfo=UTC)
    except ValueError as err:
        raise ValueError("a time that does not exist") from err


def _key(kind: str, text: str) -> tuple[str, bytes]:
    try:
        blob = base64.b64decode(text, validate=True)
        strings = list(_strings(blob))
    except (binascii.Error, struct.error, ValueError) as err:
        raise ValueError("an invalid key") from err
    if len(strings) < 2 or strings[0] != kind.encode():
        raise ValueError("a key of another type than the one before it")
    if kind == "ssh-ed25519" and [len(part) for part in strings[1:]] != [32]:
        raise ValueError("an invalid key")
    return f"{kind} {base64.b64encode(blob).decode()}", blob


def _strings(blob: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(blob):
        (size,) = struct.unpack_from(">I", blob, at)
        if at + 4 + size > len(blob):
            raise ValueError("cut short")
        yield blob[at + 4 : at + 4 + size]
        at += 4 + size


def _github(comment: list[str]) -> str:
    logins = [word.removeprefix("github:") for word in comment if word.startswith("github:")]
    if len(logins) > 1:
        raise ValueError("several GitHub logins")
    if logins and not _LOGIN.fullmatch(logins[0].casefold()):
        raise ValueError("github: without a login")
    return logins[0].casefold() if logins else ""


def _conflicts(lines: list[Signer]) -> Iterator[tuple[int, str]]:
    """Yield the lines with a key or a login that is already used under another name."""
    keys: dict[str, Signer] = {}
    logins: dict[str, Signer] = {}
    for line in lines:
        first = keys.setdefault(line.fingerprint, line)
        if first.name != line.name:
            yield line.line, f"the key of line {first.line} under another name"
        if line.github and (first := logins.setdefault(line.github, line)).name != line.name:
            yield line.line, f"the GitHub login of line {first.line} under another name"


def _unusable(source: str, problems: list[str]) -> SettingsError:
    return SettingsError(
        f"{source} is invalid.",
        details=problems,
        expected='lines such as: ann@example.com namespaces="daybook-record,daybook-approval" '
        "ssh-ed25519 AAAA…",
        next=f"correct {source}, and have the change reviewed",
    )
