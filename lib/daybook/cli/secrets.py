"""`daybook secrets`: an environment's secrets; their values go in and are never shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from daybook import settings, ui
from daybook.cli import arguments, common, env_file
from daybook.environment import Environment
from daybook.errors import NOTHING_CHANGED, CommandFailed, SettingsError, status_of
from daybook.lock.environment_lock import EnvironmentLock
from daybook.record import provenance
from daybook.run import Run
from daybook.secrets import LIMIT_BYTES, Store, Version, problem_of
from daybook.settings.types import MAX_SECRETS

IMPORT_BYTES = 2 * MAX_SECRETS * LIMIT_BYTES
"""The most that `import` reads: every secret at its longest, and comments."""
NO_ARGUMENT = "A value is never an argument: it would stay in the shell's history."
_SET = ui.good("set")


@dataclass(frozen=True)
class _Scope:
    """The secrets of an environment: those that its settings declare, and their values."""

    environment: Environment
    rehearse: bool
    store: Store

    @classmethod
    def of(cls, env: str, *, rehearse: bool) -> _Scope:
        """Load the environment; PreflightFailed unless its target answers."""
        environment = common.reachable(env, rehearse=rehearse)
        return cls(environment, rehearse, Store(environment))

    @property
    def declared(self) -> Mapping[str, str]:
        """Return the declared names, and what each is for."""
        return self.environment.settings.secrets

    def require_declared(self, names: list[str]) -> None:
        """Raise SettingsError with every name that the settings do not declare."""
        env, declared = self.environment.name, list(self.declared)
        hints = {
            name: settings.nearest_hint(name, declared) for name in names if name not in declared
        }
        if hints:
            raise SettingsError(
                f"{env} has no secret of this name.",
                details=[name + (f": {hint}" if hint else "") for name, hint in hints.items()],
                expected=", ".join(declared) or "a name in the settings, which have none yet",
                next=f"declare it under `secrets` in environments/{env}.yml",
            )

    @contextmanager
    def recorded(self, what: str, names: list[str]) -> Iterator[Run]:
        """Hold the environment's lock meanwhile, and leave a record of the change."""
        parameters = {"rehearse": self.rehearse, "names": ", ".join(names)}
        run = Run.begin(f"secrets-{what}", self.environment, parameters=parameters)
        try:
            with EnvironmentLock(run, self.environment.name).acquire():
                yield run
        except BaseException as err:
            run.recorder.close(status_of(type(err).__name__), str(err))
            raise


@click.group()
def secrets() -> None:
    """Set an environment's secrets; see their age, version and author, never their values."""


@secrets.command("list")
@common.on_environment
@common.as_json
def list_(env: str, rehearse: bool, as_json: bool) -> None:
    """List what is declared in the settings and what has a value."""
    scope = _Scope.of(env, rehearse=rehearse)
    declared, found = scope.declared, scope.store.current()
    names = sorted(declared.keys() | found.keys())
    if as_json:
        common.print_json([_facts(name, declared, found.get(name)) for name in names])
        return
    rows = [
        (_state(name, declared, found), name, declared.get(name, ""), *_told(found.get(name)))
        for name in names
    ]
    columns = ("status", "name", "what for", "version", "age", "set by")
    click.echo(ui.text(ui.Table(f"{len(rows)} secrets of {env}", columns, rows)))


@secrets.command("set")
@click.argument("name")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("-f", "--file", type=click.File("rb"), help="Read the value there; - is stdin.")
@common.on_environment
def set_(name: str, more: tuple[str, ...], file: Any, env: str, rehearse: bool) -> None:
    """Set NAME to a value that is asked for, or read from a file or from stdin.

    One line break at the end is not part of it. The application gets it with the next release.
    """
    name, is_given, _ = name.partition("=")
    if more or is_given:
        raise SettingsError(
            NO_ARGUMENT,
            next=f"take the value for spoilt; then: daybook secrets set {name} -e {env}",
        )
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name):
        # Not repeated: it may be the value.
        raise SettingsError(
            "This can be no secret's name.", expected=arguments.SECRET.expected, next="name one"
        )
    scope = _Scope.of(env, rehearse=rehearse)
    scope.require_declared([name])
    _put(scope, "set", {name: _read_value(name, file)})


