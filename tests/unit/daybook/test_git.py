"""Proof that a checkout is a commit of the reviewed repository."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from daybook import git
from daybook.errors import PreflightFailed

FILES = {
    "ansible/inventories/.gitkeep": "",
    "environments/signers": "ann@example.com ssh-ed25519 AAAA\n",
    "environments/staging.yml": "app: hello\n",
    "lib/daybook/aws.py": "NAME = 'aws'\n",
    "notebooks/provision.ipynb": "{}\n",
    "terraform/environment/main.tf": "# main\n",
    "tools/check": "#!/bin/sh\n",
}


class Checkout:
    """A clone of the team's bare repository with one commit."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bare = folder / "checkout", folder / "team.git"
        self.url = self.bare.as_uri()
        self.root.mkdir()
        for name, text in FILES.items():
            self.write(name, text)
        (self.root / "tools/check").chmod(0o755)
        (self.root / "tools/latest").symlink_to("check")
        self.git("init", "--quiet", "--bare", "--initial-branch", "main", str(self.bare))
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("Begin")
        self.git("remote", "add", "origin", self.url)
        self.git("push", "--quiet", "--set-upstream", "origin", "main")

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def git(self, *args: str, folder: Path | None = None) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.test")
        command = ["git", "-C", str(folder or self.root), *who, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    @property
    def problems(self) -> list[str]:
        """Return why this is not the reviewed commit, or []."""
        own = git.head(self.root)
        try:
            tip = git.tip(self.url, self.root).id
            wrong = [] if git.is_ancestor(self.root, own, tip) else [f"{own} is not reviewed"]
            return wrong + git.differences(self.root, own)
        except (PreflightFailed, git.Unreadable) as err:
            return [str(err)]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Checkout:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Checkout(tmp_path)


def test_a_clone_of_the_reviewed_commit_passes(checkout):
    assert checkout.problems == []
    assert git.tip(checkout.url, checkout.root) == git.Commit(git.head(checkout.root), "main")
    assert git.read(checkout.root, git.head(checkout.root), "environments/signers") == (
        FILES["environments/signers"].encode()
    )


def test_an_older_reviewed_commit_passes(checkout):
    first = git.head(checkout.root)
    checkout.commit("Second")
    checkout.git("push", "--quiet")
    checkout.git("checkout", "--quiet", first)
    assert checkout.problems == []


def test_both_parents_of_a_merge_are_ancestors(checkout):
    checkout.git("checkout", "--quiet", "-b", "topic")
    topic = checkout.commit("Topic")
    checkout.git("checkout", "--quiet", "main")
    checkout.commit("Main")
    checkout.git("merge", "--quiet", "--no-edit", "topic")
    checkout.git("push", "--quiet", "origin", "main")
    checkout.git("checkout", "--quiet", topic)
    assert checkout.problems == []


def test_generated_files_are_not_differences(checkout):
    source = checkout.root / "lib/daybook/aws.py"
    py_compile.compile(str(source), doraise=True)
    for name in (
        "ansible/inventories/staging",
        "ansible/inventories/rehearsal-staging.known_hosts",
        "lib/daybook.egg-info/PKG-INFO",
        "notebooks/.ipynb_checkpoints/provision-checkpoint.ipynb",
        "runs/staging/1/journal.jsonl",
        "terraform/environment/.terraform/environment",
        "terraform/environment/errored.staging.tfstate",
        ".cache/terraform.rc",
    ):
        checkout.write(name, "")
    assert checkout.problems == []


def test_a_newer_remote_commit_requires_a_fetch(checkout, tmp_path):
    checkout.git("clone", "--quiet", str(checkout.bare), str(tmp_path / "other"))
    checkout.git("commit", "--allow-empty", "-m", "Theirs", folder=tmp_path / "other")
    checkout.git("push", "--quiet", folder=tmp_path / "other")
    assert "is missing" in checkout.problems[0]
    checkout.git("fetch", "--quiet")
    assert checkout.problems == []


def test_a_missing_path_raises(checkout):
    commit = git.head(checkout.root)
    for path in ("environments/none", "environments", "none/signers", "tools/latest"):
        with pytest.raises(FileNotFoundError):
            git.read(checkout.root, commit, path)
    with pytest.raises(git.Unreadable):
        git.read(checkout.root, "0" * 40, "environments/signers")


def test_a_folder_without_a_repository_has_no_commit(tmp_path):
    assert git.head(tmp_path) == ""
    with pytest.raises(git.Unreadable):
        git.differences(tmp_path, git.head(tmp_path))


# Attempts to disguise an unreviewed state as the reviewed one.


def remembered_ref(it: Checkout) -> None:
    it.git("update-ref", "refs/remotes/origin/main", it.commit("Mine"))


def own_repository(it: Checkout) -> None:
    own = it.bare.with_name("own.git")
    it.git("init", "--quiet", "--bare", str(own))
    it.git("remote", "set-url", "origin", str(own))
    it.commit("Mine")
    it.git("push", "--quiet", "origin", "main")


def another_branch(it: Checkout) -> None:
    it.commit("Mine")
    it.git("push", "--quiet", "origin", "main:topic")


def instead_of(it: Checkout) -> None:
    own = it.bare.with_name("own.git")
    it.git("clone", "--quiet", "--bare", str(it.bare), str(own))
    it.commit("Mine")
    it.git("push", "--quiet", str(own), "main")
    for scope in ("--local", "--global"):
        it.git("config", scope, f"url.{own.as_uri()}.insteadOf", it.url)


def environment_config(it: Checkout) -> None:
    instead_of(it)
    own = it.bare.with_name("own.git").as_uri()
    given = {"COUNT": "1", "KEY_0": f"url.{own}.insteadOf", "VALUE_0": it.url}
    os.environ |= {f"GIT_CONFIG_{name}": value for name, value in given.items()}
    os.environ |= {"GIT_DIR": str(it.bare), "GIT_WORK_TREE": str(it.bare.parent)}
    os.environ["GIT_CONFIG_PARAMETERS"] = f"'url.{own}.insteadof={it.url}'"


def replaced_commit(it: Checkout) -> None:
    reviewed, own = it.git("rev-parse", "HEAD"), it.commit("Mine")
    joined = it.git("commit-tree", "HEAD^{tree}", "-p", own, "-m", "Joined")
    it.git("replace", reviewed, joined)


def graft(it: Checkout) -> None:
    reviewed, own = it.git("rev-parse", "HEAD"), it.commit("Mine")
    (it.root / ".git/info").mkdir(exist_ok=True)
    (it.root / ".git/info/grafts").write_text(f"{reviewed} {own}\n")


def forged_commit(it: Checkout) -> None:
    """Store a commit with another parent under the reviewed commit's id."""
    reviewed, own = it.git("rev-parse", "HEAD"), it.commit("Mine")
    text = it.git("cat-file", "commit", reviewed)
    head, _, rest = text.partition("\n")
    forged = f"{head}\nparent {own}\n{rest}\n".encode()
    file = it.root / ".git/objects" / reviewed[:2] / reviewed[2:]
    file.chmod(0o644)
    file.write_bytes(zlib.compress(b"commit %d\0" % len(forged) + forged))


def forged_blob(it: Checkout) -> None:
    """Change a file, and store its new content under the reviewed id."""
    blob = it.git("rev-parse", "HEAD:environments/signers")
    it.write("environments/signers", "eve@example.com ssh-ed25519 AAAA\n")
    content = (it.root / "environments/signers").read_bytes()
    file = it.root / ".git/objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    file.write_bytes(zlib.compress(b"blob %d\0" % len(content) + content))


def assumed_unchanged(it: Checkout) -> None:
    it.git("update-index", "--assume-unchanged", "environments/signers")
    it.write("environments/signers", "eve@example.com ssh-ed25519 AAAA\n")


def skipped_worktree(it: Checkout) -> None:
    it.git("update-index", "--skip-worktree", "environments/staging.yml")
    it.write("environments/staging.yml", "app: other\n")


def sparse_checkout(it: Checkout) -> None:
    it.git("sparse-checkout", "set", "--no-cone", "/*", "!terraform")
    it.write("terraform/environment/main.tf", "# mine\n")


def excluded_file(it: Checkout) -> None:
    it.write("terraform/environment/evil.tf", "# mine\n")
    (it.root / ".git/info").mkdir(exist_ok=True)
    (it.root / ".git/info/exclude").write_text("evil.tf\n")


def excluded_by_configuration(it: Checkout) -> None:
    it.write("terraform/environment/evil_override.tf", "# mine\n")
    (it.root.parent / "ignored").write_text("*\n")
    it.git("config", "--global", "core.excludesFile", str(it.root.parent / "ignored"))


def untracked_and_excluded(it: Checkout) -> None:
    it.git("rm", "--quiet", "--cached", "environments/signers")
    it.write("environments/signers", "eve@example.com ssh-ed25519 AAAA\n")
    (it.root / ".git/info").mkdir(exist_ok=True)
    (it.root / ".git/info/exclude").write_text("signers\n")


def smudged(it: Checkout) -> None:
    (it.root / ".git/info").mkdir(exist_ok=True)
    (it.root / ".git/info/attributes").write_text("*.yml filter=own\n")
    it.git("config", "filter.own.clean", "sed s/other/hello/")
    it.write("environments/staging.yml", "app: other\n")


def file_monitor(it: Checkout) -> None:
    it.git("status")
    it.git("config", "core.fsmonitor", "true || echo")
    it.git("update-index", "--force-untracked-cache")
    it.write("lib/daybook/aws.py", "NAME = 'eve'\n")


def other_worktree(it: Checkout) -> None:
    elsewhere = it.root.with_name("elsewhere")
    shutil.copytree(it.root, elsewhere, ignore=shutil.ignore_patterns(".git"), symlinks=True)
    it.git("config", "core.worktree", str(elsewhere))
    (it.root / "lib/daybook/aws.py").write_text("NAME = 'eve'\n")


def linked_folder(it: Checkout) -> None:
    elsewhere = it.root.with_name("elsewhere")
    shutil.move(it.root / "lib", elsewhere)
    (it.root / "lib").symlink_to(elsewhere)


def linked_file(it: Checkout) -> None:
    elsewhere = it.root.with_name("signers")
    shutil.move(it.root / "environments/signers", elsewhere)
    (it.root / "environments/signers").symlink_to(elsewhere)


def changed_link(it: Checkout) -> None:
    (it.root / "tools/latest").unlink()
    (it.root / "tools/latest").symlink_to("/bin/true")


def ignored_mode(it: Checkout) -> None:
    it.git("config", "core.fileMode", "false")
    (it.root / "environments/signers").chmod(0o755)


def other_case(it: Checkout) -> None:
    it.git("config", "core.ignoreCase", "true")
    it.write("environments/Signers", "eve@example.com ssh-ed25519 AAAA\n")


def shadowing_module(it: Checkout) -> None:
    it.write("boto3.py", "import os\n")


def executable_inventory(it: Checkout) -> None:
    it.write("ansible/inventories/staging", "#!/bin/sh\n")
    (it.root / "ansible/inventories/staging").chmod(0o755)


def variables_beside_the_inventory(it: Checkout) -> None:
    it.write("ansible/inventories/group_vars/all.yml", "ansible_connection: local\n")


def nested_repository(it: Checkout) -> None:
    it.git("init", "--quiet", str(it.root / "terraform/environment/modules"))
    it.write("terraform/environment/modules/evil.tf", "# mine\n")


def stale_compiled(it: Checkout) -> None:
    """Leave a compiled file that matches the reviewed source by date and size."""
    source = it.root / "lib/daybook/aws.py"
    there = source.stat()
    code = marshal.dumps(compile("NAME = 'eve'\n", str(source), "exec"))
    stamp = int(there.st_mtime).to_bytes(4, "little") + there.st_size.to_bytes(4, "little")
    file = Path(importlib.util.cache_from_source(str(source)))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(importlib.util.MAGIC_NUMBER + bytes(4) + stamp + code)


def unchecked_compiled(it: Checkout) -> None:
    source = it.root / "lib/daybook/aws.py"
    evil = it.root.parent / "evil.py"
    evil.write_text("NAME = 'eve'\n")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compiled = importlib.util.cache_from_source(str(source))
    py_compile.compile(str(evil), compiled, str(source), invalidation_mode=unchecked)


def optimized_compiled(it: Checkout) -> None:
    """Leave a compiled file that Python uses for the reviewed source with -O."""
    stale_compiled(it)
    source = it.root / "lib/daybook/aws.py"
    file = Path(importlib.util.cache_from_source(str(source)))
    file.rename(importlib.util.cache_from_source(str(source), optimization=1))


def module_among_the_compiled(it: Checkout) -> None:
    it.write("lib/daybook/__pycache__/aws.so", "")


STATES = (
    *(remembered_ref, own_repository, another_branch, instead_of, environment_config),
    *(replaced_commit, graft, forged_commit, forged_blob, assumed_unchanged, skipped_worktree),
    *(sparse_checkout, excluded_file, excluded_by_configuration, untracked_and_excluded, smudged),
    *(file_monitor, other_worktree, linked_folder, linked_file, changed_link, ignored_mode),
    *(other_case, shadowing_module, executable_inventory, variables_beside_the_inventory),
    *(nested_repository, stale_compiled, unchecked_compiled, optimized_compiled),
    module_among_the_compiled,
)


@pytest.mark.attack("F4", "a checkout passes for the reviewed commit and is not")
@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_a_manipulated_checkout_is_detected(checkout, monkeypatch, make):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    make(checkout)
    assert checkout.problems, "it passes for reviewed"


@pytest.mark.attack("F4", "Python runs compiled files that are not beside their sources")
@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["-O"], {}),
        (["-OO"], {}),
        ([], {"PYTHONOPTIMIZE": "1"}),
        (["-X", "pycache_prefix={own}"], {}),
        ([], {"PYTHONPYCACHEPREFIX": "{own}"}),
    ],
)
def test_a_python_that_runs_other_compiled_files_is_reported(checkout, options, variables):
    ask = "import sys, pathlib; from daybook import git; r = pathlib.Path(sys.argv[1]); "
    ask += "print(git.differences(r, git.head(r)))"
    own = str(checkout.root.with_name("own"))
    done = subprocess.run(
        [sys.executable, *(each.format(own=own) for each in options), "-c", ask, checkout.root],
        env=os.environ | {name: value.format(own=own) for name, value in variables.items()},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "is set" in done.stdout


@pytest.mark.attack("F4", "a file of the reviewed commit is read changed")
def test_a_forged_object_is_rejected(checkout):
    forged_blob(checkout)
    with pytest.raises(git.Unreadable, match="does not match its id"):
        git.read(checkout.root, git.head(checkout.root), "environments/signers")


SCOPES = {
    "HOME": (".gitconfig", ".config/git/config"),
    "XDG_CONFIG_HOME": ("git/config",),
    "GIT_CONFIG": ("",),
    "GIT_CONFIG_GLOBAL": ("",),
    "GIT_CONFIG_SYSTEM": ("",),
    "GIT_DIR": (".git/config",),
    "GIT_COMMON_DIR": (".git/config",),
    "TMPDIR": (".git/config", "../.git/config", "../../.git/config"),
    "PWD": (".git/config", "../.git/config"),
}
"""Paths where git may look for configuration, relative to the value of a variable."""


@pytest.fixture
def own(checkout) -> str:
    """Return the URL of a repository with one more commit than the reviewed one."""
    bare = checkout.bare.with_name("own.git")
    checkout.git("clone", "--quiet", "--bare", str(checkout.bare), str(bare))
    checkout.commit("Mine")
    checkout.git("push", "--quiet", str(bare), "main")
    return bare.as_uri()


@pytest.mark.attack("F4", "git's own configuration says which commit was reviewed")
@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in SCOPES.items() for file in files]
)
def test_no_configuration_changes_the_answer(checkout, own, tmp_path, monkeypatch, name, file):
    expected, place = git.tip(checkout.url, checkout.root), tmp_path / "a" / "b" / "place"
    place.mkdir(parents=True)
    config = place / file if file else place.with_name("config")
    if config.parent.name == ".git":
        checkout.git("init", "--quiet", str(config.parent.parent))
    config.parent.mkdir(parents=True, exist_ok=True)
    checkout.git("config", "--file", str(config), f"url.{own}.insteadOf", checkout.url)
    inside = config.parent if file == ".git/config" and name.startswith("GIT_") else place
    monkeypatch.setenv(name, str(inside if file else config))
    monkeypatch.setattr("tempfile.tempdir", None)
    if name == "PWD":
        monkeypatch.chdir(place)
    assert git.tip(checkout.url, checkout.root) == expected


