"""The `daybook` command: thin; each sub-command calls the module that does the work."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tempfile
import threading
import traceback

import click

from daybook import settings
from daybook.cli import streams
from daybook.errors import (
    CommandFailed,
    DaybookError,
    Interrupted,
    SettingsError,
    explained,
)

LATER = {
    "approve": ("daybook.cli.approve", "approve"),
    "demo": ("daybook.demo", "demo"),
    "env": ("daybook.cli.env", "env"),
    "github": ("daybook.cli.github", "github"),
    "lock": ("daybook.cli.lock", "lock"),
    "release": ("daybook.cli.release", "release"),
    "runs": ("daybook.cli.runs", "runs"),
    "sandbox": ("daybook_sandbox.cli", "sandbox"),
    "secrets": ("daybook.cli.secrets", "secrets"),
}
"""Commands that are imported when they are used: the sandbox is no part of the library."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in LATER:
            return super().get_command(ctx, name)
        module, attribute = LATER[name]
        return getattr(importlib.import_module(module), attribute)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def daybook() -> None:
    """Run the life of an application on AWS EC2 from notebooks that leave a record."""


@daybook.command()
@click.argument("step")
@click.option("-p", "--parameter", "texts", type=(str, str), multiple=True, metavar="NAME VALUE")
@click.option("-r", "--raw", "raws", type=(str, str), multiple=True, metavar="NAME TEXT")
@click.option("-y", "--yaml", "yamls", multiple=True, metavar="YAML", help="Parameters as YAML.")
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Parameters in a file.")
@click.option("--wait", default="", metavar="TIME", help="Wait for another run: 90s, 10m or 1h.")
@click.option("--override-freeze", default="", metavar="REASON", help="Run in a freeze window.")
@click.option("--resume", default="", metavar="RUN", help="Go on with a run: same parameters.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
def run(step, texts, raws, yamls, files, wait, override_freeze, resume, quiet) -> None:
    """Run STEP, a notebook's name (provision) or path, without a browser.

    Exit codes: 0 succeeded, 2 settings or parameters, 3 preflight, 4 approval needed or wrong,
    5 a command failed, 6 apply failed, 7 verify failed, 8 locked, 130 interrupted.
    """
    from daybook import headless, parameters
    from daybook.gates import lock, turn
    from daybook.gates import resume as going_on
    from daybook.run import RESUMES

    lock.seconds(wait)
    os.environ |= {turn.WAIT: wait} if wait else {}
    texts += (("override_freeze", override_freeze),) if override_freeze else ()
    root = settings.find_root()
    notebook = parameters.find_notebook(root, step)
    values = parameters.read_files(files, yamls)
    chosen = parameters.check(notebook, [*texts, *raws], values)
    if resume:
        os.environ[RESUMES], chosen = going_on.prepare(root, notebook, resume, chosen)
    sys.exit(headless.run(notebook, chosen, root=root, quiet=quiet).exit_code)


def main() -> None:
    """Run the command line; an error becomes its lines and its exit code, never a traceback."""
    output = streams.secure()
    if output:
        threading.excepthook = lambda args: _keep_traceback(args.exc_value)
    _close_stdin()
    code = _run()
    sys.stdout.flush()
    failure = output.failure if output else None
    if failure and failure.errno != errno.EPIPE and sys.argv[1:2] != ["run"]:
        lost = CommandFailed(
            "Standard output could not be written: it is not complete.",
            expected="a file or terminal that takes all of it",
            observed=failure.strerror,
            changed="What the command did besides stays done.",
            next="free the disk or redirect to another, then run the same command again",
        )
        click.echo(str(lost), err=True)
        code = code or lost.exit_code
    sys.exit(code)


def _run() -> int:
    try:
        return daybook.main(standalone_mode=False) or 0
    except DaybookError as err:
        return _tell(err)
    except click.ClickException as err:
        err.show()
        return SettingsError.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return Interrupted.exit_code
    except SystemExit as err:
        return int(err.code or 0)
    except Exception as err:
        kept = _keep_traceback(err)
        changed = "What a run had changed by then, if one was begun, is in its record."
        return _tell(explained(err, changed=changed, traceback_in=kept))


def _tell(err: DaybookError) -> int:
    click.secho(str(err), fg="red", err=True)
    return err.exit_code


def _keep_traceback(err: BaseException | None) -> str:
    """Write a traceback, without secrets, where only its owner reads it; return the file's path."""
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
    """Let nothing underneath read the operator's terminal, or a pipe meant for somebody else."""
    if sys.argv[1:2] == ["run"]:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
