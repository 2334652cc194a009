"""The small parts of the release program, and that it runs on a bare host."""

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
from daybook_release.errors import Failed, Refused, ReleaseError, Usage
from daybook_release.host import LAST_BYTES, WHOLE_BYTES, Answer, Host, Ran
from daybook_release.progress import Progress
from daybook_release.site import Site

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


class Scripted(Host):
    """A host whose commands end as told, and are remembered."""

    def __init__(self, *ends: Ran) -> None:
        super().__init__()
        self.ends, self.commands, self.environments, self.texts = list(ends), [], [], []

    def run(self, command, *, env=None, text=None, **how):
        self.commands.append(list(command))
        self.environments.append(dict(env or {}))
        self.texts.append(text)
        return self.ends.pop(0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_needs_the_standard_library_and_yaml_alone(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names}
    assert tops <= set(sys.stdlib_module_names) | {"daybook_release", "yaml"}


def test_it_is_packed_into_one_file_that_runs_and_is_the_same_each_time(tmp_path):
    pack = ROOT / "ansible/roles/app/files/pack.py"
    made = [tmp_path / "one", tmp_path / "two"]
    for path in made:
        subprocess.run([sys.executable, pack, path], check=True)
    assert made[0].read_bytes() == made[1].read_bytes()
    command = [sys.executable, "-I", made[0], "--help"]
    assert "rollback" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_settings_are_read_and_named_by_their_content():
    text = json.dumps(SETTINGS)
    read = settings.parse(text)
    assert (read.name, read.scheme, read.secrets) == ("shop.test", "https", ("MAIL_TOKEN",))
    assert settings.digest(text) != settings.digest(text + " ")


@pytest.mark.parametrize("text", ["", "[]", '{"app": "shop"}', json.dumps(SETTINGS | {"new": 1})])
def test_settings_that_are_not_what_is_expected_are_refused(text):
    with pytest.raises(Refused) as refused:
        settings.parse(text)
    assert "configure" in refused.value.next


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (f"{REPOSITORY}:latest", Usage),
        (f"{REPOSITORY}@sha256:12", Usage),
        (f"elsewhere/shop@sha256:{'0' * 64}", Refused),
        (f"{REPOSITORY}@sha256:{'0' * 64}", None),
    ],
)
def test_an_image_is_named_by_digest_and_comes_from_the_one_repository(image, error):
    its = settings.parse(json.dumps(SETTINGS))
    if error is None:
        prepare.check_reference(image, its)
        return
    with pytest.raises(error):
        prepare.check_reference(image, its)


def test_a_label_is_base64_of_gzip():
    assert prepare.unpack(base64.b64encode(gzip.compress("services: ä".encode())).decode()) == (
        "services: ä"
    )
    with pytest.raises(Refused):
        prepare.unpack("nonsense")


@pytest.fixture
def caddy(tmp_path, monkeypatch):
    """Return a Caddy that runs, with folders of its own, and the host that notes its reloads."""
    monkeypatch.setattr(site, "SITES", tmp_path)
    monkeypatch.setattr(site, "SLOTS", tmp_path / "slots")
    host = Scripted()
    it = site.Caddy(host, "shop")
    monkeypatch.setattr(it, "is_running", lambda: True)
    return it, host


def test_another_slot_needs_no_reload(caddy):
    it, host = caddy
    host.ends = [Ran(0, "", "")]
    for is_second in (True, False, True):
        it.switch(Site("text", "shop.8001", is_second))
        assert (site.SLOTS / "shop.8001").exists() == is_second
        assert it.serves(Site("text", "shop.8001", is_second))
        assert not it.serves(Site("text", "shop.8001", not is_second))
    assert [command[:2] for command in host.commands] == [["caddy", "reload"]]


def test_caddy_sees_the_slot_whatever_the_umask_of_who_calls(caddy):
    it, host = caddy
    host.ends = [Ran(0, "", "")]
    before = os.umask(0o077)
    try:
        it.switch(Site("text", "shop.8001", is_second=True))
    finally:
        os.umask(before)
    assert stat.S_IMODE(site.SLOTS.stat().st_mode) == 0o755
    assert stat.S_IMODE((site.SLOTS / "shop.8001").stat().st_mode) == 0o644


def test_a_site_that_caddy_refuses_leaves_text_and_slot_as_they_were(caddy):
    it, host = caddy
    host.ends = [Ran(0, "", ""), Ran(1, "", "Error: no such directive")]
    it.switch(Site("good", "shop.8001"))
    with pytest.raises(Failed, match="no such directive"):
        it.switch(Site("bad", "shop.8001", is_second=True))
    assert it.serves(Site("good", "shop.8001"))


