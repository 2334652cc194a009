"""`daybook runs`: find, read, compare and check the records of what was done."""

from __future__ import annotations

import functools
import json
import shutil
import tarfile
import webbrowser
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from daybook import private_files, settings, ui
from daybook.cli import arguments
from daybook.cli import runs_tables as tables
from daybook.environment import Environment
from daybook.errors import CommandFailed, SettingsError, VerifyFailed, printable
from daybook.private_files import NoFile
from daybook.record import compare, journal, seal, summary, upload, verification
from daybook.record import search as records
from daybook.record.search import Archive, Filters, Row


@click.group()
def runs() -> None:
    """Find, read, compare and check the records of what was done."""


def _as_json(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="For a program.")(command)


def _filtered(command: Callable) -> Callable:
    """Add the options that say which runs are meant; they arrive as one `filters`."""

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        chosen = {name: given.pop(name) or "" for name in Filters.__dataclass_fields__}
        return command(filters=Filters(**chosen), **given)

    states = click.Choice((*journal.STATUSES, seal.BROKEN))
    options = [
        click.option("-e", "--env", "environment", type=arguments.ENV),
        click.option("-s", "--step", type=arguments.STEP),
        click.option("--status", type=states),
        click.option(
            "--operator", type=arguments.OPERATOR, help="A part of a name, an address or a user."
        ),
        click.option("--since", metavar="TIME", help="2026-11-23, or 7d for seven days ago."),
        click.option("--until", metavar="TIME"),
        click.option("-n", "--limit", type=arguments.LIMIT, default=50, show_default=True),
    ]
    for option in reversed(options):
        call = option(call)
    return call


