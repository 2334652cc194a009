"""`daybook runs`: list, show, compare and verify the records of runs."""

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
    """List, show, compare and verify the records of runs."""


def _as_json(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _filtered(command: Callable) -> Callable:
    """Add the options that filter runs; the command receives them as `filters`."""

    @functools.wraps(command)
    def call(**options: Any) -> Any:
        values = {name: options.pop(name) or "" for name in Filters.__dataclass_fields__}
        return command(filters=Filters(**values), **options)

    states = click.Choice((*journal.STATUSES, seal.BROKEN))
    options = [
        click.option("-e", "--env", "environment", type=arguments.ENV),
        click.option("-s", "--step", type=arguments.STEP),
        click.option("--status", type=states),
        click.option(
            "--operator", type=arguments.OPERATOR, help="Part of a name, email or user name."
        ),
        click.option("--since", metavar="TIME", help="2026-11-23, or 7d for 7 days ago."),
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
    """List runs, newest first."""
    _show(Archive(settings.find_root()).list(filters, limit), as_json)


@runs.command()
@click.argument("text", nargs=-1, required=True)
@_filtered
@_as_json
def search(text: tuple[str, ...], filters: Filters, limit: int, as_json: bool) -> None:
    """Search the facts, checks, errors and cell outputs of runs."""
    rows = Archive(settings.find_root()).search(" ".join(text), filters, limit)
    _show(rows, as_json)


@runs.command()
@click.argument("run", type=arguments.RUN, required=False)
@_as_json
def show(run: str | None, as_json: bool) -> None:
    """Show the facts of a run; the newest run by default."""
    folder = Archive(settings.find_root()).find(run)
    record = _load(folder)
    if as_json:
        _print_json(record)
        return
    _echo(tables.facts(record))
    for table in tables.sections(record):
        _echo(table)
    if record["error"]:
        click.secho(f"{record['error']['ename']}: {record['error']['evalue']}", fg="red")
    click.echo(f"Report: {folder / 'report.html'}")


@runs.command("open")
@click.argument("run", type=arguments.RUN, required=False)
@_as_json
def open_(run: str | None, as_json: bool) -> None:
    """Open the report of a run in the browser."""
    root = settings.find_root()
    page = Archive(root).find(run) / "report.html"
    if not page.exists():
        raise SettingsError(
            "This run has no report yet.",
            expected="a closed run",
            observed=f"{page.parent.name} is not closed",
            next="if its kernel has exited, run daybook runs close",
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
    """Compare two runs, and show whether the notebook has changed."""
    root = settings.find_root()
    index = Archive(root)
    comparison = compare.compare(root, _load(index.find(before)), _load(index.find(after)))
    if as_json:
        _print_json(asdict(comparison))
        return
    _echo(tables.differences(comparison))
    click.echo(f"Template: {comparison.template}")


@runs.command()
@click.argument("run", type=arguments.RUN, required=False)
@click.option(
    "--all", "all_", is_flag=True, help="Verify every run, and that no record is missing."
)
@_as_json
def verify(run: str | None, all_: bool, as_json: bool) -> None:
    """Verify that records are unchanged, who signed them, and that applied plans were approved.

    Exits with 7 if a record was changed or shows an unapproved change.
    """
    root = settings.find_root()
    verdicts = (
        list(verification.verify_all(root))
        if all_
        else [verification.verify(Archive(root).find(run))]
    )
    if as_json:
        _print_json([asdict(verdict) for verdict in verdicts])
    else:
        _echo(tables.verdicts(verdicts))
    broken = [verdict.run for verdict in verdicts if verdict.is_broken]
    if broken:
        raise VerifyFailed(
            f"{len(broken)} of {len(verdicts)} records are broken, or show an unapproved change.",
            expected="unchanged records, and an approval of each change",
            observed=", ".join(broken[:5]),
            next="compare with the bucket's copy: the files were changed, or damaged by a power "
            "failure or a failing disk",
        )


@runs.command()
@_as_json
def close(as_json: bool) -> None:
    """Close runs with an exited kernel, each with its true status."""
    results = seal.close_abandoned(settings.find_root())
    broken = [result for result in results if result.status == seal.BROKEN]
    if as_json:
        _print_json([{"run": result.folder.name, "status": result.status} for result in results])
    else:
        for result in results:
            click.echo(f"{printable(result.folder.name)}: {result.status}")
        if not results:
            click.echo("There are no abandoned runs.")
    if broken:
        raise VerifyFailed(
            f"{len(broken)} of {len(results)} runs could not be closed.",
            details=[
                f"{result.folder.parent.name}/{result.folder.name}: {result.unsigned}"
                for result in broken
            ],
            expected="folders of runs as Daybook wrote them",
            changed="The other runs are closed.",
            next="restore the broken files, or move the folders out of runs/; then run it again",
        )


@runs.command("settle", hidden=True)
@_as_json
@click.pass_context
def old_close(context: click.Context, as_json: bool) -> None:
    """Run `close` under its former name."""
    context.invoke(close, as_json=as_json)


@runs.command()
@click.option("-e", "--env", "environment", required=True)
@_as_json
def push(environment: str, as_json: bool) -> None:
    """Upload the closed records of an environment that are not in the account's bucket yet."""
    root = settings.find_root()
    loaded = Environment.load(root, environment)
    bucket, account = loaded.records_bucket, loaded.target.account
    pushed = upload.push_pending(root, bucket, loaded.client("s3"), account, environment)
    if as_json:
        _print_json(asdict(pushed))
    else:
        click.echo(f"Uploaded {len(pushed.done)} records to {bucket}.")
    for run, problem in pushed.failed.items():
        raise CommandFailed(
            f"{run} could not be uploaded.",
            observed=problem,
            changed=f"{len(pushed.done)} records were uploaded.",
            next=f"daybook runs push -e {environment}, once the bucket can be reached",
        )


@runs.command()
@click.argument("names", metavar="[RUN]...", nargs=-1, type=arguments.RUN)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@_as_json
def export(names: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Pack runs (all by default) into an archive, to keep or verify them elsewhere."""
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
        click.echo(f"Packed {len(folders)} runs into {output}.")


def _show(rows: list[Row], as_json: bool) -> None:
    if as_json:
        _print_json([records.as_json(row) for row in rows])
    else:
        _echo(tables.rows(rows))


def _echo(view: ui.Shown) -> None:
    """Print a view in the width of the terminal."""
    click.echo(ui.text(view, max(100, shutil.get_terminal_size().columns)))


def _load(folder: Path) -> dict[str, Any]:
    """Return the record of a run; for an open run, a summary of its journal."""
    if record := seal.load(folder):
        return record
    path = folder / journal.NAME
    try:
        entries = journal.read(path) if path.exists() else journal.Entries(())
        if not entries.header and not journal.is_empty(path):
            raise ValueError("line 1 is not a header")
    except (NoFile, ValueError) as err:
        raise seal.broken(folder, journal.NAME, err) from err
    return summary.summarise(entries) | {"status": records.open_status(entries)}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
