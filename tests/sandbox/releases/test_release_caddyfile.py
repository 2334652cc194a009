"""Images with hostile Caddyfiles, tested with the host's real Caddy."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .caddyfiles import ATTACKS, GOOD, LATE, named
from .conftest import NAME

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]
NAMES = [f"http://{NAME}", "shop.test"]
FOREIGN = "{$NAMES} {\n\treverse_proxy {$UPSTREAM}\n\t%s\n}\n"
SECRET_LINE = r"root:[*!x]"
RELEASED = (
    "the instance's metadata",
    "the root of the host",
    "Caddy's own administration",
    "import of a file in headers",
    "a second port",
    "the environment of Caddy",
)
SEES = (
    "id -u; cat /etc/shadow /etc/passwd; ls /srv /etc /root /home /run /proc; env;"
    "ls -d /var/lib/* /usr/local /opt; echo x > /x; bash -c 'echo > /dev/tcp/169.254.169.254/80';"
    "bash -c 'echo > /dev/tcp/127.0.0.1/2019'; bash -c 'echo > /dev/tcp/127.0.0.1/80';"
    "grep -c . /Caddyfile"
)


@pytest.fixture(scope="module", autouse=True)
def first(host) -> None:
    """Release a good image."""
    host.deploy("one")


@pytest.fixture(scope="module")
def check(host) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that checks Caddyfiles on the host like a release."""
    host.write("/root/adapt.py", (Path(__file__).with_name("adapt.py")).read_text())

    def call(texts: list[str], *how: str) -> list[dict[str, Any]]:
        given = json.dumps([NAMES, [named(text, NAME) for text in texts]])
        host.write("/root/texts", base64.b64encode(gzip.compress(given.encode())).decode())
        return json.loads(host.sh(f"python3 /root/adapt.py /root/texts {' '.join(how)}"))

    return call


@pytest.fixture
def untouched(host) -> Iterator[None]:
    """Assert that a test changes neither the serving version nor Caddy."""
    look = (
        "cat /etc/caddy/sites/*; ls /etc/caddy /etc/caddy/slots /run; ss -ltnH | sort;"
        "systemctl show -p MainPID -p ExecReload caddy | sed 's/start_time.*//'"
    )
    before = host.sh(look), host.running, host.status
    yield
    assert (host.sh(look), host.running, host.status) == before
    assert host.serving["version"] == "one"


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.attack("F2", "an image is released whose Caddyfile reaches for the host")
def test_an_attack_is_refused_and_the_old_version_serves(host, workshop, compose, untouched, name):
    text, line = ATTACKS[name]
    tag = "attack" + re.sub(r"\W", "-", name)
    host.images[tag] = workshop.push(tag, {"daybook.compose": compose, "daybook.caddyfile": text})
    done = host.release("deploy", tag)
    assert done.code == 3, done.output
    assert f"Caddyfile line {line}: " in done.output
    assert not re.search(SECRET_LINE, done.output)
    assert done.next
    for path in ("/meta/latest/meta-data/", "/f/etc/passwd", "/x/config/", "/x"):
        assert host.visit(path).text == "well\n"


@pytest.mark.attack("F2", "an image's Caddyfile label is a bomb, or no text")
def test_a_compression_bomb_or_binary_label_is_refused(host, workshop, compose, untouched):
    for tag, text in (("bomb", "#" * 50_000_000), ("binary", "\0\1")):
        host.images[tag] = workshop.push(
            tag, {"daybook.compose": compose, "daybook.caddyfile": text}
        )
        done = host.release("deploy", tag)
        assert done.code == 3, done.output


@pytest.mark.attack("F2", "an image's Caddyfile does what no site may, in any of a hundred ways")
def test_each_attack_is_refused_with_its_line(check):
    results = check([text for text, _ in ATTACKS.values()])
    for (name, (_, line)), result in zip(ATTACKS.items(), results, strict=True):
        assert result["refused"], name
        assert f"Caddyfile line {line}: " in result["refused"], (name, result["refused"])
        assert not re.search(SECRET_LINE, result["refused"]), name


