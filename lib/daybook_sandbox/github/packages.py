"""The runner's package, laid out like a release of actions/runner."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from importlib.resources import files
from importlib.resources.abc import Traversable

CONFIG = """\
#!/bin/bash
# Register this folder as a runner: ./config.sh --unattended --url URL --token TOKEN
if [ "$(id -u)" -eq 0 ] && [ -z "$RUNNER_ALLOW_RUNASROOT" ]; then
    echo "Must not run with sudo"
    exit 1
fi
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
if [ "$1" = remove ]; then
    exec python3 -I bin/runner.pyz "$@"
fi
exec python3 -I bin/runner.pyz configure "$@"
"""
RUN = """\
#!/bin/bash
# Wait for jobs. Like actions/runner, restart only after a retryable exit code.
if [ "$(id -u)" -eq 0 ] && [ -z "$RUNNER_ALLOW_RUNASROOT" ]; then
    echo "Must not run interactively with sudo"
    exit 1
fi
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
listen() {
    if [ -z "$RUNNER_MANUALLY_TRAP_SIG" ]; then
        python3 -I bin/runner.pyz run
        return
    fi
    # In a separate process group, to which the signal is forwarded as an interrupt.
    set -m
    trap 'kill -INT -- "-$listener"' INT TERM
    python3 -I bin/runner.pyz run &
    listener=$!
    wait "$listener"
    # A signal ends `wait` before the listener exits.
    wait "$listener"
}
while :; do
    listen
    code=$?
    if [ "$code" -ne 2 ]; then
        echo "Exiting runner..."
        exit 0
    fi
    echo "Restarting runner..."
    sleep 5
done
"""
MAIN = """\
import sys
from daybook_sandbox.github.runner.__main__ import main
sys.exit(main(*sys.argv[1:] or ["run"]))
"""
PACKAGE = "daybook_sandbox"
IN_ZIP = ("__init__.py", "github/__init__.py", "github/expressions.py", "github/runner")
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def program() -> bytes:
    """Return the runner as a zipapp; the same code gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in {"__main__.py": MAIN, **_sources()}.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), text)
    return buffer.getvalue()


def archive() -> bytes:
    """Return a .tar.gz like that of an actions/runner release."""
    contents = {"config.sh": CONFIG.encode(), "run.sh": RUN.encode(), "bin/runner.pyz": program()}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def _sources() -> dict[str, str]:
    root = files(PACKAGE)
    sources: dict[str, str] = {}
    for path in IN_ZIP:
        item = root.joinpath(*path.split("/"))
        sources |= _texts(item, f"{PACKAGE}/{path}")
    return sources


def _texts(item: Traversable, name: str) -> dict[str, str]:
    if item.is_file():
        return {name: item.read_text()}
    entries = sorted(item.iterdir(), key=lambda file: file.name)
    return {
        f"{name}/{file.name}": file.read_text() for file in entries if file.name.endswith(".py")
    }
