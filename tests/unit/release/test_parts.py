"""The small parts of the release program, and its dependencies."""

from __future__ import annotations

import ast
import base64
import contextlib
import gzip
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daybook_release import parameters, prepare, settings, site
from daybook_release.docker import Docker
from daybook_release.errors import Failed, Refused, ReleaseError, UsageError
from daybook_release.progress import ProgressReporter
from daybook_release.site import Site
from daybook_release.system import LAST_BYTES, WHOLE_BYTES, CommandResult, HttpResponse, System

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "lib/daybook_release").glob("*.py"))
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop"
SETTINGS = {
    "app": "shop",
    "environment": "staging",
    "host": "shop-staging-1",
    "repository": REPOSITORY,
    "region": "us-east-1",
    "names": ["shop.test", "www.shop.test"],
    "port": 8000,
    "parameters": "/shop/staging/",
    "secrets": ["MAIL_TOKEN"],
    "keep": 5,
}


class RecordingSystem(System):
    """A system that records commands and returns prepared results."""

    def __init__(self, *results: CommandResult) -> None:
        super().__init__()
        self.results, self.commands, self.environments, self.texts = list(results), [], [], []

    def run(self, command, *, env=None, text=None, **options):
        self.commands.append(list(command))
        self.environments.append(dict(env or {}))
        self.texts.append(text)
        return self.results.pop(0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_imports_only_the_standard_library_and_yaml(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names}
    assert tops <= set(sys.stdlib_module_names) | {"daybook_release", "yaml"}


def test_it_is_packed_reproducibly_into_one_file_that_runs(tmp_path):
    pack = ROOT / "ansible/roles/app/files/pack.py"
    packed = [tmp_path / "one", tmp_path / "two"]
    for path in packed:
        subprocess.run([sys.executable, pack, path], check=True)
    assert packed[0].read_bytes() == packed[1].read_bytes()
    command = [sys.executable, "-I", packed[0], "--help"]
    assert "rollback" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_settings_are_parsed_and_identified_by_a_digest():
    text = json.dumps(SETTINGS)
    parsed = settings.parse(text)
    assert (parsed.name, parsed.scheme, parsed.secrets) == ("shop.test", "https", ("MAIL_TOKEN",))
    assert settings.digest(text) != settings.digest(text + " ")


@pytest.mark.parametrize("text", ["", "[]", '{"app": "shop"}', json.dumps(SETTINGS | {"new": 1})])
def test_invalid_settings_are_refused(text):
    with pytest.raises(Refused) as refused:
        settings.parse(text)
    assert "configure" in refused.value.next


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (f"{REPOSITORY}:latest", UsageError),
        (f"{REPOSITORY}@sha256:12", UsageError),
        (f"elsewhere/shop@sha256:{'0' * 64}", Refused),
        (f"{REPOSITORY}@sha256:{'0' * 64}", None),
    ],
)
def test_an_image_has_a_digest_and_comes_from_the_host_s_repository(image, error):
    host_settings = settings.parse(json.dumps(SETTINGS))
    if error is None:
        prepare.check_reference(image, host_settings)
        return
    with pytest.raises(error):
        prepare.check_reference(image, host_settings)


def test_a_label_is_base64_of_gzip():
    assert prepare.unpack(base64.b64encode(gzip.compress("services: ä".encode())).decode()) == (
        "services: ä"
    )
    with pytest.raises(Refused):
        prepare.unpack("nonsense")


@pytest.fixture
def running_caddy(tmp_path, monkeypatch):
    """Return a running Caddy with temporary folders, and the system that records its reloads."""
    monkeypatch.setattr(site, "SITES", tmp_path)
    monkeypatch.setattr(site, "SLOTS", tmp_path / "slots")
    system = RecordingSystem()
    caddy = site.Caddy(system, "shop")
    monkeypatch.setattr(caddy, "is_running", lambda: True)
    return caddy, system


def test_switching_the_slot_needs_no_reload(running_caddy):
    caddy, system = running_caddy
    system.results = [CommandResult(0, "", "")]
    for is_second in (True, False, True):
        caddy.switch(Site("text", "shop.8001", is_second))
        assert (site.SLOTS / "shop.8001").exists() == is_second
        assert caddy.serves(Site("text", "shop.8001", is_second))
        assert not caddy.serves(Site("text", "shop.8001", not is_second))
    assert [command[:2] for command in system.commands] == [["caddy", "reload"]]


def test_caddy_can_read_the_slot_with_any_umask(running_caddy):
    caddy, system = running_caddy
    system.results = [CommandResult(0, "", "")]
    before = os.umask(0o077)
    try:
        caddy.switch(Site("text", "shop.8001", is_second=True))
    finally:
        os.umask(before)
    assert stat.S_IMODE(site.SLOTS.stat().st_mode) == 0o755
    assert stat.S_IMODE((site.SLOTS / "shop.8001").stat().st_mode) == 0o644