@pytest.mark.attack("F2", "a hash that takes hours, or a log with lines of the image's own")
def test_each_attack_hidden_from_the_text_check_is_refused(check):
    for name, result in zip(LATE, check(list(LATE.values())), strict=True):
        assert "Caddyfile line " in str(result["refused"]), (name, result["refused"])


@pytest.mark.attack("F2", "an attack that the check of the words would have let pass")
def test_hidden_attacks_are_found_in_the_adapted_configuration(check):
    """The second check suffices except outside the site's block."""
    outside = ("at the top", "second", "name twice", "global", "no application", "in a comment")
    outside += ("name beside", "port of the application", "nothing", "redirect by script")
    alone = {k: text for k, (text, _) in ATTACKS.items() if not any(word in k for word in outside)}
    results = check(list(alone.values()), "unread")
    passed = [name for name, found in zip(alone, results, strict=True) if not found["refused"]]
    # Caddy reads it as an argument there and imports nothing.
    assert passed == ["import after a word of two lines"]


def test_each_good_caddyfile_is_accepted(check):
    for name, result in zip(GOOD, check(list(GOOD.values())), strict=True):
        assert result["refused"] is None, (name, result["refused"])
        assert violations(result["config"]) == [], name


def test_a_good_caddyfile_serves(host, workshop, compose):
    text = (
        "{$NAMES} {\n\theader X-Ours yes\n\theader -Server\n\trespond /robots.txt `hello`\n"
        "\tredir /old https://{host}/new 308\n\thandle_path /app/* {\n"
        "\t\treverse_proxy {$UPSTREAM}\n\t}\n\treverse_proxy {$UPSTREAM}\n"
        "\tbasicauth /private {\n"
        "\t\tann $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n\t}\n}\n"
    )
    host.images["fine"] = workshop.push(
        "fine", {"daybook.compose": compose, "daybook.caddyfile": text}
    )
    host.deploy("fine")
    answer = host.visit("/app/version")
    assert (answer.json()["version"], answer.headers["X-Ours"]) == ("fine", "yes")
    assert "Server" not in answer.headers
    assert host.visit("/robots.txt").text == "hello"
    assert host.visit("/old").headers["Location"] == f"http://{NAME}/new".replace("http", "https")
    assert host.visit("/private").status_code == 401
    host.deploy("one")
    assert "X-Ours" not in host.visit("/version").headers


@pytest.mark.attack("F2", "an image's labels clear the terminal, fake a line or command the job")
def test_labels_are_printed_as_short_lines_without_control_sequences(host, workshop, compose):
    version = "\x1b[2J\x1b[31mred\nDONE\r\u202e::error::x ##[set-output name=a]b" + "x" * 5000
    host.images["labels"] = workshop.push(
        "labels", {"daybook.compose": compose}, version=version, revision=f"\n{version}"
    )
    texts = [host.deploy("labels").output]
    texts += [host.release(*words).output for words in (["list"], ["show"], ["status"])]
    for text in texts:
        lines = text.splitlines()
        assert all(map(str.isprintable, (line.replace("\t", "") for line in lines))), text
        assert not [line for line in lines if re.match(r"\s*(::|DONE)|.*##\[", line)], text
        assert "x" * 200 not in text
    assert r"\x1b[2J\x1b[31mred\nDONE\r" in texts[0]
    table = texts[1].splitlines()
    assert len({line.find("  ", 40) > 0 for line in table}) == 1
    assert max(map(len, table)) < 150
    host.deploy("one")


@pytest.mark.attack("F2", "a rollback to a release whose Caddyfile was never checked")
def test_a_release_from_before_these_checks_is_checked_on_rollback(host):
    host.deploy("two")
    old = next(each["id"] for each in host.list if each["version"] == "one")
    path = f"/srv/{json.loads(host.sh('cat /etc/daybook/release.json'))['app']}/releases/{old}"
    kept = host.sh(f"cat {path}/site.template") + "\n"
    host.write(f"{path}/site.template", FOREIGN % "reverse_proxy /m/* 169.254.169.254")
    done = host.release("rollback", old)
    assert (done.code, "Caddyfile line 3: " in done.output) == (3, True), done.output
    assert host.serving["version"] == "two"
    host.write(f"{path}/site.template", kept)
    assert host.release("rollback", old).code == 0
    assert host.serving["version"] == "one"


