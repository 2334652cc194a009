"""Read git so that neither the checkout nor the operator's configuration can change the answer.

The server at the configured URL reports the current commit of its default branch; the clone's
remote-tracking branches do not count. From that commit on, every object is verified by its hash,
which git itself does not do. Files are compared with the commit byte by byte, without git's index.
So refs, replacements, grafts, caches, `assume-unchanged`, excludes and filters have no effect.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daybook.errors import PreflightFailed

ANSWER_S = 30
"""The time limit for an answer from a remote."""
HISTORY = 200_000
"""The maximum number of commits searched for an ancestor."""
FOLDER, SYMLINK, EXECUTABLE, PLAIN = b"40000", b"120000", b"100755", b"100644"
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_URL = re.compile(
    r"https://[\w.-]+(:\d+)?/[\w./~-]+"
    r"|ssh://([\w.-]+@)?[\w.-]+(:\d+)?/[\w./~-]+"
    r"|http://(127(\.\d+){3}|localhost)(:\d+)?/[\w./~-]+"
    r"|file:///[\w./~-]+",
    re.ASCII,
)
_SCP = re.compile(r"([\w.-]+@)?([\w.-]+):(?!/)([\w./~-]+)", re.ASCII)
_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"),
    *("DBUS_SESSION_BUS_ADDRESS", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"),
    *("GITHUB_TOKEN", "GH_TOKEN"),
)
"""Environment variables for git; none can redirect it or change the servers that it trusts."""
_CREDENTIALS = r"^credential\.(.*\.)?(helper|username|usehttppath)$"
_NO_REPOSITORY = {"GIT_DIR": os.devnull}
"""Without it, git searches for a repository in the current folder and its parents."""
_TOKEN_HELPER = '!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f'
# Files of a checkout that are in no commit: caches, records and generated files.
_TOP = re.compile(
    r"\.(git|venv|cache|sandbox|ansible|hypothesis|idea|vscode|DS_Store|ipynb_checkpoints"
    r"|pytest_cache|ruff_cache|terraform)|runs|build|[\w.-]+\.egg-info"
)
_GENERATED = re.compile(
    r"(.*/)?(\.DS_Store|\.ipynb_checkpoints)"
    r"|lib/[\w.-]+\.egg-info"
    r"|terraform/(account|environment)/(\.terraform|errored\.[\w-]+\.tfstate)"
)
_INVENTORY = re.compile(r"ansible/inventories/[a-z][a-z0-9-]*(\.known_hosts)?")


class Unreadable(Exception):
    """An object is missing, or its content does not match its id."""


@dataclass(frozen=True)
class Commit:
    """A commit of a remote. branch: the remote's default branch, which contains it."""

    id: str
    branch: str = ""