def test_a_site_that_caddy_rejects_leaves_text_and_slot_unchanged(running_caddy):
    caddy, system = running_caddy
    system.results = [CommandResult(0, "", ""), CommandResult(1, "", "Error: no such directive")]
    caddy.switch(Site("good", "shop.8001"))
    with pytest.raises(Failed, match="no such directive"):
        caddy.switch(Site("bad", "shop.8001", is_second=True))
    assert caddy.serves(Site("good", "shop.8001"))


def test_a_stopped_caddy_is_not_switched(running_caddy, monkeypatch):
    caddy, _ = running_caddy
    monkeypatch.setattr(caddy, "is_running", lambda: False)
    with pytest.raises(Failed, match="Caddy is not running"):
        caddy.switch(Site("text", "shop.8001", is_second=True))
    assert not site.SLOTS.exists()


def test_maintenance_does_not_change_the_slot(running_caddy):
    caddy, system = running_caddy
    system.results = [CommandResult(0, "", "")] * 2
    caddy.switch(Site("text", "shop.8001", is_second=True))
    caddy.switch(Site("closed"))
    assert (site.SLOTS / "shop.8001").exists()


def test_secrets_are_fetched_in_batches_with_pinned_versions():
    names = [f"S{number:02}" for number in range(12)]
    stored = [
        {"Name": f"/shop/staging/{name}", "Value": name.lower(), "Version": 2} for name in names
    ]
    batches = (stored[:10], stored[10:])
    results = [
        CommandResult(0, json.dumps({"Parameters": p, "InvalidParameters": []}), "")
        for p in batches
    ]
    system = RecordingSystem(*results)
    pinned_versions = dict.fromkeys(names) | {"S01": 7}
    values, versions = parameters.fetch(system, "us-east-1", "/shop/staging/", pinned_versions)
    assert [len(command[command.index("--names") + 1 :]) for command in system.commands] == [10, 2]
    assert "/shop/staging/S01:7" in system.commands[0]
    assert values["S11"] == "s11"
    assert set(versions.values()) == {2}


def test_a_secret_without_a_value_is_reported():
    answer = {"Parameters": [], "InvalidParameters": ["/shop/staging/MAIL_TOKEN:3"]}
    system = RecordingSystem(CommandResult(0, json.dumps(answer), ""))
    with pytest.raises(Refused, match="No value is set for MAIL_TOKEN:3") as refused:
        parameters.fetch(system, "us-east-1", "/shop/staging/", {"MAIL_TOKEN": 3})
    assert refused.value.next == "daybook secrets set MAIL_TOKEN"


@pytest.mark.attack("F8", "a secret becomes an environment variable of a program that root runs")
def test_compose_gets_secrets_only_on_standard_input():
    system = RecordingSystem(CommandResult(0, "", ""))
    packed = {"services": {"web-blue": {"environment": {"LD_PRELOAD": "hush\u2028"}}}}
    Docker(system, "shop").up(packed, ["web-blue"])
    assert system.commands == [
        [
            *("docker", "compose", "--project-name", "shop", "--project-directory", "/"),
            *("--env-file", "/dev/null", "--file", "-"),
            *("up", "--detach", "--no-build", "--no-deps", "--pull", "never", "--", "web-blue"),
        ]
    ]
    assert system.environments == [
        {
            "DOCKER_HOST": "unix:///var/run/docker.sock",
            "DOCKER_CONFIG": "/nonexistent",
            "HOME": "/nonexistent",
            "COMPOSE_IGNORE_ORPHANS": "1",
        }
    ]
    assert json.loads(system.texts[0]) == packed


def test_a_full_disk_is_reported_with_the_remedy():
    system = RecordingSystem(CommandResult(1, "", "write /x: no space left on device"))
    with pytest.raises(Refused) as refused:
        Docker(system, "shop").pull(f"{REPOSITORY}@sha256:{'0' * 64}")
    assert refused.value.next == "sudo release prune"


def test_a_command_is_ended_at_its_timeout():
    result = System().run(["sleep", "30"], timeout_s=0.2)
    assert result.code == 124
    assert "timed out after" in result.err


ENDLESS = "yes é 2>/dev/null & yes ü >&2"


@pytest.mark.attack("F9", "endless output of a container fills the memory of root's program")
@pytest.mark.parametrize("whole_output", [False, True])
def test_endless_output_does_not_fill_the_memory(whole_output):
    script = f"""
import resource
from daybook_release.system import System
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
System().run(["true"])
before = memory()
result = System().run(["sh", "-c", {ENDLESS!r}], timeout_s=2, whole_output={whole_output})
print(memory() - before, result.code, len(result.out), len(result.err), result.output_tail)
"""
    command = [sys.executable, "-c", script]
    env = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    grown, code, out, err, words = printed.split(" ", 4)
    assert int(grown) < (64 if whole_output else 16)
    assert (code, int(err) <= 65 * 1024 or whole_output) == ("124", True)
    assert int(out) <= (WHOLE_BYTES if whole_output else LAST_BYTES)
    assert ("printed more than 8192 KiB" if whole_output else "timed out after 2 s") in words


