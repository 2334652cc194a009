"""Images with compose files that request access to the host, released on a real host."""

from __future__ import annotations

import json
import textwrap

import pytest
import yaml
from compose_attacks import ORDINARY, attacked
from compose_strategies import APP as SHOP
from compose_strategies import IMAGE, render, rendered_values, texts
from confinement import gains
from hypothesis import HealthCheck, Phase, given, settings

from daybook_release import document, rules

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]

WORKER = ("services", "worker")
RELEASED = {
    "include": (("include",), ["/etc/shadow"]),
    "extends": ((*WORKER, "extends"), {"file": "/etc/shadow", "service": "x"}),
    "env_file": ((*WORKER, "env_file"), "/etc/shadow"),
    "label_file": ((*WORKER, "label_file"), "/etc/shadow"),
    "secret": (("secrets",), {"k": {"file": "/etc/shadow"}}),
    "network": (("networks",), {"h": {"external": True, "name": "host"}}),
    "volume": (("volumes", "data"), {"name": "/", "external": True}),
    "mount": (("services", "db", "volumes"), ["${X:-/}:/host"]),
    "anonymous": (("services", "db", "volumes"), ["/etc:ro"]),
    "syslog": (
        (*WORKER, "logging"),
        {"driver": "syslog", "options": {"syslog-address": "unix:///run/docker.sock"}},
    ),
    "journald": ((*WORKER, "logging"), {"driver": "journald", "options": {"tag": "sshd"}}),
    "root-s-variables": ((*WORKER, "environment"), ["AWS_ENDPOINT_URL", "HOME"]),
    "other-image": ((*WORKER, "image"), "${APP_IMAGE:+debian:trixie-slim}"),
    "option": (("services", "--privileged"), {"image": "postgres:17"}),
    "bomb": (("x-a",), [[["x"] * 20] * 20] * 20),
}
READ = """
import json, pathlib, subprocess
command = ["docker", "compose", "--project-name", "shop", "--project-directory", "/"]
command += ["--env-file", "/dev/null", "--file", "-", "config", "--format", "json"]
env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"}
for path in sorted(pathlib.Path("/root/made").iterdir()):
    text = path.read_text(encoding="utf-8")
    done = subprocess.run(command, input=text, env=env, capture_output=True, text=True)
    output = json.loads(done.stdout) if done.returncode == 0 else done.stderr[-300:]
    print(json.dumps([done.returncode, output]))
"""
LOGS = """\
#!/bin/sh
env >> /root/compose.log
printf '%s\\n' "$@" >> /root/compose.log
exec /usr/libexec/docker/cli-plugins/docker-compose "$@"
"""
PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-compose"


@pytest.fixture(scope="module", autouse=True)
def first(host):
    """The first version serves before and after every test."""
    host.deploy("one")
    yield
    assert host.serving["version"] == "one"


@pytest.mark.attack("F8", "an image is released with a compose file that reads files of root")
@pytest.mark.parametrize("name", RELEASED)
def test_an_image_that_requests_access_to_the_host_is_refused(host, workshop, name):
    text = yaml.safe_dump(attacked(*RELEASED[name]), sort_keys=False)
    image = workshop.push(f"attack-{name}", {"daybook.compose": text})
    things = "docker ps -a --format {{.Names}}; docker volume ls -q; docker network ls -q"
    before, shadow = host.sh(things), host.sh("grep -v '^$' /etc/shadow").split()
    done = host.release("deploy", image)
    assert done.code == 3, done.output
    assert "compose.yaml line " in done.output
    assert "Traceback" not in done.output
    assert not [line for line in shadow if line in done.output]
    assert host.sh(things) == before
    assert host.status["interrupted"] is None


@pytest.mark.attack("F7", "Compose interprets an allowed file differently")
def test_the_output_of_compose_gains_nothing(host):
    allowed: dict[str, dict] = {text: render(text) for text in ORDINARY.values()}

    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(texts())
    def collect(text: str) -> None:
        made = render(text)
        if made is not None and len(allowed) < 60:
            allowed[text] = made

    collect()
    assert len(allowed) > 30
    for number, made in enumerate(allowed.values()):
        host.write(f"/root/made/{number:03}.json", document.as_json(made))
    host.write("/root/read.py", READ)
    lines = host.sh("python3 /root/read.py", timeout_s=500).splitlines()
    accepted = 0
    for text, line in zip(allowed, lines, strict=True):
        code, printed = json.loads(line)
        if code == 0:
            accepted += 1
            assert gains(printed, app=SHOP, image=IMAGE) == [], text
            assert rules.problems(printed, rendered_values(text)) == [], text
        else:
            assert text not in ORDINARY.values(), printed
    assert accepted > 20


