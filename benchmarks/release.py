"""What a release costs its visitors: ours, the article's `down && up -d`, and `up -d` in place.

    python benchmarks/release.py [RELEASES]     # about fifteen minutes; needs Docker

A fresh sandbox, one machine, one load of sixteen visitors (load.py) over TLS: GETs and POSTs on
kept and on new connections, requests of five seconds, a stream of ten. Two versions of one
application take turns. Nothing but the sandbox's own machine is asked. The aim: of at least
20,000 requests none fails, no fast one takes 500 ms, and a new version serves within 6 s of the
command, the application's own start-up taken off.
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
OTHERS = 5
"""Releases of each way that is compared with; each loses enough to be counted."""
AIM_S, AIM_MS, AIM_REQUESTS = 6.0, 500, 20_000
FIXED_PORT = 9100
COMPOSE = "docker compose --project-name bare --file /opt/bare/compose.yaml"
WAYS = {
    "down && up -d": f"{COMPOSE} down && {COMPOSE} up -d",
    "up -d in place": f"{COMPOSE} up -d",
}


@dataclass(frozen=True)
class Way:
    """How one way of releasing went. serving_s: from the command until the new version answers."""

    name: str
    tally: Tally
    serving_s: tuple[float, ...]


@dataclass(frozen=True)
class Ground:
    """A host with two images of the application, and the name that visitors use."""

    host: Host
    environment: Environment
    images: tuple[str, str]

    @property
    def name(self) -> str:
        return self.environment.settings.domains[0]

    def load(self):
        """Put the load on."""
        ca_file = self.environment.target.environ["DAYBOOK_CA_FILE"]
        return load(self.name, self.host.address, ca_file)

    def version(self) -> str:
        """Return which version answers visitors, "" when none does."""
        url = f"https://{self.name}/version"
        try:
            answer = probe.fetch(url, self.environment.target.environ, at=self.host.address)
            return answer.json()["version"]
        except (probe.NotYet, ValueError):
            return ""

    def shell(self, line: str, stdin: str = "") -> str:
        """Run a line as root on the host."""
        command = [*self.host.command([])[:-1], f"sudo sh -euc {shlex.quote(line)}"]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{line}: {done.returncode}\n{done.stderr}")
        return done.stdout.strip()


def main() -> None:
    """Measure, print the table, and end with 1 when the aim is missed."""
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with fresh_project() as root:
        ground = prepare(root)
        start_up_s = start_up(ground)
        ways = [ours(ground, releases), *bare(ground)]
    sys.exit(0 if show(ways, start_up_s) else 1)


def prepare(root: Path) -> Ground:
    """Make a host that serves the benchmark's application, and two images of it in ECR."""
    shutil.rmtree(root / "app")
    shutil.copytree(APP, root / "app")
    for step in ("provision", "configure", "first-deploy"):
        say(step)
        timed([DAYBOOK, "run", step, *APPROVED], root)
    with (root / "app/server.py").open("a") as file:
        file.write("# another version\n")
    timed([DAYBOOK, "run", "first-deploy", *APPROVED], root)
    environment = Environment.load(root, ENV)
    [host] = environment.hosts
    first, second = (each.image for each in host.releases())
    return Ground(host, environment, (first, second))


def start_up(ground: Ground) -> float:
    """Return the seconds that the application itself needs from its start to its first answer."""
    line = (
        f"docker run --detach --rm --publish 127.0.0.1:9000:8000 {ground.images[0]} >/dev/null;"
        " began=$(date +%s%N); until curl -sfo /dev/null http://127.0.0.1:9000/up; do :; done;"
        " echo $(( $(date +%s%N) - began ));"
        " docker rm --force $(docker ps -q --filter publish=9000) >/dev/null"
    )
    return statistics.median(int(ground.shell(line)) / 1e9 for _ in range(3))


def ours(ground: Ground, releases: int) -> Way:
    """Release the two images in turn."""

    def release(image: str) -> None:
        ground.host.deploy(image, by="benchmark", run="", secrets={})

    return measure(ground, "release", releases, release)