@pytest.mark.attack("F2", "the process that adapts a Caddyfile looks for the host's files")
def test_the_adapting_process_has_no_privileges_network_or_files(host):
    host.write(
        "/root/sees.py",
        "import sys, pathlib, subprocess, tempfile\n"
        "sys.path.insert(0, '/usr/local/sbin/release')\n"
        "from daybook_release import site\n"
        "folder = pathlib.Path(tempfile.mkdtemp(dir='/run'))\n"
        "folder.chmod(0o755)\n"
        "(folder / 'Caddyfile').write_text('one line\\n')\n"
        "command = site.confined(folder)\n"
        "at = command.index('--')\n"
        "tools = '--property=BindReadOnlyPaths=/usr/bin /usr/bin:/bin'\n"
        "command = [*command[:at], tools, '--', '/usr/bin/sh', '-c', sys.argv[1]]\n"
        "print(subprocess.run(command, capture_output=True, text=True))\n",
    )
    said = host.sh(f'python3 /root/sees.py "{SEES}"')
    out = re.search(r"stdout='(.*?)', stderr=", said)[1].replace("\\n", "\n").split("\n")
    assert int(out[0]) > 60_000  # A dynamic user.
    shown = "\n".join(out[1:])
    assert "HOME=/nonexistent" in shown
    assert out[-2] == "1"
    for secret in ("root:", "release.json", "environment.json", "docker.sock", "caddy/", "passwd"):
        assert secret not in shown, said
    assert shown.count("/var/lib/") == 0
    assert "Read-only file system" in said or "Permission denied" in said
    for address in ("169.254.169.254/80", "127.0.0.1/2019", "127.0.0.1/80"):
        assert f"/dev/tcp/{address}: Address family not supported by protocol" in said
    # It sees at most its own processes; the last line is the Caddyfile's count.
    *processes, _ = re.findall(r"^\d+$", shown, re.MULTILINE)
    assert "1" not in processes


WORDS = re.findall(
    r"\S+",
    """
    /x* /x @m * {header.X}? /v2{path} {path}?{query}
    {$UPSTREAM} 127.0.0.1:2019 169.254.169.254 unix//run/docker.sock 10.0.0.1
    :8088 https://evil.test //evil.test {uri} {path} {host} {header.X} {query.a} {env.HOME}
    {file./etc/x} {vars.daybook_slot} {http.vars.x} https://{host}{uri} https://WWW.NAME{uri}
    /new{uri} / Location +X -X >Location X-Forwarded-For Host off 200 302 html http stderr
    stdout file net json filter import /etc/shadow name a b strip_prefix replace path_regexp
    ^(.*)$ $1 h2c 1s 10MB gzip zstd
    """,
)
HEADS = re.findall(
    r"\S+",
    """
    abort basicauth encode error handle handle_errors handle_path header log method redir
    request_body request_header respond reverse_proxy rewrite route skip_log uri to transport
    header_up header_down handle_response copy_response replace_status output format level
    path not host file expression vars import file_server root tls bind templates map
    try_files php_fastcgi forward_auth dynamic health_uri lb_policy @m max_size Location
    match fields wrap
    """,
)


STATEMENTS = st.tuples(st.sampled_from(HEADS), st.lists(st.sampled_from(WORDS), max_size=4)).map(
    lambda made: " ".join([made[0], *made[1]])
)


def in_block(head: str, inner: list[list[str]]) -> list[str]:
    return [f"{head} {{", *(f"\t{line}" for lines in inner for line in lines), "}"]