@dataclass(frozen=True)
class Objects:
    """The objects of a clone; each is verified by its hash."""

    process: subprocess.Popen

    def read(self, id: str, kind: str) -> bytes:
        """Return an object's content; Unreadable if no object has this id and kind."""
        if not _ID.fullmatch(id):
            raise Unreadable(f"{id!r} is not an object id")
        self.process.stdin.write(f"{id}\n".encode())
        self.process.stdin.flush()
        header = self.process.stdout.readline().split()
        if len(header) != 3:
            raise Unreadable(f"{kind} {id} is missing")
        content = self.process.stdout.read(int(header[2]))
        self.process.stdout.read(1)
        if header[1].decode() != kind or _hash(kind, content, id) != id:
            raise Unreadable(f"the content of {kind} {id} does not match its id")
        return content

    def tree_of(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        return self.read(commit, "commit").split(b"\n", 1)[0].removeprefix(b"tree ").decode()

    def parents_of(self, commit: str) -> list[str]:
        """Return the ids of a commit's parents."""
        head = self.read(commit, "commit").split(b"\n\n", 1)[0]
        return [line[7:].decode() for line in head.split(b"\n") if line.startswith(b"parent ")]

    def entries(self, tree: str) -> dict[str, tuple[bytes, str]]:
        """Return a tree's entries: `{"lib": (FOLDER, "3fa9…")}`."""
        rest, size, entries = self.read(tree, "tree"), len(tree) // 2, {}
        while rest:
            head, rest = rest.split(b"\0", 1)
            mode, name = head.split(b" ", 1)
            entries[os.fsdecode(name)] = (mode, rest[:size].hex())
            rest = rest[size:]
        return entries


@contextmanager
def objects(root: Path) -> Iterator[Objects]:
    """Open the objects of the checkout at root for reading."""
    command = ["git", "--no-replace-objects", "-C", str(root), "cat-file", "--batch"]
    with subprocess.Popen(
        command,
        env=_environ() | {"GIT_NO_LAZY_FETCH": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield Objects(process)
        except BrokenPipeError as err:
            raise Unreadable("git cannot read the objects of this checkout") from err
        finally:
            process.kill()


def head(root: Path) -> str:
    """Return the commit that is checked out at root; "" without a repository, a commit or git."""
    if not (root / ".git").exists():
        return ""
    commit = _output(["-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"])
    return commit if commit and _ID.fullmatch(commit) else ""


def last_commit(root: Path, path: str) -> str:
    """Return the last commit that touched a path in the checkout at root; "" without one."""
    commit = _output(["-C", str(root), "rev-list", "-1", "HEAD", "--", path])
    return commit if commit and _ID.fullmatch(commit) else ""


def is_clean(root: Path, path: str) -> bool:
    """Tell whether a path has no uncommitted changes; ignored files do not count.

    This trusts git's index: use `differences` to prove that files are those of a commit.
    """
    status = ["status", "--porcelain", "--untracked-files=normal", "--", path]
    return _output(["-c", "core.fsmonitor=false", "-C", str(root), *status]) == ""


def branch(root: Path) -> str:
    """Return the branch that is checked out at root, or `(detached)`."""
    if not head(root):
        return ""
    return _output(["-C", str(root), "symbolic-ref", "--short", "--quiet", "HEAD"]) or "(detached)"


def read(root: Path, commit: str, path: str) -> bytes:
    """Return a file's content in a commit; FileNotFoundError if the commit does not contain it."""
    with objects(root) as stored:
        folder, names = stored.tree_of(commit), path.split("/")
        for name in names[:-1]:
            mode, folder = stored.entries(folder).get(name, (b"", ""))
            if mode != FOLDER:
                raise FileNotFoundError(path)
        mode, id = stored.entries(folder).get(names[-1], (b"", ""))
        if mode not in (PLAIN, EXECUTABLE):
            raise FileNotFoundError(path)
        return stored.read(id, "blob")


def list_folder(root: Path, commit: str, folder: str) -> list[str]:
    """Return the names in a top-level folder of a commit; [] if it does not exist."""
    with objects(root) as stored:
        mode, tree = stored.entries(stored.tree_of(commit)).get(folder, (b"", ""))
        return sorted(stored.entries(tree)) if mode == FOLDER else []


def is_ancestor(root: Path, commit: str, tip: str) -> bool:
    """Tell whether `commit` is `tip` or one of its ancestors.

    Raises Unreadable if the clone does not contain enough of the history.
    """
    with objects(root) as stored:
        known, queue, missing = {tip}, [tip], None
        while queue and len(known) < HISTORY:
            if commit in known:
                return True
            level, queue = queue, []
            for id in level:
                try:
                    new = [parent for parent in stored.parents_of(id) if parent not in known]
                except Unreadable as err:
                    missing = err
                    continue
                known.update(new)
                queue += new
        if missing:
            raise missing
        return commit in known


def differences(root: Path, commit: str) -> list[str]:
    """Return how the files at root differ from a commit: `["changed: lib/daybook/aws.py"]`.

    Compares type, mode and bytes of every file in the commit. Any other file is reported unless it
    is known to be generated. Compiled Python must match the source beside it, and this Python must
    not run any other compiled files.
    """
    with objects(root) as stored:
        differences = sorted(_differences(stored, root, stored.tree_of(commit), ""))
    return [*_other_compiled(), *differences]


def tip(url: str, root: Path, *, key: Path | None = None) -> Commit:
    """Return the current commit of the default branch, as reported by the server of a URL.

    root: the checkout; if one of its remotes is this repository over SSH, the lookup uses SSH too.
    key: a private SSH key to offer. Raises PreflightFailed without an answer.
    """
    require_url(url)
    environ = _environ() | _configured(url) | _NO_REPOSITORY | {"GIT_SSH_COMMAND": _ssh(key)}
    command = ["git", "ls-remote", "--symref", "--", _transport(url, root), "HEAD"]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
        )
        output, problem = done.stdout.decode("ascii", "replace"), _last_line(done.stderr)
    except subprocess.TimeoutExpired:
        output, problem = "", f"no answer in {ANSWER_S} s"
    except OSError as err:
        output, problem = "", f"git: {err.strerror}"
    branch = re.search(r"^ref: refs/heads/([\w./-]+)\tHEAD$", output, re.M)
    match = re.search(r"^([0-9a-f]{40,64})\tHEAD$", output, re.M)
    if not match or not _ID.fullmatch(match[1]):
        raise PreflightFailed(
            "The lookup of the reviewed branch failed.",
            expected=f"an answer from {url}",
            observed=problem or "no commits",
            next="try again when this succeeds: git ls-remote " + url,
        )
    return Commit(match[1], branch[1] if branch else "")


def require_url(url: str) -> None:
    """Raise PreflightFailed unless a URL is a plain https, ssh or file URL."""
    if not _URL.fullmatch(url) or "/../" in url or url.endswith("/.."):
        raise PreflightFailed(
            "The URL of the reviewed repository is invalid.",
            expected="https://, ssh:// or file://, without a password",
            next="correct git_remote or github.repository in the settings, then run bootstrap",
        )


def _differences(stored: Objects, root: Path, tree: str, prefix: str) -> Iterator[str]:
    entries = stored.entries(tree)
    with os.scandir(root / prefix) as listed:
        files = {entry.name: entry for entry in listed}
    for name, (mode, id) in entries.items():
        path = f"{prefix}{name}"
        if name not in files:
            yield f"missing: {path}"
        elif mode != FOLDER:
            yield from () if _is_same(root / path, mode, id) else (f"changed: {path}",)
        elif files[name].is_dir(follow_symlinks=False):
            yield from _differences(stored, root, id, f"{path}/")
        else:
            yield f"changed: {path}"
    for name in files.keys() - entries.keys():
        yield from _extra(root, f"{prefix}{name}", files[name])


def _is_same(file: Path, mode: bytes, id: str) -> bool:
    """Tell whether a file equals a blob; False for a submodule."""
    file_mode = file.lstat().st_mode
    if mode == SYMLINK:
        return stat.S_ISLNK(file_mode) and _hash("blob", os.fsencode(os.readlink(file)), id) == id
    if mode not in (PLAIN, EXECUTABLE) or not stat.S_ISREG(file_mode):
        return False
    is_executable = bool(file_mode & stat.S_IXUSR)
    return is_executable is (mode == EXECUTABLE) and _hash("blob", file.read_bytes(), id) == id


def _extra(root: Path, path: str, entry: os.DirEntry) -> Iterator[str]:
    """Yield a file that is not in the commit, unless it is generated and cannot affect a step."""
    is_folder = entry.is_dir(follow_symlinks=False)
    is_file = entry.is_file(follow_symlinks=False)
    if entry.name == "__pycache__" and is_folder and "/" in path:
        yield from _compiled(root, path)
    elif _INVENTORY.fullmatch(path) and is_file:
        # Ansible would run an executable inventory.
        yield from (f"executable: {path}",) if entry.stat().st_mode & 0o111 else ()
    elif _GENERATED.fullmatch(path) and (is_folder or is_file):
        return
    elif "/" in path or not _TOP.fullmatch(entry.name):
        yield f"not in the commit: {path}"


def _compiled(root: Path, folder: str) -> Iterator[str]:
    """Yield compiled files that Python would run although they do not match their source."""
    tag = f".{sys.implementation.cache_tag}"
    for file in os.scandir(root / folder):
        stem, suffix = os.path.splitext(file.name)
        path = f"{folder}/{file.name}"
        if suffix != ".pyc" or not file.is_file(follow_symlinks=False):
            yield f"not in the commit: {path}"
        elif ".opt-" in stem:
            # Used by python -O; it lacks the assertions of the source.
            yield f"compiled with -O: {path}"
        elif stem.endswith(tag):
            source = root / folder.removesuffix("__pycache__") / f"{stem.removesuffix(tag)}.py"
            if source.is_file() and not _is_compiled_from(Path(file.path), source):
                yield f"not compiled from its source: {path}"


def _other_compiled() -> Iterator[str]:
    """Yield the reasons why this Python runs other compiled files, or skips assertions."""
    if sys.pycache_prefix:
        yield "PYTHONPYCACHEPREFIX is set: compiled Python comes from another folder"
    if sys.flags.optimize:
        yield "PYTHONOPTIMIZE or -O is set: Python skips assertions"


def _is_compiled_from(compiled: Path, source: Path) -> bool:
    """Tell whether a compiled file matches its source, or Python would not load it."""
    raw, status = compiled.read_bytes(), source.stat()
    if raw[:4] != importlib.util.MAGIC_NUMBER:
        return True
    age_and_size = int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF
    if raw[4:8] == bytes(4) and age_and_size != (_number(raw[8:12]), _number(raw[12:16])):
        return True
    try:
        expected = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
        return raw[4:8] == bytes(4) and marshal.loads(raw[16:]) == expected
    except (ValueError, EOFError, TypeError, SyntaxError):
        return False


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _hash(kind: str, content: bytes, like: str) -> str:
    """Return git's id of an object. like: an id from the same repository, for the algorithm."""
    algorithm = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return algorithm(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()


def _transport(url: str, root: Path) -> str:
    """Return the URL, or its SSH form if a remote of the checkout is this repository over SSH.

    The remote's own URL is never used: it only shows which transport the operator uses.
    """
    if not url.startswith("https://"):
        return url
    remotes = _output(["-C", str(root), "config", "--get-regexp", r"^remote\..*\.url$"]) or ""
    for line in remotes.splitlines():
        remote = line.partition(" ")[2]
        scp = _SCP.fullmatch(remote)
        user, address = (scp[1] or "", f"{scp[2]}/{scp[3]}") if scp else _ssh_parts(remote)
        if address and _bare(address) == _bare(url.removeprefix("https://")):
            host, _, path = url.removeprefix("https://").partition("/")
            return f"ssh://{user or 'git@'}{host.partition(':')[0]}/{path}"
    return url


def _ssh_parts(remote: str) -> tuple[str, str]:
    match = re.fullmatch(r"ssh://([\w.-]+@)?([\w.-]+/[\w./~-]+)", remote, re.ASCII)
    return (match[1] or "", match[2]) if match else ("", "")


def _bare(address: str) -> str:
    return address.removesuffix("/").removesuffix(".git").lower()


def _ssh(key: Path | None) -> str:
    """Return the SSH command for a lookup: no configuration, no prompts, known hosts only."""
    strict = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10"
    identity = f" -i '{key}'" if key and re.fullmatch(r"[\w./~-]+", str(key)) else ""
    return f"ssh -F none {strict}{identity}"


def _environ() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    fixed = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0"}
    return passed | fixed


def _configured(url: str) -> dict[str, str]:
    """Return the complete git configuration of a lookup: the operator's credential helpers."""
    # A value may have several lines: only -z separates the entries.
    scopes = (
        _output(["config", scope, "-z", "--get-regexp", _CREDENTIALS]) or ""
        for scope in ("--system", "--global")
    )
    pairs = [
        tuple(entry.split("\n", 1))
        for entries in scopes
        for entry in entries.split("\0")
        if "\n" in entry
    ]
    if os.environ.get("GITHUB_TOKEN"):
        host = "/".join(url.split("/")[:3])
        pairs.append((f"credential.{host}.helper", _TOKEN_HELPER))
    pairs += [("protocol.allow", "never")]
    pairs += [(f"protocol.{name}.allow", "always") for name in ("https", "http", "ssh", "file")]
    keys = {f"GIT_CONFIG_KEY_{n}": key for n, (key, _) in enumerate(pairs)}
    values = {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(pairs)}
    files: Mapping[str, str] = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return {**files, "GIT_CONFIG_COUNT": str(len(pairs)), **keys, **values}


def _output(words: list[str]) -> str | None:
    """Return the output of a git command; None if it fails or git is not installed."""
    command = ["git", *words]
    try:
        done = subprocess.run(
            command, env=_environ(), stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").rstrip("\n") if done.returncode == 0 else None


def _last_line(raw: bytes) -> str:
    lines = raw[-2000:].decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""
