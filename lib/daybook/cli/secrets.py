"""`daybook secrets`: set an environment's secrets; their values are never shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
from daybook.ui import formats

IMPORT_BYTES = 2 * MAX_SECRETS * LIMIT_BYTES
"""How many bytes `import` reads: every secret at its maximum length, and comments."""
NO_ARGUMENT = "A secret cannot be passed as an argument: it would stay in the shell's history."
_SET = ui.good("set")


@dataclass(frozen=True)
class _Scope:
    """The declared secrets of an environment, and their values."""

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
        """Return the declared names and their purposes."""
        return self.environment.settings.secrets

    def require_declared(self, names: list[str]) -> None:
        """Raise SettingsError with every name that the settings do not declare."""
        env, declared = self.environment.name, list(self.declared)
        hints = {
            name: settings.nearest_hint(name, declared) for name in names if name not in declared
        }
        if hints:
            raise SettingsError(
                f"{env} does not declare a secret with this name.",
                details=[name + (f": {hint}" if hint else "") for name, hint in hints.items()],
                expected=", ".join(declared) or "a declared name; the settings have none yet",
                next=f"declare it under `secrets` in environments/{env}.yml",
            )

    @contextmanager
    def recorded(self, command: str, names: list[str]) -> Iterator[Run]:
        """Record the change as a run that holds the environment's lock."""
        parameters = {"rehearse": self.rehearse, "names": ", ".join(names)}
        run = Run.begin(f"secrets-{command}", self.environment, parameters=parameters)
        try:
            with EnvironmentLock(run, self.environment.name).acquire():
                yield run
        except BaseException as err:
            run.recorder.close(status_of(type(err).__name__), str(err))
            raise


@click.group()
def secrets() -> None:
    """Set an environment's secrets; show their age, version and author, never their values."""


@secrets.command("list")
@common.on_environment
@common.as_json
def list_(env: str, rehearse: bool, as_json: bool) -> None:
    """List the secrets that are declared in the settings or have a value."""
    scope = _Scope.of(env, rehearse=rehearse)
    declared, stored = scope.declared, scope.store.current()
    names = sorted(declared.keys() | stored.keys())
    if as_json:
        common.print_json([_facts(name, declared, stored.get(name)) for name in names])
        return
    rows = [
        (_status(name, declared, stored), name, declared.get(name, ""), *_cells(stored.get(name)))
        for name in names
    ]
    columns = ("status", "name", "purpose", "version", "age", "set by")
    click.echo(ui.text(ui.Table(f"{len(rows)} secrets of {env}", columns, rows)))


@secrets.command("set")
@click.argument("name")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("-f", "--file", type=click.File("rb"), help="Read the value from a file; - is stdin.")
@common.on_environment
def set_(name: str, more: tuple[str, ...], file: Any, env: str, rehearse: bool) -> None:
    """Set NAME to a value from a prompt, a file or stdin.

    One line break at the end is removed. The application gets the value with the next release.
    """
    name, is_given, _ = name.partition("=")
    if more or is_given:
        raise SettingsError(
            NO_ARGUMENT,
            next="treat this value as compromised and replace it; then: "
            f"daybook secrets set {name} -e {env}",
        )
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name):
        # The argument is not shown, because it may be the value.
        raise SettingsError(
            "The first argument is not the name of a secret.",
            expected=arguments.SECRET.expected,
            next=f"daybook secrets set NAME -e {env}",
        )
    scope = _Scope.of(env, rehearse=rehearse)
    scope.require_declared([name])
    _put(scope, "set", {name: _read_value(name, file)})


@secrets.command("import")
@click.argument("file", type=click.File("rb"))
@common.on_environment
def import_(file: BinaryIO, env: str, rehearse: bool) -> None:
    """Set every secret in FILE, which has NAME=value lines; - is stdin."""
    source = Path(str(getattr(file, "name", "stdin"))).name
    values = env_file.parse(_read_text(file, source, IMPORT_BYTES), source)
    scope = _Scope.of(env, rehearse=rehearse)
    scope.require_declared(list(values))
    _put(scope, "import", values)


@secrets.command()
@click.argument("name", type=arguments.SECRET)
@common.on_environment
def unset(name: str, env: str, rehearse: bool) -> None:
    """Remove the value of NAME and its history; this cannot be undone."""
    scope = _Scope.of(env, rehearse=rehearse)
    if not scope.store.history(name):
        click.echo(ui.text(ui.Notice(f"No changes: {name} has no value", ui.OK)))
        return
    if sys.stdin.isatty():
        click.confirm(f"Remove {name} from {env}, with its history?", abort=True)
    with scope.recorded("unset", [name]) as run:
        scope.store.delete(name)
        run.write("change", tool="daybook", action="removed", what=f"{scope.store.path}/{name}")
    lines = (f"Next: remove it from environments/{env}.yml, or set it again",)
    click.echo(ui.text(ui.Notice(f"{name} has no value", ui.good("removed"), lines)))
    click.echo(ui.text(run.finish(f"daybook secrets list -e {env}")))