@secrets.command("import")
@click.argument("file", type=click.File("rb"))
@common.on_environment
def import_(file: BinaryIO, env: str, rehearse: bool) -> None:
    """Set every secret that FILE has, as NAME=value lines; - is stdin."""
    source = Path(str(getattr(file, "name", "stdin"))).name
    values = env_file.parse(_read_text(file, source, IMPORT_BYTES), source)
    scope = _Scope.of(env, rehearse=rehearse)
    scope.require_declared(list(values))
    _put(scope, "import", values)


@secrets.command()
@click.argument("name", type=arguments.SECRET)
@common.on_environment
def unset(name: str, env: str, rehearse: bool) -> None:
    """Remove the value of NAME and its history; there is no way back."""
    scope = _Scope.of(env, rehearse=rehearse)
    if not scope.store.history(name):
        click.echo(ui.text(ui.Notice(f"No changes: {name} has no value", ui.OK)))
        return
    if sys.stdin.isatty():
        click.confirm(f"Remove {name} of {env} and its history?", abort=True)
    with scope.recorded("unset", [name]) as run:
        scope.store.delete(name)
        run.write("change", tool="daybook", action="removed", what=f"{scope.store.path}/{name}")
    lines = (f"Next: take it out of environments/{env}.yml, or set it again",)
    click.echo(ui.text(ui.Notice(f"{name} has no value", ui.good("removed"), lines)))
    click.echo(ui.text(run.finish(f"daybook secrets list -e {env}")))


@secrets.command()
@click.argument("before")
@click.argument("after")
@common.rehearse
@common.as_json
def diff(before: str, after: str, rehearse: bool, as_json: bool) -> None:
    """Compare two environments: what one has and the other lacks, and what both share."""
    one, other = (_Scope.of(env, rehearse=rehearse) for env in (before, after))
    mine, theirs = one.store.values(), other.store.values()
    declared = one.declared.keys() | other.declared.keys()
    names = sorted(declared | mine.keys() | theirs.keys())
    compared = {name: _compare(mine.get(name), theirs.get(name)) for name in names}
    if as_json:
        common.print_json({name: status.word for name, status in compared.items()})
        return
    versions_of = one.store.current(), other.store.current()
    rows = [
        (status, name, *(_brief(versions.get(name)) for versions in versions_of))
        for name, status in compared.items()
    ]
    click.echo(ui.text(ui.Table(f"{before} and {after}", ("", "name", before, after), rows)))


@secrets.command()
@click.argument("name", type=arguments.SECRET)
@common.on_environment
@common.as_json
def history(name: str, env: str, rehearse: bool, as_json: bool) -> None:
    """Show the versions of NAME: when each was set, and by whom."""
    versions = _Scope.of(env, rehearse=rehearse).store.history(name)
    if as_json:
        common.print_json([_version_facts(version) for version in versions])
        return
    rows = [
        (*_told(version), f"{version.changed:%Y-%m-%d %H:%M:%S %Z}", _use(version))
        for version in versions
    ]
    columns = ("version", "age", "set by", "when", "")
    click.echo(ui.text(ui.Table(f"{name} of {env}: {len(rows)} versions", columns, rows)))


def _read_value(name: str, file: Any) -> str:
    """Read a value where nobody else reads it: a file, a pipe, or typed twice and not shown."""
    source = file or (None if sys.stdin.isatty() else sys.stdin.buffer)
    if source is None:
        return click.prompt(name, hide_input=True, confirmation_prompt=True)
    # What is too long for the store is refused there, with its length.
    text = _read_text(source, f"The value of {name}", 16 * LIMIT_BYTES)
    return text.removesuffix("\n").removesuffix("\r")


