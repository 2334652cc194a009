"""Put one version of the application in the place of another, and back."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from daybook_release import context as grounds
from daybook_release import deploy, prune, reconcile, stop, views
from daybook_release.context import Context
from daybook_release.errors import Interrupted, Refused, ReleaseError, UsageError
from daybook_release.printable import printable, printable_lines
from daybook_release.progress import ProgressReporter
from daybook_release.signals import Signals
from daybook_release.store import LockingProcess
from daybook_release.system import System


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(argv)
    # A connection that goes away does not end what was begun.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    progress = ProgressReporter(getattr(options, "json", False))
    host = System()
    try:
        if os.geteuid() != 0:
            raise UsageError("This needs root.", next="sudo release …")
        options.do(grounds.make(host, progress), options)
    except ReleaseError as err:
        return _tell(err, progress)
    except (OSError, LookupError) as err:
        message = f"Docker or the disk did not do its part: {err}"
        return _tell(ReleaseError(message, next="sudo release status"), progress)
    except KeyboardInterrupt:
        return _tell(Interrupted("Interrupted."), progress)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do, message: str, *, as_json: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=message, description=message)
        made.set_defaults(do=do)
        if as_json:
            made.add_argument("--json", action="store_true", help="for a program")
        return made

    made = command("deploy", _deploy, "release an image")
    made.add_argument("image", metavar="IMAGE@DIGEST")
    made.add_argument("--secrets", nargs="+", default=[], metavar="NAME=VERSION", type=_pinned)
    _add_who(made)
    made = command("rollback", _rollback, "let an earlier release serve again")
    made.add_argument("id", nargs="?", metavar="ID", help="the one before, unless given")
    _add_who(made)
    command("list", _list, "show the releases")
    made = command("show", _show, "show one release, and how its compose file was changed")
    made.add_argument("id", nargs="?", metavar="ID", help="the one that serves, unless given")
    command("status", _status, "tell what serves and what is going on")
    made = command("maintenance", _maintenance, "send visitors away, or let them in again")
    made.add_argument("how", choices=("on", "off"))
    made = command("logs", _logs, "show what a service said last", as_json=False)
    made.add_argument("service", nargs="?", help="the web service, unless given")
    made.add_argument("--lines", type=_lines, default=50)
    command("stop", _stop, "end the release that is going on, which undoes it")
    command("repair", _repair, "finish or undo what was interrupted")
    command("prune", _prune, "remove images that no release to go back to needs")
    return whole


def _deploy(context: Context, options: argparse.Namespace) -> None:
    with _lock(context, "deploy") as signals:
        done = deploy.deploy(
            context,
            options.image,
            signals,
            by=options.by,
            run=options.run,
            pinned=dict(options.secrets),
        )
        _end(context, done)


def _rollback(context: Context, options: argparse.Namespace) -> None:
    with _lock(context, "rollback") as signals:
        done = deploy.rollback(context, options.id, signals, by=options.by, run=options.run)
        _end(context, done)


def _end(context: Context, done) -> None:
    with contextlib.suppress(OSError, LookupError):
        prune.prune(context)
    seconds = done.again[-1]["seconds"] if done.again else done.seconds
    context.progress.line(f"{done.id} serves: version {done.version}, after {seconds:.1f} s")
    context.progress.result({"result": views.said(done)})


def _list(context: Context, options: argparse.Namespace) -> None:
    releases = views.listed(context)
    _show_as(options, releases, views.table(releases) if releases else ["no releases yet"])


def _show(context: Context, options: argparse.Namespace) -> None:
    current = context.store.current
    id = options.id or (current.id if current else "")
    release = context.store.find(id)
    if release is None:
        raise Refused(f"There is no release {id}.", next="sudo release list")
    shown = views.shown(context, release)
    _show_as(options, shown, views.page(shown))


def _status(context: Context, options: argparse.Namespace) -> None:
    status = views.status(context)
    _show_as(options, status, views.status_lines(status))


def _maintenance(context: Context, options: argparse.Namespace) -> None:
    with _lock(context, "maintenance"):
        was_on = context.store.in_maintenance
        context.store.set_maintenance(options.how == "on")
        try:
            context.caddy.switch(context.site_of(context.store.current))
        except ReleaseError:
            context.store.set_maintenance(was_on)
            raise
        context.progress.line(f"maintenance is {options.how}")
        context.progress.result({"result": {"maintenance": options.how == "on"}})


def _logs(context: Context, options: argparse.Namespace) -> None:
    current = context.store.current
    container = context.web_of(current) if current and not options.service else None
    container = container or context.docker.find(options.service or "")
    if container is None:
        names = ", ".join(sorted({each.service for each in context.docker.containers()}))
        raise Refused("There is no such container.", next=f"it has: {names or 'none'}")
    for line in context.docker.last_lines(container, options.lines):
        context.progress.line(line)


def _stop(context: Context, options: argparse.Namespace) -> None:
    done = stop.stop(context)
    context.progress.line(done)
    for line in views.status_lines(views.status(context)):
        context.progress.line(line)
    context.progress.result({"result": done})


def _repair(context: Context, options: argparse.Namespace) -> None:
    with _lock(context, "repair"):
        said = reconcile.repair(context)
    context.progress.line(said)
    context.progress.result({"result": said})


def _prune(context: Context, options: argparse.Namespace) -> None:
    with _lock(context, "prune"):
        gone = prune.prune(context)
    context.progress.line(f"{len(gone)} images removed")
    context.progress.result({"result": gone})


@contextlib.contextmanager
def _lock(context: Context, verb: str) -> Iterator[Signals]:
    """Hold the lock, also for the commands that are started meanwhile; within the time limits."""
    pid = os.getpid()
    with (
        context.store.locked(LockingProcess(pid, stop.started(pid), verb)) as descriptor,
        Signals() as it,
    ):
        context.host.inherited_fds.append(descriptor)
        try:
            yield it
        finally:
            context.host.inherited_fds.clear()


def _add_who(made: argparse.ArgumentParser) -> None:
    user = os.environ.get("SUDO_USER", "root")
    made.add_argument("--by", default=user, type=printable, help="who does it")
    made.add_argument("--run", default="", type=printable, help="the run that it belongs to")


def _lines(text: str) -> int:
    """Return a number of lines; `int` alone would take Unicode digits, too."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a number from 1 to 99999")
    return int(text)


def _pinned(text: str) -> tuple[str, int]:
    name, _, version = text.partition("=")
    if not name or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VERSION")
    return name, int(version)


def _show_as(options: argparse.Namespace, said: Any, lines: Sequence[str]) -> None:
    text = json.dumps(said, indent=1) if options.json else printable_lines("\n".join(lines))
    print(text)


def _tell(err: ReleaseError, progress: ProgressReporter) -> int:
    said = {"message": err.message, "next": err.next, "code": err.exit_code}
    progress.result({"result": None, "error": said})
    with contextlib.suppress(OSError):
        print(printable_lines(err.message), file=sys.stderr)
        if err.next:
            print(printable_lines(f"Next: {err.next}"), file=sys.stderr)
    return err.exit_code
