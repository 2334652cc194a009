"""Git, read so that neither the checkout nor the operator's configuration can change the answer.

The server that a remote's URL names says which commit its default branch has now; nothing that a
clone remembers of it counts. From that commit's id on, every object is verified by its hash, as
git itself does not. Files are compared with the commit by their bytes, without git's index. So
refs, replacements, grafts, caches, `assume-unchanged`, excludes and filters have no say.
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
"""How long a remote may take to answer."""
HISTORY = 200_000
"""How many commits are searched for an ancestor."""
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
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"),
    *("DBUS_SESSION_BUS_ADDRESS", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"),
    *("GITHUB_TOKEN", "GH_TOKEN"),
)
"""What git gets of the environment: nothing that tells it where to go or whom to trust."""
_CREDENTIALS = r"^credential\.(.*\.)?(helper|username|usehttppath)$"
_NO_REPOSITORY = {"GIT_DIR": os.devnull}
"""Without it git looks for a repository, and its configuration, around the folder it runs in."""
_TOKEN_HELPER = '!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f'
# What a checkout has besides its commit: caches, records, and what Daybook generates.
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
    """An object is missing, or is not what its id says."""


@dataclass(frozen=True)
class Commit:
    """A commit of a remote. branch: the remote's default branch, which has it or leads to it."""

    id: str
    branch: str = ""


@dataclass(frozen=True)
class Objects:
    """Objects of a clone, each verified by its hash."""

    process: subprocess.Popen

    def read(self, id: str, kind: str) -> bytes:
        """Return an object's content; Unreadable when there is none with this id and kind."""
        if not _ID.fullmatch(id):
            raise Unreadable(f"{id!r} is no object id")
        self.process.stdin.write(f"{id}\n".encode())
        self.process.stdin.flush()
        header = self.process.stdout.readline().split()
        if len(header) != 3:
            raise Unreadable(f"{kind} {id} is missing")
        content = self.process.stdout.read(int(header[2]))
        self.process.stdout.read(1)
        if header[1].decode() != kind or _hash(kind, content, id) != id:
            raise Unreadable(f"{kind} {id} is not what its id says")
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
        rest, size, found = self.read(tree, "tree"), len(tree) // 2, {}
        while rest:
            head, rest = rest.split(b"\0", 1)
            mode, name = head.split(b" ", 1)
            found[os.fsdecode(name)] = (mode, rest[:size].hex())
            rest = rest[size:]
        return found


@contextmanager
def objects(root: Path) -> Iterator[Objects]:
    """Open the objects of the checkout at root."""
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
    """Return the commit that is checked out at root; "" where there is none, or no git."""
    if not (root / ".git").exists():
        return ""
    said = _ask(["-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"])
    return said if _ID.fullmatch(said) else ""


def branch(root: Path) -> str:
    """Return the branch that is checked out at root, `(detached)` where it is none."""
    if not head(root):
        return ""
    return _ask(["-C", str(root), "symbolic-ref", "--short", "--quiet", "HEAD"]) or "(detached)"


def read(root: Path, commit: str, path: str) -> bytes:
    """Return a file's content in a commit; FileNotFoundError when the commit has no such file."""
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


def listed(root: Path, commit: str, folder: str) -> list[str]:
    """Return the names in a folder of a commit; [] where it has no such folder at its top."""
    with objects(root) as stored:
        mode, tree = stored.entries(stored.tree_of(commit)).get(folder, (b"", ""))
        return sorted(stored.entries(tree)) if mode == FOLDER else []


def leads_to(root: Path, tip: str, commit: str) -> bool:
    """Tell whether `commit` is `tip` or an ancestor of it.

    Raises Unreadable when the clone has not enough of the history to tell.
    """
    with objects(root) as stored:
        known, queue, missing = {tip}, [tip], None
        while queue and len(known) < HISTORY:
            if commit in known:
                return True
            level, queue = queue, []
            for each in level:
                try:
                    new = [parent for parent in stored.parents_of(each) if parent not in known]
                except Unreadable as err:
                    missing = err
                    continue
                known.update(new)
                queue += new
        if missing:
            raise missing
        return commit in known