def test_a_caddy_that_does_not_run_is_led_nowhere(caddy, monkeypatch):
    it, _ = caddy
    monkeypatch.setattr(it, "is_running", lambda: False)
    with pytest.raises(Failed, match="Caddy does not run"):
        it.switch(Site("text", "shop.8001", is_second=True))
    assert not site.SLOTS.exists()


def test_maintenance_leaves_the_slot_alone(caddy):
    it, host = caddy
    host.ends = [Ran(0, "", "")] * 2
    it.switch(Site("text", "shop.8001", is_second=True))
    it.switch(Site("closed"))
    assert (site.SLOTS / "shop.8001").exists()


def test_secrets_are_fetched_ten_at_a_time_each_at_its_version():
    names = [f"S{number:02}" for number in range(12)]
    found = [
        {"Name": f"/shop/staging/{name}", "Value": name.lower(), "Version": 2} for name in names
    ]
    answers = (found[:10], found[10:])
    ends = [Ran(0, json.dumps({"Parameters": p, "InvalidParameters": []}), "") for p in answers]
    host = Scripted(*ends)
    wanted = dict.fromkeys(names) | {"S01": 7}
    values, versions = parameters.fetch(host, "us-east-1", "/shop/staging/", wanted)
    assert [len(command[command.index("--names") + 1 :]) for command in host.commands] == [10, 2]
    assert "/shop/staging/S01:7" in host.commands[0]
    assert values["S11"] == "s11"
    assert set(versions.values()) == {2}


def test_a_secret_without_value_is_named():
    answer = {"Parameters": [], "InvalidParameters": ["/shop/staging/MAIL_TOKEN:3"]}
    host = Scripted(Ran(0, json.dumps(answer), ""))
    with pytest.raises(Refused, match="No value is set for MAIL_TOKEN:3") as refused:
        parameters.fetch(host, "us-east-1", "/shop/staging/", {"MAIL_TOKEN": 3})
    assert refused.value.next == "daybook secrets set MAIL_TOKEN"


@pytest.mark.attack("F8", "a secret's value becomes a variable of a program that root runs")
def test_secrets_reach_compose_on_its_standard_input_alone():
    host = Scripted(Ran(0, "", ""))
    made = {"services": {"web-blue": {"environment": {"LD_PRELOAD": "hush\u2028"}}}}
    Docker(host, "shop").up(made, ["web-blue"])
    assert host.commands == [
        [
            *("docker", "compose", "--project-name", "shop", "--project-directory", "/"),
            *("--env-file", "/dev/null", "--file", "-"),
            *("up", "--detach", "--no-build", "--no-deps", "--pull", "never", "--", "web-blue"),
        ]
    ]
    assert host.environments == [
        {
            "DOCKER_HOST": "unix:///var/run/docker.sock",
            "DOCKER_CONFIG": "/nonexistent",
            "HOME": "/nonexistent",
            "COMPOSE_IGNORE_ORPHANS": "1",
        }
    ]
    assert json.loads(host.texts[0]) == made


def test_a_full_disk_is_told_with_what_makes_room():
    host = Scripted(Ran(1, "", "write /x: no space left on device"))
    with pytest.raises(Refused) as refused:
        Docker(host, "shop").pull(f"{REPOSITORY}@sha256:{'0' * 64}")
    assert refused.value.next == "sudo release prune"


def test_a_command_that_takes_too_long_is_ended():
    done = Host().run(["sleep", "30"], timeout_s=0.2)
    assert done.code == 124
    assert "no end within" in done.err


ENDLESS = "yes é 2>/dev/null & yes ü >&2"


@pytest.mark.attack("F9", "a container prints without end into the memory of root's program")
@pytest.mark.parametrize("is_whole", [False, True])
def test_a_command_that_prints_without_end_takes_no_memory(is_whole):
    script = f"""
import resource
from daybook_release.host import Host
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
Host().run(["true"])
before = memory()
done = Host().run(["sh", "-c", {ENDLESS!r}], timeout_s=2, is_whole={is_whole})
print(memory() - before, done.code, len(done.out), len(done.err), done.last_words)
"""
    command = [sys.executable, "-c", script]
    env = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    grown, code, out, err, words = printed.split(" ", 4)
    assert int(grown) < (64 if is_whole else 16)
    assert (code, int(err) <= 65 * 1024 or is_whole) == ("124", True)
    assert int(out) <= (WHOLE_BYTES if is_whole else LAST_BYTES)
    assert ("more than 8192 KiB of output" if is_whole else "no end within 2 s") in words


