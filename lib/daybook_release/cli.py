"""Replace the version of the application that serves, and roll back."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from daybook_release import context as contexts
from daybook_release import deploy, prune, reconcile, stop, views
from daybook_release.context import HostContext
from daybook_release.errors import Interrupted, Refused, ReleaseError, UsageError
from daybook_release.printable import printable, printable_lines
from daybook_release.progress import ProgressReporter
from daybook_release.signals import Signals
from daybook_release.store import LockingProcess, Release
from daybook_release.system import System

Command = Callable[[HostContext, argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(argv)
    # A lost connection must not end a command.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    progress = ProgressReporter(getattr(options, "json", False))
    system = System()
    try:
        if os.geteuid() != 0:
            raise UsageError("This command must run as root.", next="sudo release …")
        options.command(contexts.make(system, progress), options)
    except ReleaseError as err:
        return _report(err, progress)
    except (OSError, LookupError) as err:
        message = f"Docker or the file system reported an error: {err}"
        return _report(ReleaseError(message, next="sudo release status"), progress)
    except KeyboardInterrupt:
        return _report(Interrupted("Interrupted."), progress)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    program = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = program.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Command, help: str, *, has_json: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(command=command)
        if has_json:
            added.add_argument("--json", action="store_true", help="print JSON")
        return added

    added = add("deploy", _deploy, "release an image")
    added.add_argument("image", metavar="IMAGE@DIGEST")
    added.add_argument(
        "--secrets", nargs="+", default=[], metavar="NAME=VERSION", type=_pinned_version
    )
    _add_origin(added)
    added = add("rollback", _rollback, "serve an earlier release again")
    added.add_argument("id", nargs="?", metavar="ID", help="default: the release replaced last")
    _add_origin(added)
    add("list", _list, "list the releases")
    added = add("show", _show, "show one release and the changes to its compose file")
    added.add_argument("id", nargs="?", metavar="ID", help="default: the current release")
    add("status", _status, "show the current release and the rollout in progress")
    added = add("maintenance", _maintenance, "turn the maintenance page on or off")
    added.add_argument("state", choices=("on", "off"))
    added = add("logs", _logs, "show the last output of a service", has_json=False)
    added.add_argument("service", nargs="?", help="default: the web service")
    added.add_argument("--lines", type=_line_count, default=50)
    add("stop", _stop, "end the rollout in progress, which undoes it")
    add("repair", _repair, "finish or undo an interrupted rollout")
    add("prune", _prune, "remove images that no rollback needs")
    return program


def _deploy(context: HostContext, options: argparse.Namespace) -> None:
    with _lock(context, "deploy") as signals:
        release = deploy.deploy(
            context,
            options.image,
            signals,
            by=options.by,
            run=options.run,
            pinned_versions=dict(options.secrets),
        )
        _finish(context, release)


def _rollback(context: HostContext, options: argparse.Namespace) -> None:
    with _lock(context, "rollback") as signals:
        release = deploy.rollback(context, options.id, signals, by=options.by, run=options.run)
        _finish(context, release)


def _finish(context: HostContext, release: Release) -> None:
    with contextlib.suppress(OSError, LookupError):
        prune.prune(context)
    seconds = release.again[-1]["seconds"] if release.again else release.seconds
    context.progress.line(f"{release.id} serves: version {release.version}, after {seconds:.1f} s")
    context.progress.result({"result": dataclasses.asdict(release)})


def _list(context: HostContext, options: argparse.Namespace) -> None:
    releases = views.list_releases(context)
    _print(options, releases, views.table(releases) if releases else ["no releases yet"])


def _show(context: HostContext, options: argparse.Namespace) -> None:
    current = context.store.current
    id = options.id or (current.id if current else "")
    release = context.store.find(id)
    if release is None:
        message = f"Release {id} does not exist." if id else "There is no release yet."
        raise Refused(message, next="sudo release list")
    shown = views.show_release(context, release)
    _print(options, shown, views.release_lines(shown))


def _status(context: HostContext, options: argparse.Namespace) -> None:
    status = views.status(context)
    _print(options, status, views.status_lines(status))


def _maintenance(context: HostContext, options: argparse.Namespace) -> None:
    with _lock(context, "maintenance"):
        was_on = context.store.in_maintenance
        context.store.set_maintenance(options.state == "on")
        try:
            context.caddy.switch(context.site_of(context.store.current))
        except ReleaseError:
            context.store.set_maintenance(was_on)
            raise
        context.progress.line(f"maintenance is {options.state}")
        context.progress.result({"result": {"maintenance": options.state == "on"}})


def _logs(context: HostContext, options: argparse.Namespace) -> None:
    current = context.store.current
    container = context.web_of(current) if current and not options.service else None
    container = container or context.docker.find(options.service or "")
    if container is None:
        services = sorted({container.service for container in context.docker.containers()})
        message = f"Service {options.service or 'web'} has no container."
        raise Refused(message, next=f"choose one of: {', '.join(services) or 'none exist'}")
    for line in context.docker.last_lines(container, options.lines):
        context.progress.line(line)


def _stop(context: HostContext, options: argparse.Namespace) -> None:
    summary = stop.stop(context)
    context.progress.line(summary)
    for line in views.status_lines(views.status(context)):
        context.progress.line(line)
    context.progress.result({"result": summary})


def _repair(context: HostContext, options: argparse.Namespace) -> None:
    with _lock(context, "repair"):
        summary = reconcile.repair(context)
    context.progress.line(summary)
    context.progress.result({"result": summary})


def _prune(context: HostContext, options: argparse.Namespace) -> None:
    with _lock(context, "prune"):
        removed = prune.prune(context)
    context.progress.line(f"images removed: {len(removed)}")
    context.progress.result({"result": removed})


@contextlib.contextmanager
def _lock(context: HostContext, verb: str) -> Iterator[Signals]:
    """Hold the lock within the time limits; commands started meanwhile inherit it."""
    pid = os.getpid()
    holder = LockingProcess(pid, stop.started(pid), verb)
    with context.store.locked(holder) as descriptor, Signals() as signals:
        context.system.inherited_fds.append(descriptor)
        try:
            yield signals
        finally:
            context.system.inherited_fds.clear()


def _add_origin(command: argparse.ArgumentParser) -> None:
    user = os.environ.get("SUDO_USER", "root")
    command.add_argument("--by", default=user, type=printable, help="the person who releases")
    command.add_argument("--run", default="", type=printable, help="the id of the run")


def _line_count(text: str) -> int:
    """Parse a number of lines; `int` alone would accept Unicode digits, too."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a number from 1 to 99999")
    return int(text)


def _pinned_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition("=")
    if not name or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VERSION")
    return name, int(version)


def _print(options: argparse.Namespace, data: Any, lines: Sequence[str]) -> None:
    text = json.dumps(data, indent=1) if options.json else printable_lines("\n".join(lines))
    print(text)


def _report(err: ReleaseError, progress: ProgressReporter) -> int:
    error = {"message": err.message, "next": err.next, "code": err.exit_code}
    progress.result({"result": None, "error": error})
    with contextlib.suppress(OSError):
        print(printable_lines(err.message), file=sys.stderr)
        if err.next:
            print(printable_lines(f"Next: {err.next}"), file=sys.stderr)
    return err.exit_code