def bare(ground: Ground) -> Iterator[Way]:
    """Release in the two ways that Compose has by itself, behind the same Caddy."""
    ground.shell(
        "mkdir -p /opt/bare; cat > /opt/bare/compose.yaml", (APP / "compose.yaml").read_text()
    )
    site = f"{ground.name} {{\n\treverse_proxy 127.0.0.1:{FIXED_PORT}\n}}\n"
    ground.shell(f"cat > /etc/caddy/sites/{ground.environment.settings.app}.caddy", site)
    ground.shell("systemctl reload caddy")
    for name, command in WAYS.items():
        ground.shell(env_file(ground.images[0]) + f"{COMPOSE} up -d --wait")
        yield measure(
            ground,
            name,
            OTHERS,
            lambda image, command=command: ground.shell(env_file(image) + command),
        )


def env_file(image: str) -> str:
    """Return the line of a shell that writes the environment of an image."""
    values = f"APP_IMAGE={image}\\nAPP_PORT={FIXED_PORT}\\nAPP_VERSION={image[-12:]}\\n"
    return f"printf '{values}' > /opt/bare/.env; "


def measure(ground: Ground, name: str, releases: int, release: Callable[[str], None]) -> Way:
    """Release the images in turn under the load."""
    serving_s = []
    with ground.load() as tally:
        settle(ground)
        for number in range(releases):
            say(f"{name}: {number + 1} of {releases}, {len(tally.failures)} failed so far")
            with until_another_serves(ground) as taken:
                release(ground.images[1 - number % 2])
            serving_s += taken
        settle(ground)
    return Way(name, tally, tuple(serving_s))


def settle(ground: Ground) -> None:
    """Wait until visitors are served and some seconds of plain load are counted."""
    probe.wait_until(lambda: ground.version() or _not_yet(), condition="an answer", timeout_s=60)
    threading.Event().wait(3)


@contextmanager
def until_another_serves(ground: Ground) -> Iterator[list[float]]:
    """Yield a list that gets the seconds until visitors see another version."""
    before, began, taken = ground.version(), time.monotonic(), []

    def watch() -> None:
        def look() -> None:
            if ground.version() in ("", before):
                _not_yet()

        probe.wait_until(look, condition="another version", timeout_s=120, every_s=0.05)
        taken.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield taken
    watcher.join()


def _not_yet() -> None:
    raise probe.NotYet("no answer, or the old one")


def show(ways: list[Way], start_up_s: float) -> bool:
    """Print one row a way; tell whether ours is within the aim."""
    table = Table(title=f"Releases under load; the application starts in {start_up_s:.1f} s")
    for column in (
        *("way", "releases", "requests", "a second", "failed", "a release", "asked again"),
        *("slowest fast", "99 %", "new version serves after", "of it ours"),
    ):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in ways:
        tally, fast = way.tally, sorted(way.tally.fast_ms)
        serving_s = statistics.median(way.serving_s)
        table.add_row(
            way.name,
            str(len(way.serving_s)),
            f"{tally.count:,}",
            f"{tally.rate:.0f}",
            str(len(tally.failures)),
            f"{len(tally.failures) / len(way.serving_s):.1f}",
            str(tally.asked_again),
            f"{fast[-1]:.0f} ms",
            f"{fast[int(len(fast) * 0.99)]:.0f} ms",
            f"{serving_s:.1f} s",
            f"{serving_s - start_up_s:.1f} s",
        )
    Console(width=140).print(table)
    for at, what, why in ways[0].tally.failures[:10]:
        print(f"failed at {at:.1f} s: {what}: {why}")
    return is_within(ways[0], start_up_s)


def is_within(way: Way, start_up_s: float) -> bool:
    """Tell whether the aim is met."""
    return (
        not way.tally.failures
        and way.tally.count >= AIM_REQUESTS
        and max(way.tally.fast_ms) < AIM_MS
        and statistics.median(way.serving_s) - start_up_s <= AIM_S
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
