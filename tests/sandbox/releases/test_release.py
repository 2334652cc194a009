"""Releases of good and bad images on a real host."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time

import httpx
import pytest

from .conftest import NAME

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def first(host):
    """Release the first image; every test starts and ends with a serving version."""
    return host.deploy("one")


def test_first_release_serves_with_its_secret_and_its_worker(host, first):
    assert host.serving == {"version": "one", "token": "kept-2f8c41a7"}
    id = host.status["current"]
    assert {"web-blue": id, "worker": id, "store": ""} == host.running
    assert "migrate     python3 migrate.py" in first.output


def test_secrets_are_in_no_public_file_and_in_no_record(host):
    found = host.sh("grep -rl kept-2f8c41a7 /srv /etc || true").split()
    assert [path.rpartition("/")[2] for path in found] == ["environment.json"]
    assert host.sh(f"stat -c %a {found[0]}") == "600"


def test_a_release_and_its_rollback_change_slots_without_failed_requests(host):
    kept = PersistentVisitor(host)
    assert kept.version() == "one"
    with Visitors(host) as visitors:
        host.deploy("two")
        assert host.serving["version"] == kept.version() == "two"
        done = host.release("rollback")
        assert done.code == 0, done.output
        assert kept.version() == "one"
    assert visitors.failures == []
    assert visitors.count > 100
    assert host.serving["version"] == "one"
    newest, oldest = host.list[0], host.list[-1]
    assert (newest["version"], newest["result"], newest["by"]) == ("two", "rolled back", "ann")
    assert (oldest["version"], oldest["result"], oldest["current"]) == ("one", "serving", True)
    assert oldest["again"][0]["by"] == "ann"
    assert set(host.running.values()) == {"", oldest["id"]}


def test_a_repeated_release_changes_nothing(host):
    before = host.list
    assert "Nothing to do" in host.deploy("one").output
    assert host.list == before


@pytest.mark.parametrize(
    ("image", "code", "says"),
    [
        ("missing", 3, "cannot be pulled"),
        ("fixed", 3, "two copies could not run side by side"),
        ("site", 3, "Caddyfile line 2: reverse_proxies is not allowed"),
        ("stuck", 6, "column exists already"),
        ("exits", 6, "there is no database"),
        ("sick", 6, "does not become healthy"),
        ("lies", 6, "/version says another, the image says lies"),
        ("hides", 7, "Through Caddy /up answers with HTTP 500"),
    ],
)
def test_a_bad_image_never_replaces_a_good_one(host, image, code, says):
    before, running = host.status["current"], host.running
    done = host.release("deploy", image)
    assert done.code == code, done.output
    assert says in done.output
    assert done.next
    assert host.serving["version"] == "one"
    assert host.status["current"] == before
    assert host.status["interrupted"] is None
    assert host.running == running
    if code != 3:
        assert host.list[0]["result"] == "failed"
        assert says in host.list[0]["error"]


def test_a_refused_compose_file_is_reported_with_its_line(host):
    said = host.release("deploy", "fixed").output
    assert "compose.yaml line 14: two copies could not run side by side; write 127.0.0.1:" in said


def test_json_progress_is_one_object_per_line_and_a_result(host):
    lines = [json.loads(line) for line in host.deploy("two", "--json").output.splitlines()]
    assert lines[-1]["result"]["version"] == "two"
    assert lines[-1]["result"]["secrets"] == {"TOKEN": 1}
    steps = [line["step"] for line in lines[:-1] if line["state"] == "done"]
    assert steps.index("check") < steps.index("switch") < steps.index("outside")
    failed = host.release("deploy", "lies", "--json")
    *_, last = (json.loads(line) for line in failed.output.splitlines() if line.startswith("{"))
    assert last["error"]["code"] == failed.code == 6


def test_secrets_versions_are_released_and_rolled_back(host, aws):
    name = host.serving["version"]
    aws("ssm").put_parameter(
        Name=json.loads(host.sh("cat /etc/daybook/release.json"))["parameters"] + "TOKEN",
        Value="kept-second",
        Type="SecureString",
        Overwrite=True,
    )
    host.deploy(name, "--secrets", "TOKEN=2")
    assert host.serving["token"] == "kept-second"
    assert host.release("rollback").code == 0
    assert host.serving["token"] == "kept-2f8c41a7"
    unknown = host.release("deploy", "one", "--secrets", "OTHER=1")
    assert (unknown.code, "OTHER" in unknown.output) == (3, True)
    gone = host.release("deploy", "one", "--secrets", "TOKEN=9")
    assert gone.code == 3, gone.output


def test_a_concurrent_release_is_refused(host):
    before = host.serving["version"]
    with host.held("check", "deploy", "lies"):
        done = host.release("deploy", "two")
        assert (done.code, "by bob" in done.output, done.next) == (
            8,
            True,
            "Next: wait for it: sudo release status; or end it: sudo release stop",
        )
        assert host.status["deploying"]["by"] == "bob"
        assert host.status["interrupted"] is None
    assert host.status["interrupted"]["phase"] == "check"
    assert host.release("repair").code == 0
    assert host.status["interrupted"] is None
    assert host.serving["version"] == before


def test_a_release_works_during_maintenance(host):
    name = {"one": "two", "two": "one"}[host.serving["version"]]
    assert host.release("maintenance", "on").code == 0
    assert host.visit().status_code == 503
    host.deploy(name)
    assert host.visit().status_code == 503
    assert host.release("maintenance", "off").code == 0
    assert host.serving["version"] == name


def test_a_pruned_image_is_pulled_again_for_a_rollback(host):
    results = ("replaced", "rolled back")
    other = next(release for release in host.list if release["result"] in results)
    host.sh(
        f"docker ps -aq --filter status=exited | xargs -r docker rm; docker rmi {other['image']}"
    )
    assert host.release("rollback", other["id"]).code == 0
    assert host.serving["version"] == other["version"]


def test_prune_keeps_images_that_served(host):
    served = {each["image"] for each in host.list if each["result"] != "failed"}
    host.sh(f"docker pull -q {host.images['sick']}")
    assert host.release("prune").code == 0
    here = {each["image"] for each in host.list if each["image_here"]}
    assert here == served


class PersistentVisitor:
    """A visitor with one connection that must stay open."""

    def __init__(self, host) -> None:
        self.connection = http.client.HTTPConnection(host.machine.private_ip, timeout=10)
        self.connection.connect()
        self.connection.auto_open = 0

    def version(self) -> str:
        self.connection.request("GET", "/version", headers={"Host": NAME})
        return json.loads(self.connection.getresponse().read())["version"]


class Visitors:
    """Visitors with persistent connections. failures: failed requests."""

    def __init__(self, host) -> None:
        self.url = f"http://{host.machine.private_ip}"
        self.headers = {"Host": NAME}
        self.failures: list[str] = []
        self.count = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, number: int) -> None:
        body = bytes(20_000)
        digest = hashlib.sha256(body).hexdigest()
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=20) as client:
            while not self.ended.is_set():
                try:
                    if number == 0:
                        answer = client.get("/slow?1.5")
                    elif number == 1:
                        answer = client.post("/digest", content=body)
                    else:
                        answer = client.get("/up")
                    self.count += 1
                    if answer.status_code != 200 or (number == 1 and answer.text != digest):
                        self.failures.append(f"{answer.request.url}: {answer.status_code}")
                except httpx.HTTPError as err:
                    self.failures.append(f"{number}: {err!r}")
                time.sleep(0.02)
