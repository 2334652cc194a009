"""Measure a release's effect on visitors: ours, `down && up -d`, and `up -d` in place.

    python benchmarks/release.py [RELEASES]     # about fifteen minutes; needs Docker

A new sandbox with one machine under the load of sixteen visitors (load.py) over TLS: GETs and
POSTs on reused and new connections, requests that take five seconds, and a stream of ten. Two
versions of an application alternate. The target: none of at least 20,000 requests fails, no fast
one takes 500 ms, and a new version serves within 6 s of the command, excluding the application's
start-up.
"""

from __future__ import annotations

import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import Tally, load
from overhead import APPROVED, DAYBOOK, ENV, fresh_project, timed
from rich.console import Console
from rich.table import Table

from daybook import probe
from daybook.environment import Environment
from daybook.hosts.client import Host

APP = Path(__file__).with_name("release_app")
COMPARED = 5
"""Releases of each compared method; each loses enough requests to be counted."""
TARGET_S, TARGET_MS, TARGET_REQUESTS = 6.0, 500, 20_000
FIXED_PORT = 9100
COMPOSE = "docker compose --project-name bare --file /opt/bare/compose.yaml"
METHODS = {
    "down && up -d": f"{COMPOSE} down && {COMPOSE} up -d",
    "up -d in place": f"{COMPOSE} up -d",
}


@dataclass(frozen=True)
class Measurement:
    """The results of a release method. serving_s: from the command to the new version's answer."""

    name: str
    tally: Tally
    serving_s: tuple[float, ...]


@dataclass(frozen=True)
class TestHost:
    """A host with two images of the application, and its public name."""

    client: Host
    environment: Environment
    images: tuple[str, str]

    @property
    def name(self) -> str:
        return self.environment.settings.domains[0]

    def load(self):
        """Keep the host under load in this context."""
        ca_file = self.environment.target.environ["DAYBOOK_CA_FILE"]
        return load(self.name, self.client.address, ca_file)

    def version(self) -> str:
        """Return the version that visitors get, "" for none."""
        url = f"https://{self.name}/version"
        try:
            answer = probe.fetch(url, self.environment.target.environ, at=self.client.address)
            return answer.json()["version"]
        except (probe.NotYet, ValueError):
            return ""

    def shell(self, line: str, stdin: str = "") -> str:
        """Run a shell line as root on the host."""
        command = self.client.ssh(f"sudo sh -euc {shlex.quote(line)}")
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{line}: {done.returncode}\n{done.stderr}")
        return done.stdout.strip()


def main() -> None:
    """Measure, print the table, and exit with 1 if the target is missed."""
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with fresh_project() as root:
        host = prepare(root)
        start_up_s = start_up(host)
        measurements = [ours(host, releases), *bare(host)]
    sys.exit(0 if show(measurements, start_up_s) else 1)


def prepare(root: Path) -> TestHost:
    """Create a host that serves the benchmark's application, and two images of it in ECR."""
    shutil.rmtree(root / "app")
    shutil.copytree(APP, root / "app")
    for step in ("provision", "configure", "first-deploy"):
        say(step)
        timed([DAYBOOK, "run", step, *APPROVED], root)
    with (root / "app/server.py").open("a") as file:
        file.write("# another version\n")
    timed([DAYBOOK, "run", "first-deploy", *APPROVED], root)
    environment = Environment.load(root, ENV)
    [client] = environment.hosts
    first, second = (release.image for release in client.releases())
    return TestHost(client, environment, (first, second))


def start_up(host: TestHost) -> float:
    """Return the seconds from the application's start to its first answer."""
    line = (
        f"docker run --detach --rm --publish 127.0.0.1:9000:8000 {host.images[0]} >/dev/null;"
        " began=$(date +%s%N); until curl -sfo /dev/null http://127.0.0.1:9000/up; do :; done;"
        " echo $(( $(date +%s%N) - began ));"
        " docker rm --force $(docker ps -q --filter publish=9000) >/dev/null"
    )
    return statistics.median(int(host.shell(line)) / 1e9 for _ in range(3))


def ours(host: TestHost, releases: int) -> Measurement:
    """Release the two images alternately with Daybook."""

    def release(image: str) -> None:
        host.client.deploy(image, by="benchmark", run="", secrets={})

    return measure(host, "release", releases, release)