def test_the_end_of_long_output_is_kept():
    result = System().run(["sh", "-c", "seq 100000; seq 200000 >&2; exit 3"])
    assert result.code == 3
    assert result.out.endswith("\n99999\n100000\n")
    assert len(result.out) == len(result.err) == LAST_BYTES
    assert result.output_tail == "199998 · 199999 · 200000"


def test_whole_output_is_complete():
    numbers = "".join(f"{number}\n" for number in range(1, 300_001))
    assert System().run(["seq", "300000"], whole_output=True).out == numbers
    assert System().run(["cat"], text=numbers * 2, whole_output=True).out == numbers * 2


def test_unread_input_does_not_block_a_command():
    assert System().run(["true"], text="x" * 10**6).code == 0
    assert System().run(["sleep", "30"], text="x" * 10**6, timeout_s=0.2).code == 124


def test_a_child_that_keeps_the_output_open_is_ended():
    began = time.monotonic()
    result = System().run(
        ["sh", "-c", "trap '' TERM; sleep 60 & exec >&- 2>&-; sleep 60"], timeout_s=1
    )
    assert result.code == 124
    assert time.monotonic() - began < 20


@pytest.mark.attack("F8", "a variable of the sudo caller reaches a program that root runs")
def test_commands_get_only_the_variables_that_they_need(monkeypatch, tmp_path):
    for name in ("DATABASE_URL", "LD_BIND_NOW", "DOCKER_HOST", "AWS_REGION"):
        monkeypatch.setenv(name, "the caller's")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    variables = dict(line.split("=", 1) for line in System().run(["env"]).out.splitlines())
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert variables == {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
    assert "AWS_REGION=the caller's" in System().run(["env"], with_aws_env=True).out


@pytest.mark.attack("F9", "the commands of a killed release hold the lock forever")
def test_a_command_that_inherits_the_lock_has_its_own_timeout():
    command = ["sh", "-c", "tr '\\0' ' ' < /proc/$PPID/cmdline"]
    assert "timeout" not in System().run(command).out
    inherited_fds = System(inherited_fds=[1]).run(command, timeout_s=5)
    assert inherited_fds.out.startswith("timeout --kill-after=10 15 sh -c")


def test_a_command_reads_its_input():
    assert System().run(["cat"], text="ä\n").out == "ä\n"


def test_a_refused_connection_is_a_response_with_status_0(port):
    answer = System().http_get(port, "/", "shop.test")
    assert (answer.status, "refused" in str(answer)) == (0, True)
    assert str(HttpResponse(500)) == "HTTP 500"


def _sends_slowly(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n")
    while True:
        client.sendall(b"x")
        time.sleep(0.1)


def _continues_forever(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def _sends_endless_headers(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X: y")
        time.sleep(0.1)


def _never_responds(client: socket.socket) -> None:
    client.recv(1)


@pytest.mark.attack("F9", "an application sends an endless response, and a release waits for it")
@pytest.mark.parametrize(
    "answer", [_sends_slowly, _continues_forever, _sends_endless_headers, _never_responds]
)
def test_a_response_has_one_deadline(monkeypatch, answer):
    monkeypatch.setattr("daybook_release.system.HTTP_S", 1.0)

    def serve() -> None:
        client, _ = server.accept()
        with client, contextlib.suppress(OSError):
            client.recv(9999)
            answer(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        response = System().http_get(server.getsockname()[1], "/up", "shop.test")
    assert time.monotonic() - began < 3
    assert (response.status, response.body) in (
        (0, "no complete response within 1 s"),
        (0, "timed out"),
    )


def test_a_long_response_is_truncated():
    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(9999)
            client.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        answer = System().http_get(server.getsockname()[1], "/up", "shop.test")
    assert (answer.status, answer.body) == (503, "x" * 65536)


def test_progress_can_be_json(capsys):
    progress = ProgressReporter(as_json=True)
    with progress.step("pull", "x"):
        pass
    with pytest.raises(Failed), progress.step("start"):
        raise Failed("no")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["step"], event["state"]) for event in events] == [
        ("pull", "begun"),
        ("pull", "done"),
        ("start", "begun"),
        ("start", "failed"),
    ]
    assert events[-1]["text"] == "no"


def test_a_disconnected_reader_does_not_end_a_release(tmp_path):
    script = (
        "from daybook_release.progress import ProgressReporter\n"
        "input()\n"
        "progress = ProgressReporter()\n"
        "for number in range(3):\n"
        "    with progress.step('start'): progress.line('still here')\n"
        f"open({str(tmp_path / 'end')!r}, 'w').close()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "end").exists()


def test_each_error_has_its_exit_code():
    codes = {cls.__name__: cls.exit_code for cls in ReleaseError.__subclasses__()}
    assert codes == {
        "UsageError": 2,
        "Refused": 3,
        "Failed": 6,
        "Reverted": 7,
        "Locked": 8,
        "Interrupted": 130,
    }
