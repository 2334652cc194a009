"""Invalid arguments of `daybook`: exit code 2, one short error, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import nbformat
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from daybook import cli, settings
from daybook.errors import DaybookError
from daybook.headless import execution

CHECKOUT = Path(__file__).parents[3]
CODES = {0, 2, 3, 4, 5, 6, 7, 8, 130}
"""The documented exit codes; 1 is not one of them."""
INDEX = ("runs", "runs/.index.sqlite")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Return a project without a sandbox, in which no notebook is actually run."""
    root = tmp_path / "project"
    for name in ("notebooks", "runbooks", "environments"):
        shutil.copytree(CHECKOUT / name, root / name)
    (root / "terraform").mkdir()
    monkeypatch.setenv("DAYBOOK_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_close_stdin", lambda: None)
    monkeypatch.setattr(execution, "run", _only_read)
    return root


def _only_read(_notebook, parameters, *, root, quiet):
    settings.load(root, str(parameters.get("env", "staging")))
    return execution.Outcome(3, root)


@pytest.fixture
def daybook(root, monkeypatch, capfd):
    """Return a function that runs the command line and returns its exit code and output."""

    def call(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", *args])
        environ = dict(os.environ)
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            os.environ.clear()
            os.environ.update(environ)
        said = capfd.readouterr()
        return code, said.out + said.err

    return call


def files(root: Path) -> dict[str, bytes]:
    """Return all files except the index, which a search for a run creates."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else b""
        for name, path in found.items()
        if name not in INDEX and not name.startswith("runs/.index")
    }


LONG = "x" * 5_000
REFUSED = {
    "a time before all time": (("runs", "list", "--since", "99999999999d"), "is not a time"),
    "the year 1": (("runs", "list", "--since", "0001-01-01"), "is not a time"),
    "the year 9999": (("runs", "list", "--until", "9999-12-31T23:59:59"), "is not a time"),
    "Unicode digits of a time": (("runs", "list", "--since", "\u0661d"), "is not a time"),
    "a long operator": (("runs", "list", "--operator", "x" * 60_000), "at most 200 characters"),
    "a long reason": (("lock", "break", "staging", "--reason", LONG), "at most 500 characters"),
    "a value as a secret's name": (
        ("secrets", "set", "hunter2", "-e", "staging"),
        "not the name of a secret",
    ),
    "no runs": (("runs", "list", "-n", "0"), "is not in the range"),
    "more runs than there are numbers": (("runs", "list", "-n", "9" * 30), "is not in the range"),
    "an empty environment": (("runs", "list", "-e", ""), "the name of an environment"),
    "an empty step": (("runs", "search", "x", "-s", ""), "the name of a step"),
    "an empty run to show": (("runs", "show", ""), "a run's id"),
    "an empty run to open": (("runs", "open", ""), "a run's id"),
    "an empty run to verify": (("runs", "verify", ""), "a run's id"),
    "an empty run to compare": (("runs", "diff", "", "x"), "a run's id"),
    "an empty run to export": (("runs", "export", "", "-o", "x.tgz"), "a run's id"),
    "a wildcard": (("runs", "show", "%"), "a run's id"),
    "one run's path": (("runs", "show", "../../etc"), "a run's id"),
    "an export into no folder": (("runs", "export", "-o", "missing/x"), "cannot be written"),
    "an export into a file's folder": (("runs", "export", "-o", "/etc/passwd/x"), "cannot be"),
    "an export onto a folder": (("runs", "export", "-o", "."), "cannot be written"),
    "an export onto a device": (("runs", "export", "-o", "/dev/full"), "cannot be written"),
    "an export with a long name": (("runs", "export", "-o", LONG), "cannot be written"),
    "uploads of no environment": (("runs", "push", "-e", ""), "Unknown environment"),
    "a step of 5,000 characters": (("run", LONG), "No notebook is named"),
    "an empty step's name": (("run", ""), "No notebook is named"),
    "a step outside": (("run", "../environments/staging.yml"), "No notebook is named"),
    "a step by URL": (("run", "https://127.0.0.1/x.ipynb"), "No notebook is named"),
    "a step in a bucket": (("run", "s3://bucket/x.ipynb"), "No notebook is named"),
    "a step from standard input": (("run", "-"), "No notebook is named"),
    "an option as a step": (("run", "--", "-x"), "No notebook is named"),
    "a device as a step": (("run", "/dev/zero"), "No notebook is named"),
    "an environment outside": (("run", "provision", "-p", "env", "../x"), "Unknown environment"),
    "an empty one": (("run", "provision", "-p", "env", ""), "Unknown environment"),
    "an option as one": (("run", "provision", "-p", "env", "--help"), "Unknown environment"),
    "a command as one": (("run", "provision", "-p", "env", "$(id)"), "Unknown environment"),
    "a long one": (("run", "provision", "-p", "env", LONG), "text of at most 4,000"),
    "a line break in one": (("run", "provision", "-p", "env", "a\nb"), "Unknown environment"),
    "a date as one": (("run", "provision", "-y", "env: 2026-02-30"), "Unknown environment"),
    "a date with a strange offset": (
        ("run", "provision", "-y", "env: 2026-02-01T00:00:00+25:00"),
        "Unknown environment",
    ),
    "base 60": (("run", "provision", "-y", "env: 1:20"), "reads this as 80"),
    "an alias": (("run", "provision", "-y", "env: &a [*a]"), "anchors"),
    "deep YAML": (("run", "provision", "-y", "env: " + "[" * 5_000), "nested deeper"),
    "long YAML": (
        ("run", "provision", "-y", "env: " + "x" * 69_000),
        "larger than 64 KiB",
    ),
    "an object in YAML": (("run", "provision", "-y", "!!python/name:os.system"), "tags"),
    "a device of parameters": (("run", "provision", "-f", "/dev/zero"), "not a regular file"),
    "a folder of parameters": (("run", "provision", "-f", "/"), "directory"),
    "parameters by URL": (("run", "provision", "-f", "http://127.0.0.1/p.yml"), "cannot be read"),
    "a long file of parameters": (("run", "provision", "-f", LONG), "cannot be read"),
    "Unicode digits of a wait": (("run", "provision", "--wait", "\u0661s"), "is not a duration"),
    "a wait of years": (("run", "provision", "--wait", "99999h"), "is not a duration"),
    "an endless wait": (("run", "provision", "--wait", "9" * 5_000 + "s"), "is not a duration"),
    "nothing to resume": (("run", "provision", "--resume", ""), "a run's id"),
    "a wildcard to resume": (("run", "provision", "--resume", "%"), "a run's id"),
    "an argument of a megabyte": (("run", "provision", "-y", "x" * 2**20), "1,048,576 characters"),
    "bytes that are no text": (("run", "provision", "-p", "env", "a\udcff"), "not UTF-8"),
    "an escape sequence": (("run", "\x1b[2J"), "control characters"),
    "a long command": ((LONG,), "No such command"),
    "a long option": (("--" + LONG,), "No such option"),
    "no run to approve": (("approve", ""), "a run's id"),
    "a path to approve": (("approve", "../../locks/x"), "a run's id"),
    "a key that is not there": (("approve", "x", "--key", "missing"), "does not exist"),
    "a folder as a key": (("approve", "x", "--key", "/"), "is a directory"),
    "an empty environment to check": (("env", "check", ""), "the name of an environment"),
    "a path to check": (("env", "check", "../x"), "the name of an environment"),
    "an environment's name that is an option": (("env", "new", "--", "-x"), "is not a valid env"),
    "a path as a new environment": (("env", "new", "../x"), "is not a valid environment name"),
    "a long new environment": (("env", "new", LONG), "is not a valid environment name"),
    "Unicode digits in a new one": (
        ("env", "new", "demo\u0661"),
        "is not a valid environment name",
    ),
    "a new one after nothing": (("env", "new", "demo", "--from", ""), "Unknown environment"),
    "variables of nothing": (("env", "export", ""), "Unknown environment"),
    "a lock of nothing": (("lock", "show", ""), "Unknown environment"),
    "a lock outside": (("lock", "show", "../x"), "Unknown environment"),
    "a reason of blanks": (("lock", "break", "staging", "--reason", " "), "requires a reason"),
    "an empty release": (("release", "show", "staging", ""), "a release's id"),
    "an empty release to compare": (("release", "diff", "staging", "", ""), "a release's id"),
    "releases of nothing": (("release", "list", ""), "Unknown environment"),
    "the history of a command": (
        ("secrets", "history", "$(id)", "-e", "staging"),
        "uppercase name",
    ),
    "the history of two lines": (("secrets", "history", "A\nB", "-e", "staging"), "uppercase name"),
    "the history of nothing": (("secrets", "history", "", "-e", "staging"), "uppercase name"),
    "the history of an option": (
        ("secrets", "history", "-e", "staging", "--", "-x"),
        "uppercase name",
    ),
    "unsetting a path": (("secrets", "unset", "../X", "-e", "staging"), "uppercase name"),
    "unsetting a long name": (("secrets", "unset", "A" * 5_000, "-e", "staging"), "uppercase name"),
    "unsetting Unicode": (("secrets", "unset", "\u0410", "-e", "staging"), "uppercase name"),
    "secrets of nothing": (("secrets", "list", "-e", ""), "Unknown environment"),
    "secrets from a folder": (("secrets", "import", "/", "-e", "staging"), "directory"),
    "secrets without end": (("secrets", "import", "/dev/zero", "-e", "staging"), "at most"),
    "a workflow in no folder": (("github", "workflow", "staging", "missing"), "not exist"),
    "a key in no folder": (
        ("github", "identity", "staging", "missing/x"),
        "cannot be written",
    ),
    "a key that would replace a file": (
        ("github", "identity", "staging", str(CHECKOUT / "README.md")),
        "already exists",
    ),
}


@pytest.mark.attack("F13", "an argument with a traceback, or one that means something else")
@pytest.mark.parametrize(("args", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_argument_is_one_error_and_changes_nothing(daybook, root, args, problem):
    before = files(root)
    begun = time.process_time()
    code, said = daybook(*args)
    assert (code, "Traceback" in said) == (2, False), said
    assert problem in " ".join(said.split())
    assert len(said) < 3_000
    assert "\x1b[2J" not in said
    assert files(root) == before
    assert time.process_time() - begun < 2


COMMANDS = [
    ("run", "{}"),
    ("run", "provision", "-p", "{}", "{}"),
    ("run", "provision", "-p", "env", "{}"),
    ("run", "provision", "-p", "rehearse", "{}"),
    ("run", "provision", "-r", "approve", "{}"),
    ("run", "provision", "-y", "{}"),
    ("run", "provision", "-y", "env: {}"),
    ("run", "provision", "-f", "{}"),
    ("run", "provision", "--wait", "{}"),
    ("run", "provision", "--resume", "{}"),
    ("run", "provision", "--override-freeze", "{}"),
    ("runs", "list", "--since", "{}", "--until", "{}"),
    ("runs", "list", "-e", "{}", "-s", "{}", "--status", "{}"),
    ("runs", "list", "--operator", "{}", "-n", "{}"),
    ("runs", "search", "{}", "{}"),
    ("runs", "show", "{}"),
    ("runs", "open", "{}"),
    ("runs", "diff", "{}", "{}"),
    ("runs", "verify", "{}"),
    ("runs", "push", "-e", "{}"),
    ("runs", "export", "{}", "-o", "missing/x"),
    ("approve", "{}", "--decline", "{}"),
    ("approve", "{}", "--key", "{}"),
    ("env", "check", "{}"),
    ("env", "new", "{}", "--from", "{}"),
    ("env", "export", "{}"),
    ("lock", "show", "{}"),
    ("lock", "break", "{}", "--reason", "{}"),
    ("release", "list", "{}"),
    ("release", "current", "{}"),
    ("release", "show", "{}", "{}"),
    ("release", "diff", "staging", "{}", "{}"),
    ("secrets", "list", "-e", "{}"),
    ("secrets", "set", "{}", "-e", "{}", "-f", "/dev/null"),
    ("secrets", "unset", "{}", "-e", "staging"),
    ("secrets", "history", "{}", "-e", "{}"),
    ("secrets", "diff", "{}", "{}"),
    ("github", "runners", "{}"),
    ("github", "workflow", "{}", "{}"),
    ("sandbox", "ssh", "{}"),
    ("{}",),
    ("{}", "{}"),
]
WORDS = st.sampled_from(
    [
        *("", " ", "-", "--", "-x", "--help", "../x", "/", ".", "..", "~", "/dev/zero", "$(id)"),
        *("`id`", "a\nb", "\x1b[2J", "\x00", "\udcff", "\u202e", "\u0661", "%", "_", "*", "'", '"'),
        *(
            "\\",
            "x" * 5_000,
            "9" * 400,
            "-1",
            "1e400",
            "nan",
            "9999999d",
            "0001-01-01",
            "9999-12-31",
        ),
        *(
            "2026-02-30",
            "true",
            "null",
            "staging",
            "stagin",
            "all",
            "account",
            "provision",
            "A" * 64,
        ),
        *("[" * 200, "{a: &a [*a]}", "a: !!python/name:os.system", "s3://b/x.ipynb", "x.ipynb"),
    ]
)


@how(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=250)
@given(command=st.sampled_from(COMMANDS), words=st.lists(WORDS | st.text(max_size=12), min_size=2))
def test_random_arguments_end_with_a_code_and_change_nothing(daybook, root, command, words):
    before = files(root)
    given_words = iter(words * 3)
    args = [part.format(next(given_words)) if "{}" in part else part for part in command]
    code, said = daybook(*(arg.replace("\0", "") for arg in args))
    assert code in CODES
    assert "Traceback" not in said
    assert len(said) < 10_000
    assert "\x1b[2J" not in said
    if code:
        assert files(root) == before
    else:  # `env new` with a valid name may create files.
        shutil.rmtree(root / "runs", ignore_errors=True)
        for path in set(files(root)) - set(before):
            (root / path).unlink()


@pytest.mark.attack("F13", "a file that is not a notebook")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"cells": 1}',
        b'{"cells": [1]}',
        b"[" * 100_000,
        b"0" * 9_000_000,
    ],
)
def test_a_file_that_is_not_a_notebook_is_refused(daybook, root, content):
    (root / "notebooks/broken.ipynb").write_bytes(content)
    code, said = daybook("run", "broken")
    assert (code, "cannot be read" in said) == (2, True), said
    assert len(said) < 1_000


@pytest.mark.attack("F13", "a notebook's name that puts a record elsewhere")
@pytest.mark.parametrize("name", ["$(id)", "a b", "-x", "x" * 80, "a\udcffb"])
def test_a_notebooks_name_must_be_valid_for_a_record(daybook, tmp_path, name):
    notebook = nbformat.v4.new_notebook(cells=[])
    path = tmp_path / f"{name}.ipynb"
    with open(os.fsencode(path), "w") as file:
        nbformat.write(notebook, file)
    code, said = daybook("run", str(path))
    assert code == 2
    assert "Traceback" not in said


def test_the_command_refuses_bytes_that_are_not_text(root):
    """A real process gets its arguments as bytes, which Python decodes to surrogates."""
    program = Path(sys.executable).with_name("daybook")
    done = subprocess.run(
        [os.fsencode(program), b"run", b"\xff\xfe"],
        env=os.environ | {"DAYBOOK_ROOT": str(root)},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"Argument 2 is not UTF-8 text" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.attack("F12", "another environment's broken settings")
@pytest.mark.parametrize("raw", [b"a: &a [*a]", b"[" * 1_000, b"\0", b"# x\n" * 10**6])
def test_invalid_settings_of_another_environment_are_named_and_ignored(daybook, root, raw):
    (root / "environments/production.yml").write_bytes(raw)
    (root / "ansible").mkdir()
    (root / "ansible/staging.yml").touch()
    code, said = daybook("env", "check", "production")
    assert (code, "environments/production.yml:" in said) == (2, True)
    code, said = daybook("run", "provision", "-p", "env", "staging")
    assert (code, said) == (3, "")


def test_every_command_that_takes_an_argument_is_attacked():
    """A new command must be added to COMMANDS above, which attack its arguments."""

    def commands(group: click.Group, at: tuple[str, ...] = ()):
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            if isinstance(command, click.Group):
                yield from commands(command, (*at, name))
            else:
                yield (*at, name), command

    taking = {
        " ".join(path)
        for path, command in commands(cli.daybook)
        if any(isinstance(each, click.Argument) for each in command.params)
    }
    attacked = {" ".join(path.split()[:2]) for path in taking}
    covered = {" ".join(command[:n]) for command in COMMANDS for n in (1, 2)}
    left_out = {"github identity", "github key", "github token", "secrets import"}
    assert attacked - covered - left_out == set()


def test_help_without_a_subcommand_is_complete(daybook):
    code, said = daybook("runs")
    assert (code, "  verify " in said) == (2, True)


def test_an_error_of_any_size_is_bounded_and_printable():
    error = DaybookError("x" * 10_000, observed="\x1b[2Jgone\r\u202e", next="a\nb")
    text = str(error)
    assert len(text) < 3_000
    assert r"\x1b[2Jgone\r\u202e" in text
    assert json.dumps(text)