@runs.command("list")
@_filtered
@_as_json
def list_(filters: Filters, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    _show(Archive(settings.find_root()).list(filters, limit), as_json)


@runs.command()
@click.argument("text", nargs=-1, required=True)
@_filtered
@_as_json
def search(text: tuple[str, ...], filters: Filters, limit: int, as_json: bool) -> None:
    """Search all that runs said: facts, checks, errors, and what their cells put out."""
    found = Archive(settings.find_root()).search(" ".join(text), filters, limit)
    _show(found, as_json)


@runs.command()
@click.argument("run", type=arguments.RUN, required=False)
@_as_json
def show(run: str | None, as_json: bool) -> None:
    """Show one run's facts; the newest run where none is named."""
    folder = Archive(settings.find_root()).find(run)
    said = _load(folder)
    if as_json:
        _print_json(said)
        return
    _echo(tables.facts(said))
    for table in tables.sections(said):
        _echo(table)
    if said["error"]:
        click.secho(f"{said['error']['ename']}: {said['error']['evalue']}", fg="red")
    click.echo(f"Report: {folder / 'report.html'}")


@runs.command("open")
@click.argument("run", type=arguments.RUN, required=False)
@_as_json
def open_(run: str | None, as_json: bool) -> None:
    """Open a run's report in the browser."""
    root = settings.find_root()
    page = Archive(root).find(run) / "report.html"
    if not page.exists():
        raise SettingsError(
            "This run has no report yet.",
            expected="a closed run",
            observed=f"{page.parent.name} is not closed",
            next="daybook runs settle, when its kernel is gone",
        )
    if as_json:
        _print_json({"report": str(page)})
    else:
        click.echo(page)
        webbrowser.open(page.as_uri())


@runs.command()
@click.argument("before", type=arguments.RUN)
@click.argument("after", type=arguments.RUN)
@_as_json
def diff(before: str, after: str, as_json: bool) -> None:
    """Put two runs side by side, and say whether the notebook has changed."""
    root = settings.find_root()
    index = Archive(root)
    both = compare.compare(root, _load(index.find(before)), _load(index.find(after)))
    if as_json:
        _print_json(asdict(both))
        return
    _echo(tables.differences(both))
    click.echo(f"Template: {both.template}")


@runs.command()
@click.argument("run", type=arguments.RUN, required=False)
@click.option("--all", "all_", is_flag=True, help="Every run, and whether one is missing.")
@_as_json
def verify(run: str | None, all_: bool, as_json: bool) -> None:
    """Check that records are what was sealed, by whom, and that what was applied was approved.

    Exit code 7 when a record is not, or something was not.
    """
    root = settings.find_root()
    found = (
        list(verification.verify_all(root))
        if all_
        else [verification.verify(Archive(root).find(run))]
    )
    if as_json:
        _print_json([asdict(verdict) for verdict in found])
    else:
        _echo(tables.verdicts(found))
    broken = [verdict.run for verdict in found if verdict.is_broken]
    if broken:
        raise VerifyFailed(
            f"{len(broken)} of {len(found)} records are broken, or show an unapproved change.",
            expected="each record as it was sealed, and an approval of each change",
            observed=", ".join(broken[:5]),
            next="compare with the bucket's copy: a power cut or a failing disk may have damaged "
            "a file, or somebody changed it",
        )


@runs.command()
@_as_json
def settle(as_json: bool) -> None:
    """Close runs whose kernel is gone, each with its true status."""
    closed = seal.close_abandoned(settings.find_root())
    broken = [one for one in closed if one.status == seal.BROKEN]
    if as_json:
        _print_json([{"run": one.folder.name, "status": one.status} for one in closed])
    else:
        for one in closed:
            click.echo(f"{printable(one.folder.name)}: {one.status}")
        if not closed:
            click.echo("No run was left open.")
    if broken:
        raise VerifyFailed(
            f"{len(broken)} of {len(closed)} runs could not be closed.",
            details=[
                f"{one.folder.parent.name}/{one.folder.name}: {one.unsigned}" for one in broken
            ],
            expected="a run's folder as it was written",
            changed="The others are closed.",
            next="restore what is broken, or move its folder out of runs/; then settle again",
        )


@runs.command()
@click.option("-e", "--env", "environment", required=True)
@_as_json
def push(environment: str, as_json: bool) -> None:
    """Upload an environment's closed records that the account's bucket does not have yet."""
    root = settings.find_root()
    chosen = Environment.load(root, environment)
    bucket, account = chosen.records_bucket, chosen.target.account
    pushed = upload.push_pending(root, bucket, chosen.client("s3"), account, environment)
    if as_json:
        _print_json(asdict(pushed))
    else:
        click.echo(f"{len(pushed.done)} records are in {bucket} now.")
    for run, why in pushed.failed.items():
        raise CommandFailed(
            f"{run} could not be uploaded.",
            observed=why,
            changed=f"{len(pushed.done)} records were uploaded.",
            next="daybook runs push, when the bucket can be reached",
        )


@runs.command()
@click.argument("names", metavar="[RUN]...", nargs=-1, type=arguments.RUN)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@_as_json
def export(names: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Pack runs (all where none is named), to be kept or checked elsewhere."""
    arguments.require_writable(output)
    root = settings.find_root()
    index = Archive(root)
    folders = [index.find(name) for name in names] or sorted(seal.runs_of(root))
    extra = {root / "environments/signers", root / "runs" / seal.REHEARSAL_SIGNERS}
    extra |= set() if names else {folder.parent / seal.HEAD for folder in folders}
    with (
        open(output, "wb", opener=private_files.opener) as file,
        tarfile.open(fileobj=file, mode="w:gz") as tar,
    ):
        for path in [*folders, *(path for path in extra if path.exists())]:
            tar.add(path, path.relative_to(root))
    if as_json:
        _print_json({"output": str(output), "runs": [folder.name for folder in folders]})
    else:
        click.echo(f"{len(folders)} runs are in {output}.")


def _show(found: list[Row], as_json: bool) -> None:
    if as_json:
        _print_json(records.as_json(found))
    else:
        _echo(tables.rows(found))


def _echo(view: ui.Shown) -> None:
    """Print as wide as the terminal is."""
    click.echo(ui.text(view, max(100, shutil.get_terminal_size().columns)))


def _load(folder: Path) -> dict[str, Any]:
    """Return a run's record; of an open one, what its journal says by now."""
    said = seal.load(folder)
    if said is None:
        path = folder / journal.NAME
        try:
            entries = journal.read(path) if path.exists() else journal.Entries(())
            if not entries.header and not journal.is_unbegun(path):
                raise ValueError("line 1 is no header")
        except (NoFile, ValueError) as err:
            raise seal.broken(folder, journal.NAME, err) from err
        said = summary.summarise(entries) | {"status": records.current(entries)}
    return said


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
