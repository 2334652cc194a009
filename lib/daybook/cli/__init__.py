"""The `daybook` command; each subcommand calls the module that does the work."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tempfile
import threading
import traceback
from collections import Counter
from typing import Any

import click

from daybook import bounded_yaml, settings
from daybook.cli import arguments, streams
from daybook.errors import (
    CommandFailed,
    DaybookError,
    Interrupted,
    SettingsError,
    explained,
    printable,
)

LAZY = {
    "approve": ("daybook.cli.approve", "approve"),
    "demo": ("daybook_sandbox.demo", "demo"),
    "env": ("daybook.cli.env", "env"),
    "github": ("daybook.cli.github", "github"),
    "lock": ("daybook.cli.lock", "lock"),
    "release": ("daybook.cli.release", "release"),
    "runs": ("daybook.cli.runs", "runs"),
    "sandbox": ("daybook_sandbox.cli", "sandbox"),
    "secrets": ("daybook.cli.secrets", "secrets"),
}
"""Commands that are imported on use: the library does not depend on the sandbox."""


MAX_ARGUMENT = 70_000
"""The largest number of characters of an argument, slightly more than the limit of `-y YAML`."""


class _Commands(click.Group):
    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; errors of click are bounded and printable."""
        try:
            return super().main(*args, **options)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.ClickException as err:
            err.message = printable(err.message, 500)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not text: bytes that are not UTF-8, control characters."""
        for number, text in enumerate(args, 1):
            if len(text) > MAX_ARGUMENT:
                raise click.UsageError(f"Argument {number} has {len(text):,} characters.", ctx)
            if bounded_yaml.UNSEEN.search(text):
                problem = "is not UTF-8 text or contains control characters"
                raise click.UsageError(f"Argument {number} {problem}.", ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LAZY])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in LAZY:
            module, attribute = LAZY[name]
            command = getattr(importlib.import_module(module), attribute)
        else:
            command = super().get_command(ctx, name)
        return command and _refuse_repetition(command)


def _refuse_repetition(command: click.Command) -> click.Command:
    """Return the command, changed so that it and its subcommands refuse an option given twice.

    click uses the last one: `-e staging … -e production` would act on another environment than
    the first one that a reader sees.
    """
    make = type(command).make_parser

    def make_parser(ctx: click.Context) -> Any:
        parser = make(command, ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> tuple:
            values, rest, order = parse(args)
            for option, times in Counter(order).items():
                if times > 1 and isinstance(option, click.Option) and not option.multiple:
                    raise click.UsageError(f"{option.opts[-1]} is given {times} times.", ctx)
            return values, rest, order

        parser.parse_args = parse_args
        return parser

    command.make_parser = make_parser
    for child in getattr(command, "commands", {}).values():
        _refuse_repetition(child)
    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def daybook() -> None:
    """Run an application on AWS EC2 through its life, from notebooks that leave a record."""


@daybook.command()
@click.argument("step")
@click.option("-p", "--parameter", "texts", type=(str, str), multiple=True, metavar="NAME VALUE")
@click.option("-r", "--raw", "raws", type=(str, str), multiple=True, metavar="NAME TEXT")
@click.option("-y", "--yaml", "yamls", multiple=True, metavar="YAML", help="Parameters as YAML.")
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Parameters in a file.")
@click.option("--wait", default="", metavar="TIME", help="Wait for another run: 90s, 10m or 1h.")
@click.option("--override-freeze", default="", metavar="REASON", help="Run in a freeze window.")
@click.option(
    "--override-git", default="", metavar="REASON", help="Run a commit that was not reviewed."
)
@click.option(
    "--resume", type=arguments.RUN, metavar="RUN", help="Resume a run with its parameters."
)
@click.option("--quiet", is_flag=True, help="Print only errors.")
def run(
    step, texts, raws, yamls, files, wait, override_freeze, override_git, resume, quiet
) -> None:
    """Run STEP, the name (provision) or path of a notebook, without a browser.

    Exit codes: 0 succeeded, 2 settings or parameters, 3 preflight, 4 approval needed or refused,
    5 a command failed, 6 apply failed, 7 verify failed, 8 locked, 130 interrupted.
    """
    from daybook.headless import execution, parameters
    from daybook.headless import resume as resumption
    from daybook.lock import environment_lock, object_lock
    from daybook.run import RESUMES

    object_lock.parse_wait(wait)
    os.environ |= {environment_lock.WAIT: wait} if wait else {}
    overrides = {"override_freeze": override_freeze, "override_git": override_git}
    texts += tuple((name, reason) for name, reason in overrides.items() if reason)
    root = settings.find_root()
    notebook = parameters.find_notebook(root, step)
    values = parameters.read_files(files, yamls)
    given = parameters.check(notebook, [*texts, *raws], values)
    if resume:
        os.environ[RESUMES], given = resumption.prepare(root, notebook, resume, given)
    sys.exit(execution.run(notebook, given, root=root, quiet=quiet).exit_code)


def main() -> None:
    """Run the command line; print an error as its lines, never as a traceback."""
    output = streams.secure()
    if output:
        threading.excepthook = lambda args: _save_traceback(args.exc_value)
    _close_stdin()
    code = _run()
    sys.stdout.flush()
    failure = output.failure if output else None
    if failure and failure.errno != errno.EPIPE and sys.argv[1:2] != ["run"]:
        lost = CommandFailed(
            "Standard output could not be written: it is not complete.",
            expected="a file or terminal that accepts the whole output",
            observed=failure.strerror,
            changed="Other effects of the command remain.",
            next="free the disk or redirect to another one, then run the same command again",
        )
        click.echo(str(lost), err=True)
        code = code or lost.exit_code
    sys.exit(code)


def _run() -> int:
    try:
        return daybook.main(standalone_mode=False) or 0
    except DaybookError as err:
        return _print_error(err)
    except click.ClickException as err:
        err.show()
        return SettingsError.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return Interrupted.exit_code
    except SystemExit as err:
        return int(err.code or 0)
    except Exception as err:
        path = _save_traceback(err)
        changed = "Changes made by a run, if one was started, are in its record."
        return _print_error(explained(err, changed=changed, traceback_in=path))


def _print_error(err: DaybookError) -> int:
    click.secho(str(err), fg="red", err=True)
    return err.exit_code


def _save_traceback(err: BaseException | None) -> str:
    """Write a traceback without secrets to a private file; return its path, "" after an error."""
    try:
        from daybook.record.redact import Redactor

        redactor = Redactor()
        redactor.add_environment(os.environ)
        text = redactor.clean("".join(traceback.format_exception(err)))
        fd, path = tempfile.mkstemp(prefix="daybook-error-", suffix=".txt")
        with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except (OSError, ImportError):
        return ""
    return path


def _close_stdin() -> None:
    """Prevent tools and kernels from reading the operator's terminal or a pipe."""
    if sys.argv[1:2] == ["run"]:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