@secrets.command()
@click.argument("before")
@click.argument("after")
@common.rehearse
@common.as_json
def diff(before: str, after: str, rehearse: bool, as_json: bool) -> None:
    """Compare the secrets of two environments, which should not have the same values."""
    scopes = [_Scope.of(env, rehearse=rehearse) for env in (before, after)]
    first, second = (scope.store.values() for scope in scopes)
    declared = scopes[0].declared.keys() | scopes[1].declared.keys()
    names = sorted(declared | first.keys() | second.keys())
    compared = {name: _compare(first.get(name), second.get(name)) for name in names}
    if as_json:
        common.print_json({name: status.word for name, status in compared.items()})
        return
    versions = [scope.store.current() for scope in scopes]
    rows = [
        (status, name, *(_brief(current.get(name)) for current in versions))
        for name, status in compared.items()
    ]
    click.echo(ui.text(ui.Table(f"{before} and {after}", ("", "name", before, after), rows)))


@secrets.command()
@click.argument("name", type=arguments.SECRET)
@common.on_environment
@common.as_json
def history(name: str, env: str, rehearse: bool, as_json: bool) -> None:
    """Show the versions of NAME with their times and authors."""
    versions = _Scope.of(env, rehearse=rehearse).store.history(name)
    if as_json:
        common.print_json([_version_facts(version) for version in versions])
        return
    rows = [
        (*_cells(version), f"{version.changed:%Y-%m-%d %H:%M:%S %Z}", _use(version))
        for version in versions
    ]
    columns = ("version", "age", "set by", "when", "")
    click.echo(ui.text(ui.Table(f"{name} of {env}: {len(rows)} versions", columns, rows)))


def _read_value(name: str, file: Any) -> str:
    """Read a value from a file, from a pipe, or from a hidden prompt that asks for it twice."""
    source = file or (None if sys.stdin.isatty() else sys.stdin.buffer)
    if source is None:
        return click.prompt(name, hide_input=True, confirmation_prompt=True)
    # The store refuses a value that is too long, and shows its length.
    text = _read_text(source, f"The value of {name}", 16 * LIMIT_BYTES)
    return text.removesuffix("\n").removesuffix("\r")


def _read_text(file: BinaryIO, title: str, max_bytes: int) -> str:
    """Read a whole file; SettingsError if it is too long or not text."""
    raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise SettingsError(
            f"{title} cannot be read.",
            expected=f"at most {max_bytes // 1024} KiB",
            observed="more",
            next="check the file or pipe that it comes from",
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise SettingsError(
            f"{title} cannot be read.",
            expected="UTF-8 text",
            next="encode it first, for example with base64",
        ) from None


def _put(scope: _Scope, command: str, values: Mapping[str, str]) -> None:
    """Set the values that differ, one after the other; record each of them when it is set."""
    _require_valid(values)
    with scope.recorded(command, sorted(values)) as run:
        for name, value in values.items():
            run.recorder.redactor.add(name, value)
        rows: list[tuple[ui.Status, str, str]] = []
        for name, value in sorted(values.items()):
            with _adding_changes(rows):
                rows.append(_put_one(scope, run, name, value))
    click.echo(ui.text(ui.Table(run.title, ("status", "name", "version"), rows)))
    click.echo(ui.text(run.finish(f"daybook secrets list -e {scope.environment.name}")))


@contextmanager
def _adding_changes(rows: list[tuple[ui.Status, str, str]]) -> Iterator[None]:
    """Add the secrets that were already set to an error."""
    try:
        yield
    except CommandFailed as err:
        names = [name for status, name, _ in rows if status == _SET]
        if names:
            uncertain = "" if err.changed == NOTHING_CHANGED else f" {err.changed}"
            err.changed = f"Already set: {', '.join(names)}.{uncertain}"
        raise


def _put_one(scope: _Scope, run: Run, name: str, value: str) -> tuple[ui.Status, str, str]:
    if scope.store.holds(name, value):
        return ui.quiet("no change"), name, "already has this value"
    number = scope.store.put(name, value, _note(run))
    address = f"{scope.store.path}/{name} version {number}"
    run.write("change", tool="daybook", action="set", what=address)
    return _SET, name, str(number)


def _require_valid(values: Mapping[str, str]) -> None:
    problems = {name: problem_of(value) for name, value in values.items()}
    details = [f"{name} {problem}" for name, problem in problems.items() if problem]
    if details:
        raise SettingsError(
            "Some values cannot be stored.", details=details, next="use other values"
        )


def _note(run: Run) -> str:
    return f"{provenance.person(run.root)}; {run.id}"


def _status(name: str, declared: Mapping, stored: Mapping) -> ui.Status:
    if name not in stored:
        return ui.bad("no value")
    return _SET if name in declared else ui.warn("not declared")


def _compare(first: str | None, second: str | None) -> ui.Status:
    if first is None or second is None:
        return ui.quiet("in neither") if first == second else ui.bad("in one only")
    return ui.warn("same value") if first == second else ui.good("own values")


def _cells(version: Version | None) -> tuple[str, str, str]:
    return (
        (str(version.number), formats.age(version.changed), version.author)
        if version
        else ("", "", "")
    )


def _use(version: Version) -> str:
    return "retired" if version.is_retired else ""


def _brief(version: Version | None) -> str:
    return f"version {version.number}, {formats.age(version.changed)}" if version else "no value"


def _facts(name: str, declared: Mapping[str, str], version: Version | None) -> dict[str, Any]:
    facts = _version_facts(version) if version else {"name": name}
    return facts | {"purpose": declared.get(name), "is_set": version is not None}


def _version_facts(version: Version) -> dict[str, Any]:
    return asdict(version) | {"changed": version.changed.isoformat()}