def differences(root: Path, commit: str) -> list[str]:
    """Return where the files at root differ from a commit: `["changed: lib/daybook/aws.py"]`.

    Every file of the commit is compared by type, mode and bytes; every other file is named unless
    it is known to be generated. Compiled Python must be of the source beside it, and this Python
    must be one that runs no other.
    """
    with objects(root) as stored:
        found = sorted(_differences(stored, root, stored.tree_of(commit), ""))
    return [*_other_compiled(), *found]


def tip(url: str, root: Path, *, key: Path | None = None) -> Commit:
    """Ask the server of a URL for the newest commit of its default branch.

    root: the checkout; where it uses SSH for this very repository, so does this. key: a private
    SSH key to offer. Raises PreflightFailed when there is no answer.
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
        said, problem = done.stdout.decode("ascii", "replace"), _last_line(done.stderr)
    except subprocess.TimeoutExpired:
        said, problem = "", f"no answer in {ANSWER_S} s"
    except OSError as err:
        said, problem = "", f"git: {err.strerror}"
    branch = re.search(r"^ref: refs/heads/([\w./-]+)\tHEAD$", said, re.M)
    found = re.search(r"^([0-9a-f]{40,64})\tHEAD$", said, re.M)
    if not found or not _ID.fullmatch(found[1]):
        raise PreflightFailed(
            "The reviewed branch cannot be looked up.",
            expected=f"an answer of {url}",
            observed=problem or "no commits",
            next="try again when it answers: git ls-remote " + url,
        )
    return Commit(found[1], branch[1] if branch else "")


def require_url(url: str) -> None:
    """Raise PreflightFailed for anything but a plain https, ssh or file URL."""
    if not _URL.fullmatch(url) or "/../" in url or url.endswith("/.."):
        raise PreflightFailed(
            "The URL of the reviewed repository cannot be used.",
            expected="https://, ssh:// or file://, without a password",
            next="correct git_remote or github.repository in the settings, then bootstrap",
        )


def _differences(stored: Objects, root: Path, tree: str, at: str) -> Iterator[str]:
    entries = stored.entries(tree)
    with os.scandir(root / at) as listed:
        there = {each.name: each for each in listed}
    for name, (mode, id) in entries.items():
        path = f"{at}{name}"
        if name not in there:
            yield f"missing: {path}"
        elif mode != FOLDER:
            yield from () if _is_same(root / path, mode, id) else (f"changed: {path}",)
        elif there[name].is_dir(follow_symlinks=False):
            yield from _differences(stored, root, id, f"{path}/")
        else:
            yield f"changed: {path}"
    for name in there.keys() - entries.keys():
        yield from _extra(root, f"{at}{name}", there[name])


def _is_same(file: Path, mode: bytes, id: str) -> bool:
    """Compare one file with a blob; a submodule is never the same."""
    found = file.lstat().st_mode
    if mode == SYMLINK:
        return stat.S_ISLNK(found) and _hash("blob", os.fsencode(os.readlink(file)), id) == id
    if mode not in (PLAIN, EXECUTABLE) or not stat.S_ISREG(found):
        return False
    is_executable = bool(found & stat.S_IXUSR)
    return is_executable is (mode == EXECUTABLE) and _hash("blob", file.read_bytes(), id) == id


def _extra(root: Path, path: str, entry: os.DirEntry) -> Iterator[str]:
    """Name what no commit has, unless it is generated and cannot change what a step does."""
    is_folder = entry.is_dir(follow_symlinks=False)
    is_file = entry.is_file(follow_symlinks=False)
    if entry.name == "__pycache__" and is_folder and "/" in path:
        yield from _compiled(root, path)
    elif _INVENTORY.fullmatch(path) and is_file:
        # An executable inventory would be run by Ansible.
        yield from (f"executable: {path}",) if entry.stat().st_mode & 0o111 else ()
    elif _GENERATED.fullmatch(path) and (is_folder or is_file):
        return
    elif "/" in path or not _TOP.fullmatch(entry.name):
        yield f"not in the commit: {path}"


def _compiled(root: Path, folder: str) -> Iterator[str]:
    """Name compiled files that Python would run in place of a source that says something else."""
    tag = f".{sys.implementation.cache_tag}"
    for each in os.scandir(root / folder):
        stem, suffix = os.path.splitext(each.name)
        path = f"{folder}/{each.name}"
        if suffix != ".pyc" or not each.is_file(follow_symlinks=False):
            yield f"not in the commit: {path}"
        elif ".opt-" in stem:
            # What -O runs; it has no assertions, so it is not what the source says.
            yield f"compiled with -O: {path}"
        elif stem.endswith(tag):
            source = root / folder.removesuffix("__pycache__") / f"{stem.removesuffix(tag)}.py"
            if source.is_file() and not _is_compiled_from(Path(each.path), source):
                yield f"not compiled from its source: {path}"


def _other_compiled() -> Iterator[str]:
    """Say why this Python runs other compiled files than those beside the sources."""
    if sys.pycache_prefix:
        yield "PYTHONPYCACHEPREFIX is set: compiled Python comes from another folder"
    if sys.flags.optimize:
        yield "PYTHONOPTIMIZE or -O is set: Python leaves out the sources' assertions"


def _is_compiled_from(compiled: Path, source: Path) -> bool:
    """Tell whether a compiled file is of its source, or is one that Python would not load."""
    raw, there = compiled.read_bytes(), source.stat()
    if raw[:4] != importlib.util.MAGIC_NUMBER:
        return True
    age_and_size = int(there.st_mtime) & 0xFFFFFFFF, there.st_size & 0xFFFFFFFF
    if raw[4:8] == bytes(4) and age_and_size != (_number(raw[8:12]), _number(raw[12:16])):
        return True
    try:
        own = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
        return raw[4:8] == bytes(4) and marshal.loads(raw[16:]) == own
    except (ValueError, EOFError, TypeError, SyntaxError):
        return False


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _hash(kind: str, content: bytes, like: str) -> str:
    """Return git's id of an object, by the algorithm that another id of the repository has."""
    algorithm = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return algorithm(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()


def _transport(url: str, root: Path) -> str:
    """Return the URL, or the same repository by SSH where a remote of the checkout is so named.

    The remote's own URL is never used: it only tells which way this operator may read.
    """
    if not url.startswith("https://"):
        return url
    said = _ask(["-C", str(root), "config", "--get-regexp", r"^remote\..*\.url$"])
    for line in said.splitlines():
        remote = line.partition(" ")[2]
        scp = _SCP.fullmatch(remote)
        user, where = (scp[1] or "", f"{scp[2]}/{scp[3]}") if scp else _ssh_parts(remote)
        if where and _bare(where) == _bare(url.removeprefix("https://")):
            host, _, path = url.removeprefix("https://").partition("/")
            return f"ssh://{user or 'git@'}{host.partition(':')[0]}/{path}"
    return url


def _ssh_parts(remote: str) -> tuple[str, str]:
    found = re.fullmatch(r"ssh://([\w.-]+@)?([\w.-]+/[\w./~-]+)", remote, re.ASCII)
    return (found[1] or "", found[2]) if found else ("", "")


def _bare(where: str) -> str:
    return where.removesuffix("/").removesuffix(".git").lower()


def _ssh(key: Path | None) -> str:
    """Return the SSH command of a lookup: no configuration, no prompt, no unknown host."""
    strict = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10"
    own = f" -i '{key}'" if key and re.fullmatch(r"[\w./~-]+", str(key)) else ""
    return f"ssh -F none {strict}{own}"


def _environ() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    fixed = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0"}
    return kept | fixed


def _configured(url: str) -> dict[str, str]:
    """Return the whole configuration of a lookup: the operator's credential helpers alone."""
    # A value may have several lines: only -z tells where the next key begins.
    pairs = [
        tuple(entry.split("\n", 1))
        for scope in ("--system", "--global")
        for entry in _ask(["config", scope, "-z", "--get-regexp", _CREDENTIALS]).split("\0")
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


def _ask(words: list[str]) -> str:
    """Return what git prints; "" when it fails or is not there."""
    command = ["git", *words]
    try:
        done = subprocess.run(
            command, env=_environ(), stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").rstrip("\n") if done.returncode == 0 else ""


def _last_line(raw: bytes) -> str:
    lines = raw[-2000:].decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""