def test_of_a_long_output_the_end_is_kept():
    done = Host().run(["sh", "-c", "seq 100000; seq 200000 >&2; exit 3"])
    assert done.code == 3
    assert done.out.endswith("\n99999\n100000\n")
    assert len(done.out) == len(done.err) == LAST_BYTES
    assert done.last_words == "199998 · 199999 · 200000"


def test_an_output_that_is_needed_whole_is_whole():
    numbers = "".join(f"{number}\n" for number in range(1, 300_001))
    assert Host().run(["seq", "300000"], is_whole=True).out == numbers
    assert Host().run(["cat"], text=numbers * 2, is_whole=True).out == numbers * 2


def test_an_input_that_nobody_reads_is_let_go():
    assert Host().run(["true"], text="x" * 10**6).code == 0
    assert Host().run(["sleep", "30"], text="x" * 10**6, timeout_s=0.2).code == 124


def test_a_child_that_keeps_the_output_open_is_ended_too():
    began = time.monotonic()
    done = Host().run(["sh", "-c", "trap '' TERM; sleep 60 & exec >&- 2>&-; sleep 60"], timeout_s=1)
    assert done.code == 124
    assert time.monotonic() - began < 20


@pytest.mark.attack("F8", "a variable of who calls sudo reaches a program that root runs")
def test_commands_get_no_variable_but_those_they_need(monkeypatch, tmp_path):
    for name in ("DATABASE_URL", "LD_BIND_NOW", "DOCKER_HOST", "AWS_REGION"):
        monkeypatch.setenv(name, "somebody's own")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    variables = dict(line.split("=", 1) for line in Host().run(["env"]).out.splitlines())
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert variables == {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
    assert "AWS_REGION=somebody's own" in Host().run(["env"], asks_aws=True).out


@pytest.mark.attack("F9", "a killed release's commands keep the lock for ever")
def test_what_keeps_the_lock_has_an_end_of_its_own():
    command = ["sh", "-c", "tr '\\0' ' ' < /proc/$PPID/cmdline"]
    assert "timeout" not in Host().run(command).out
    held = Host(held=[1]).run(command, timeout_s=5)
    assert held.out.startswith("timeout --kill-after=10 15 sh -c")


def test_a_command_reads_its_input():
    assert Host().run(["cat"], text="ä\n").out == "ä\n"


def test_nobody_listening_is_an_answer_too(port):
    answer = Host().ask(port, "/", "shop.test")
    assert (answer.status, "refused" in str(answer)) == (0, True)
    assert str(Answer(500)) == "HTTP 500"


def _drips(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n")
    while True:
        client.sendall(b"x")
        time.sleep(0.1)


def _goes_on(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def _has_many_lines(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X: y")
        time.sleep(0.1)


def _says_nothing(client: socket.socket) -> None:
    client.recv(1)


@pytest.mark.attack("F9", "an application answers without end, and a release waits for it")
@pytest.mark.parametrize("answer", [_drips, _goes_on, _has_many_lines, _says_nothing])
def test_an_answer_has_one_deadline(monkeypatch, answer):
    monkeypatch.setattr("daybook_release.host.ASK_S", 1.0)

    def serve() -> None:
        client, _ = server.accept()
        with client, contextlib.suppress(OSError):
            client.recv(9999)
            answer(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        got = Host().ask(server.getsockname()[1], "/up", "shop.test")
    assert time.monotonic() - began < 3
    assert (got.status, got.body) in ((0, "no whole answer within 1 s"), (0, "timed out"))


def test_an_answer_in_time_is_whole():
    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(9999)
            client.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        answer = Host().ask(server.getsockname()[1], "/up", "shop.test")
    assert (answer.status, answer.body) == (503, "x" * 65536)


def test_progress_for_a_program_is_json(capsys):
    progress = Progress(as_json=True)
    with progress.step("pull", "x"):
        pass
    with pytest.raises(Failed), progress.step("start"):
        raise Failed("no")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["step"], each["state"]) for each in said] == [
        ("pull", "begun"),
        ("pull", "done"),
        ("start", "begun"),
        ("start", "failed"),
    ]
    assert said[-1]["text"] == "no"


def test_a_reader_that_went_away_does_not_end_a_release(tmp_path):
    script = (
        "from daybook_release.progress import Progress\n"
        "input()\n"
        "progress = Progress()\n"
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


def test_each_error_has_an_exit_code_of_the_design():
    codes = {cls.__name__: cls.exit_code for cls in ReleaseError.__subclasses__()}
    assert codes == {
        "Usage": 2,
        "Refused": 3,
        "Failed": 6,
        "WentBack": 7,
        "Locked": 8,
        "Interrupted": 130,
    }