@pytest.mark.attack("F8", "a secret reaches the environment of Compose")
def test_compose_gets_no_secret_as_a_variable_or_argument(host):
    host.write(PLUGIN, LOGS)
    host.sh(f"chmod 755 {PLUGIN}; rm -f /root/compose.log")
    try:
        host.deploy("two")
        assert host.serving["token"]
        logged = host.sh("cat /root/compose.log")
    finally:
        host.sh(f"rm {PLUGIN}")
    assert host.release("rollback").code == 0
    assert "DOCKER_HOST=unix:///var/run/docker.sock" in logged
    assert host.serving["token"] not in logged
    names = {line.partition("=")[0] for line in logged.splitlines() if "=" in line}
    assert not {name for name in names if name.startswith(("AWS_", "TOKEN", "APP_", "LD_"))}


def test_containers_have_no_access_to_the_host(host):
    """Checked with `docker inspect`, independently of the files."""
    containers = json.loads(
        host.sh("docker inspect $(docker ps -q --filter label=daybook.release)")
    )
    assert containers
    for container in containers:
        config = container["HostConfig"]
        assert not config["Privileged"]
        assert not config["Binds"]
        assert (config["PidMode"], config["UTSMode"], config["IpcMode"]) == ("", "", "private")
        assert config["NetworkMode"].endswith("_default")
        assert not config["CapAdd"]
        assert not config["Devices"]
        assert {mount["Type"] for mount in container["Mounts"]} <= {"volume", "tmpfs"}


class EndlessRelease:
    """A release with a migration that never ends."""

    def __init__(self, host, before: str = "") -> None:
        self.host = host
        words = f"deploy {host.images['endless']} --by bob"
        script = f"""
            import sys
            sys.path.insert(0, "/usr/local/sbin/release")
            from daybook_release import limits
            {before}
            from daybook_release import cli
            sys.exit(cli.main({words.split()!r}))
        """
        host.write("/root/going.py", textwrap.dedent(script))
        line = "set -a; . /etc/environment; python3 /root/going.py > /root/going.out 2>&1"
        host.write("/root/going.sh", f"{line}; echo $? > /root/going.code\n")
        host.sh("rm -f /root/going.code; setsid sh /root/going.sh > /dev/null 2>&1 < /dev/null &")
        host.eventually(self.is_migrating, within_s=120)

    def is_migrating(self) -> bool:
        deploying = self.host.status["deploying"] or {}
        one_off = "docker ps -q --filter label=com.docker.compose.oneoff=True"
        return deploying.get("phase") == "migrate" and bool(self.host.sh(one_off))

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and output."""
        ended = "cat /root/going.code 2>/dev/null || true"
        self.host.eventually(lambda: bool(self.host.sh(ended)), within_s=180)
        return int(self.host.sh("cat /root/going.code")), self.host.sh("cat /root/going.out")


def assert_undone(host) -> None:
    assert host.serving["version"] == "one"
    assert host.status["deploying"] is None
    assert host.status["interrupted"] is None
    assert host.sh("docker ps -aq --filter label=com.docker.compose.oneoff=True") == ""


@pytest.mark.attack("F9", "an endless migration blocks every other release")
def test_stop_ends_a_release_and_undoes_it(host):
    running = EndlessRelease(host)
    busy = host.release("deploy", "two")
    assert busy.code == 8
    assert "by bob" in busy.output
    assert "sudo release stop" in busy.next
    assert "sudo release stop" in host.release("status").output
    done = host.release("stop")
    assert done.code == 0, done.output
    assert "deploy was ended" in done.output
    assert "version one answers" in done.output
    code, output = running.ended()
    assert (code, "Interrupted by SIGTERM" in output) == (130, True)
    assert_undone(host)


def test_stop_without_a_release_changes_nothing(host):
    done = host.release("stop")
    assert (done.code, "no command is running" in done.output) == (0, True)


@pytest.mark.attack("F9", "the commands of a killed release hold the lock forever")
def test_stop_ends_the_processes_of_a_killed_release(host):
    EndlessRelease(host)
    pid = host.status["deploying"]["pid"]
    host.sh(f"kill -KILL {pid}")
    busy = host.release("deploy", "two")
    assert busy.code == 8, busy.output
    done = host.release("stop")
    assert done.code == 0, done.output
    assert "next: sudo release repair" in done.output
    assert host.release("repair").code == 0
    assert_undone(host)


@pytest.mark.attack("F9", "a release runs for hours")
def test_a_release_is_undone_at_its_time_limit(host):
    code, output = EndlessRelease(host, before="limits.RELEASE_S = 60").ended()
    assert code == 6, output
    assert "exceeded its limit" in output
    assert_undone(host)