@pytest.mark.attack("F4", "a variable of git's says which commit was reviewed")
@pytest.mark.parametrize(
    "name",
    [
        *("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_SSH", "GIT_SSH_COMMAND"),
        *("GIT_PROXY_COMMAND", "GIT_EXEC_PATH", "GIT_NAMESPACE", "GIT_ALLOW_PROTOCOL"),
        *("GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_CEILING_DIRECTORIES", "GIT_TRACE"),
    ],
)
def test_no_variable_changes_the_answer(checkout, own, tmp_path, monkeypatch, name):
    expected = git.tip(checkout.url, checkout.root)
    values = {"GIT_CONFIG_PARAMETERS": f"'url.{own}.insteadof={checkout.url}'"}
    counted = {"GIT_CONFIG_COUNT": "1"}
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{own}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", checkout.url)
    monkeypatch.setenv(name, (values | counted).get(name, str(tmp_path)))
    assert git.tip(checkout.url, checkout.root) == expected


@pytest.mark.attack("F4", "a credential helper's second line says which commit was reviewed")
def test_a_value_with_several_lines_is_one_value(checkout, own):
    expected = git.tip(checkout.url, checkout.root)
    lines = f"store\nurl.{own}.insteadof {checkout.url}"
    checkout.git("config", "--global", "credential.helper", lines)
    assert git.tip(checkout.url, checkout.root) == expected
    assert lines in git._configured(checkout.url).values()