LINES = st.recursive(
    STATEMENTS.map(lambda statement: [statement]),
    lambda inner: st.builds(in_block, STATEMENTS, st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)
FRAGMENTS = st.lists(
    st.one_of(
        LINES,
        st.sampled_from([text for text, _ in ATTACKS.values() if len(text) < 500]).map(
            lambda text: text.splitlines()[2:-1]
        ),
        st.sampled_from([text for text in GOOD.values() if "\r" not in text]).map(
            lambda text: text.splitlines()[1:-1]
        ),
    ),
    min_size=1,
    max_size=4,
).map(lambda parts: FOREIGN % "\n\t".join(x for part in parts for x in part))


@pytest.mark.attack("F2", "Caddyfiles made at random are released")
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(texts=st.lists(FRAGMENTS, min_size=30, max_size=30))
def test_accepted_caddyfiles_reach_only_the_application(check, texts):
    for text, result in zip(texts, check(texts), strict=True):
        if result["refused"] is None:
            assert violations(result["config"]) == [], text
    # The same without the check of the text: the adapted configuration suffices.
    texts = [text for text in texts if "import" not in text and " html" not in text]
    for text, result in zip(texts, check(texts, "unread"), strict=True):
        if result["refused"] is None:
            assert violations(result["config"]) == [], text


def violations(config: Any) -> list[str]:
    """Return a configuration's forbidden actions, found independently of Daybook's checks."""
    return [*_top(config), *_inside(config, "")]


HANDLERS = ("file_server", "templates", "map", "metrics", "acme_server", "push", "tracing")
KEYS = ("tls", "resolver", "dynamic_upstreams", "active", "filename", "address", "expression")
FLAG = {"root": "/etc/caddy/slots", "try_files": ["/app.8001"]}
SECRET = re.compile(r"\{(env|file|system|\$)\b|\{http\.(request\.body|vars\.(?!daybook_slot))")


def _top(config: Any) -> Iterator[str]:
    if set(config) - {"apps", "logging"} or set(config["apps"]) != {"http"}:
        yield "an application besides HTTP"
    servers = config["apps"]["http"]["servers"].values()
    listen = [at for each in servers for at in each["listen"]]
    if sorted(listen) != [":443", ":80"]:
        yield f"listens on {listen}"
    for route in (route for each in servers for route in each["routes"]):
        if "daybook_slot" not in str(route["handle"][0]["routes"][:2]):
            yield "the slot is not chosen first"


def _inside(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _inside(each, key)
    if isinstance(value, str):
        yield from _of_text(value, key)
    if not isinstance(value, dict):
        return
    kind = value.get("handler")
    if kind in HANDLERS or value.get("file", FLAG) != FLAG:
        yield f"handles {value}"
    if kind == "vars" and set(value) - {"handler", "skip_log", "daybook_slot"}:
        yield f"sets {value}"
    if not re.fullmatch(r"127\.0\.0\.1:800[01]", value.get("daybook_slot", "127.0.0.1:8000")):
        yield f"leads to {value}"
    for name, each in value.items():
        if name in (*KEYS, "lookup_srv"):
            yield f"{name} {each}"
        yield from _inside(each, name)


def _of_text(value: str, key: str) -> Iterator[str]:
    if key == "dial" and value != "{http.vars.daybook_slot}":
        yield f"dials {value}"
    if key == "uri" and re.match(r"[^?#]*(\{http\.request\.uri\}|\{[^?#]*\?(#|$))", value):
        yield f"expands {value} twice"
    if key == "host" and value.lower() not in (NAME, "shop.test"):
        yield f"serves {value}"
    if key == "output" and value != "stderr":
        yield f"logs to {value}"
    if SECRET.search(value):
        yield f"reads {value}"
    if key.lower().lstrip(">?+") == "location" and leads_away(value):
        yield f"leads to {value}"


def leads_away(location: str) -> bool:
    """Return True if a visitor's placeholder values can redirect a browser to another site."""
    for hostile in ("//evil.test/", "/.evil.test", "https://evil.test"):
        filled = location.replace("{http.request.host}", NAME)
        path = hostile if hostile.startswith("/") else "/x"
        filled = re.sub(r"\{http\.request\.(orig_)?uri(\.path)?\}", path, filled)
        filled = re.sub(r"\{[^}]*\}", hostile, filled)
        found = re.match(r"(?:[a-zA-Z]+:)?[\\/]{2,}([^/?#\\]*)", re.sub(r"\s", "", filled))
        if found and found[1].lower() not in (NAME, "shop.test"):
            return True
        if not found and re.match(r"[a-zA-Z]+:", filled):
            return True
    return False