def bare(host: TestHost) -> Iterator[Measurement]:
    """Release with Compose alone, in two ways, behind the same Caddy."""
    host.shell(
        "mkdir -p /opt/bare; cat > /opt/bare/compose.yaml", (APP / "compose.yaml").read_text()
    )
    site = f"{host.name} {{\n\treverse_proxy 127.0.0.1:{FIXED_PORT}\n}}\n"
    host.shell(f"cat > /etc/caddy/sites/{host.environment.settings.app}.caddy", site)
    host.shell("systemctl reload caddy")
    for name, command in METHODS.items():
        host.shell(env_file(host.images[0]) + f"{COMPOSE} up -d --wait")
        yield measure(
            host,
            name,
            COMPARED,
            lambda image, command=command: host.shell(env_file(image) + command),
        )


def env_file(image: str) -> str:
    """Return a shell line that writes the .env file for an image."""
    values = f"APP_IMAGE={image}\\nAPP_PORT={FIXED_PORT}\\nAPP_VERSION={image[-12:]}\\n"
    return f"printf '{values}' > /opt/bare/.env; "


def measure(
    host: TestHost, name: str, releases: int, release: Callable[[str], None]
) -> Measurement:
    """Release the images alternately under load."""
    serving_s = []
    with host.load() as tally:
        wait_for_steady_load(host)
        for number in range(releases):
            say(f"{name}: {number + 1} of {releases}, {len(tally.failures)} failed so far")
            with timed_until_new_version(host) as taken:
                release(host.images[1 - number % 2])
            serving_s += taken
        wait_for_steady_load(host)
    return Measurement(name, tally, tuple(serving_s))


def wait_for_steady_load(host: TestHost) -> None:
    """Wait until visitors are served, then count three seconds of load without a release."""
    probe.wait_until(lambda: host.version() or _not_yet(), condition="an answer", timeout_s=60)
    threading.Event().wait(3)


@contextmanager
def timed_until_new_version(host: TestHost) -> Iterator[list[float]]:
    """Yield a list that receives the seconds until visitors get another version."""
    before, began, taken = host.version(), time.monotonic(), []

    def watch() -> None:
        def require_new_version() -> None:
            if host.version() in ("", before):
                _not_yet()

        probe.wait_until(
            require_new_version, condition="another version", timeout_s=120, every_s=0.05
        )
        taken.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield taken
    watcher.join()


def _not_yet() -> None:
    raise probe.NotYet("no answer, or the old version")


def show(measurements: list[Measurement], start_up_s: float) -> bool:
    """Print one row per method; return True if ours meets the target."""
    table = Table(title=f"Releases under load; the application starts in {start_up_s:.1f} s")
    for column in (
        *("method", "releases", "requests", "per second", "failed", "per release", "retried"),
        *("slowest fast", "99 %", "new version serves after", "without start-up"),
    ):
        table.add_column(column, justify="left" if column == "method" else "right")
    for measurement in measurements:
        tally, fast = measurement.tally, sorted(measurement.tally.fast_ms)
        serving_s = statistics.median(measurement.serving_s)
        table.add_row(
            measurement.name,
            str(len(measurement.serving_s)),
            f"{tally.count:,}",
            f"{tally.rate:.0f}",
            str(len(tally.failures)),
            f"{len(tally.failures) / len(measurement.serving_s):.1f}",
            str(tally.retried),
            f"{fast[-1]:.0f} ms",
            f"{fast[int(len(fast) * 0.99)]:.0f} ms",
            f"{serving_s:.1f} s",
            f"{serving_s - start_up_s:.1f} s",
        )
    Console(width=140).print(table)
    for at, request, reason in measurements[0].tally.failures[:10]:
        print(f"failed at {at:.1f} s: {request}: {reason}")
    return is_within(measurements[0], start_up_s)


def is_within(measurement: Measurement, start_up_s: float) -> bool:
    """Return True if the target is met."""
    return (
        not measurement.tally.failures
        and measurement.tally.count >= TARGET_REQUESTS
        and max(measurement.tally.fast_ms) < TARGET_MS
        and statistics.median(measurement.serving_s) - start_up_s <= TARGET_S
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