@pytest.mark.attack("F4", "the remote's URL runs a program or is an option")
@pytest.mark.parametrize(
    "url",
    [
        *(
            "ext::sh -c true",
            "--upload-pack=true",
            "-oProxyCommand=true",
            "ssh://-oProxyCommand=x/y",
        ),
        *("https://user:word@example.com/a", "http://example.com/a", "git://example.com/a"),
        *("", "/srv/git", "file://../x", "https://example.com/a\n", "https://example.com/a b"),
        *("https://example.com/../x", "fd::3", "https://ex\u0430mple.com/a"),
    ],
)
def test_an_unsafe_url_is_rejected(checkout, url):
    with pytest.raises(PreflightFailed, match="URL"):
        git.tip(url, checkout.root)


def test_no_answer_is_an_error(checkout):
    with pytest.raises(PreflightFailed, match="lookup of the reviewed branch failed"):
        git.tip(checkout.bare.with_name("gone.git").as_uri(), checkout.root)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("git@github.com:Octo-Org/hello.git", "ssh://git@github.com/octo-org/hello.git"),
        ("ssh://me@github.com/octo-org/hello", "ssh://me@github.com/octo-org/hello.git"),
        ("https://github.com/octo-org/hello.git", "https://github.com/octo-org/hello.git"),
        ("git@evil.example:octo-org/hello.git", "https://github.com/octo-org/hello.git"),
        ("git@github.com:eve/hello.git", "https://github.com/octo-org/hello.git"),
    ],
)
def test_a_remote_selects_only_the_transport(checkout, remote, expected):
    checkout.git("remote", "set-url", "origin", remote)
    url = "https://github.com/octo-org/hello.git"
    assert git._transport(url, checkout.root) == expected