def _read_text(file: BinaryIO, what: str, max_bytes: int) -> str:
    """Read to the end, or raise SettingsError where there is none, or no text."""
    raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise SettingsError(
            f"{what} cannot be read.",
            expected=f"at most {max_bytes // 1024} KiB",
            observed="more",
            next="look which file or pipe it comes from",
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise SettingsError(
            f"{what} cannot be read.",
            expected="UTF-8 text",
            next="encode it first, for example with base64",
        ) from None


def _put(scope: _Scope, what: str, values: Mapping[str, str]) -> None:
    """Set what is not so already; one value after the other, each recorded when it is set."""
    _require_fit(values)
    with scope.recorded(what, sorted(values)) as run:
        for name, value in values.items():
            run.recorder.redactor.add(name, value)
        rows: list[tuple[ui.Status, str, str]] = []
        for name, value in sorted(values.items()):
            with _telling(rows):
                rows.append(_put_one(scope, run, name, value))
    click.echo(ui.text(ui.Table(run.title, ("status", "name", "version"), rows)))
    click.echo(ui.text(run.finish(f"daybook secrets list -e {scope.environment.name}")))


@contextmanager
def _telling(rows: list[tuple[ui.Status, str, str]]) -> Iterator[None]:
    """Let an error say what was set before it."""
    try:
        yield
    except CommandFailed as err:
        done = [name for status, name, _ in rows if status == _SET]
        if done:
            unsure = "" if err.changed == NOTHING_CHANGED else f" {err.changed}"
            err.changed = f"Set before: {', '.join(done)}.{unsure}"
        raise


def _put_one(scope: _Scope, run: Run, name: str, value: str) -> tuple[ui.Status, str, str]:
    if scope.store.holds(name, value):
        return ui.quiet("no change"), name, "has this value already"
    number = scope.store.put(name, value, _note(run))
    address = f"{scope.store.path}/{name} version {number}"
    run.write("change", tool="daybook", action="set", what=address)
    return _SET, name, str(number)


def _require_fit(values: Mapping[str, str]) -> None:
    problems = {name: problem_of(value) for name, value in values.items()}
    wrong = [f"{name} {problem}" for name, problem in problems.items() if problem]
    if wrong:
        raise SettingsError("Not every value can be kept.", details=wrong, next="give another")


def _note(run: Run) -> str:
    return f"{provenance.person(run.root)}; {run.id}"


def _state(name: str, declared: Mapping, found: Mapping) -> ui.Status:
    if name not in found:
        return ui.bad("no value")
    return _SET if name in declared else ui.warn("not declared")


def _compare(mine: str | None, theirs: str | None) -> ui.Status:
    if mine is None or theirs is None:
        return ui.quiet("in neither") if mine == theirs else ui.bad("in one only")
    return ui.warn("same value") if mine == theirs else ui.good("own values")


def _told(version: Version | None) -> tuple[str, str, str]:
    return (str(version.number), _age(version), version.author) if version else ("", "", "")


def _use(version: Version) -> str:
    return "retired" if version.is_retired else ""


def _brief(version: Version | None) -> str:
    return f"version {version.number}, {_age(version)}" if version else "no value"


def _age(version: Version) -> str:
    """Say how old a value is: `12 s`, `5 min`, `3 h`, `40 days`."""
    seconds = max(0.0, (datetime.now(UTC) - version.changed).total_seconds())
    for unit, size, below in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < size * below:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _facts(name: str, declared: Mapping[str, str], version: Version | None) -> dict[str, Any]:
    said = _version_facts(version) if version else {"name": name}
    return said | {"purpose": declared.get(name), "is_set": version is not None}


def _version_facts(version: Version) -> dict[str, Any]:
    return asdict(version) | {"changed": version.changed.isoformat()}
