"""The site that a release renders for Caddy from an image's Caddyfile."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.releases.caddyfiles import ATTACKS, GOOD, SALTED, named

from daybook_release import caddyfile, caddyjson, site
from daybook_release.errors import Refused
from daybook_release.system import CommandResult, System

NAMES = ("https://shop.test", "www.shop.test")
NAME = "www.shop.test"


class RecordingSystem(System):
    """A system that returns a prepared result of Caddy's check and records command and text."""

    def __init__(self, result: CommandResult) -> None:
        super().__init__()
        self.result = result

    def run(self, command, **options):
        self.command = list(command)
        folder = next(word for word in command if "RootDirectory=" in word).rpartition("=")[2]
        with open(f"{folder}/Caddyfile", encoding="utf-8") as file:
            self.text = file.read()
        return self.result


def render(template: str) -> site.RenderedSite:
    return site.render(named(template, NAME), NAMES, "shop", 8000)


def adapted(*routes: dict, slot_routes: bool = True, **server: object) -> dict:
    """Return the JSON that Caddy adapts from these routes; `server` changes the server's keys."""
    first = list(render(site.BUILT_IN).slot_routes) if slot_routes else []
    inner = {"handler": "subroute", "routes": [*first, *routes]}
    names = [name.removeprefix("https://") for name in NAMES]
    outer = {"match": [{"host": names}], "handle": [inner], "terminal": True}
    return {
        "apps": {"http": {"servers": {"srv0": {"listen": [":443"], "routes": [outer], **server}}}}
    }


def check(result: CommandResult, template: str = site.BUILT_IN) -> None:
    site.Caddy(RecordingSystem(result), "shop").check(render(template))


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "RUN", tmp_path)
    return tmp_path


def test_a_site_routes_to_the_slot_that_a_file_selects():
    text = render(site.BUILT_IN).text
    head, _, rest = text.partition("\nhttps://shop.test, www.shop.test {\n")
    assert head == site.HEAD.strip()
    assert rest.startswith("\t# The second slot serves while this file is there.\n")
    assert "\t\ttry_files /shop.8001\n" in rest
    assert "\tvars daybook_slot 127.0.0.1:8000\n" in rest
    assert "\tvars @daybook_second daybook_slot 127.0.0.1:8001\n" in rest
    assert "\treverse_proxy {vars.daybook_slot} {\n" in rest
    assert "{$" not in text


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_caddyfile_is_rendered(name):
    assert render(GOOD[name]).text.count("reverse_proxy") >= 1


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.attack("F2", "an image's Caddyfile gains access beyond the application")
def test_an_attack_is_refused_with_its_line_before_caddy_reads_it(name):
    template, line = ATTACKS[name]
    with pytest.raises(Refused) as refused:
        render(template)
    lines = re.findall(r"^  Caddyfile line (\d+): ", refused.value.message, re.MULTILINE)
    assert int(lines[0]) == line, refused.value.message
    assert refused.value.next == site.CORRECT
    assert all(map(str.isprintable, refused.value.message.splitlines()))
    assert max(map(len, refused.value.message.splitlines())) < 600


WORDS = st.one_of(
    st.text('ab{}"`\\#$ \t@/<import:', min_size=0, max_size=6),
    st.sampled_from(["{host}", "{$UPSTREAM}", "import", "}", "{", "a{", "{}", "<<END", "\\", ""]),
)


@given(words=st.lists(WORDS, min_size=1, max_size=5))
def test_written_words_are_read_as_the_same_words(words):
    statement = caddyfile.Statement(tuple(caddyfile.Word(w, 1, True) for w in words), 1)
    has_both = any("`" in word and ('"' in word or word.endswith("\\")) for word in words)
    if has_both or {"{", "}"} & set(words):
        return  # Refused before it is written.
    again = caddyfile.read("".join(text for _, text in caddyfile.write([statement], depth=0)))
    assert len(again) == 1
    read = [word.text for word in again[0].words]
    assert read == [word.replace("{$UPSTREAM}", "{vars.daybook_slot}") for word in words]


@given(text=st.text('ab{}"`\\#$@/ \t\n', max_size=60))
def test_an_allowed_file_is_written_with_the_same_blocks(text):
    text = f"{{$NAMES}} {{\nreverse_proxy {{$UPSTREAM}}\nheader a {{\n{text}\n}}\n}}\n"
    if caddyfile.check(text, ["shop.test"]):
        return
    before = caddyfile.read(text)
    after = caddyfile.read("".join(text for _, text in caddyfile.write(before, depth=0)))
    assert list(map(shape, after)) == list(map(shape, before))


def shape(statement: caddyfile.Statement) -> list:
    return [len(statement.words), statement.block and list(map(shape, statement.block))]


ORIGINAL = "{http.request.orig_uri}"
TEXTS = ("/", "//", "\\", "https:", "http:", "shop.test", "evil.test", "@", ".", "?", "#", ":", "a")
PLACEHOLDERS = ("{uri}", "{path}", "{host}", "{query}", "{header.X}", "{scheme}", ORIGINAL)
LOCATIONS = st.lists(st.sampled_from((*TEXTS, *PLACEHOLDERS)), max_size=6).map("".join)
FILLED = {"{host}": "shop.test", "{scheme}": "https", ORIGINAL: "//evil.test"}


@given(location=LOCATIONS, is_rewritten=st.booleans(), slash=st.sampled_from(["/", "//evil.test/"]))
def test_an_allowed_redirect_never_leaves_the_site(location, is_rewritten, slash):
    if caddyfile.leaves_site(location, {"shop.test"}, is_rewritten=is_rewritten):
        return
    path = ".evil.test/" if is_rewritten else slash
    filled = FILLED | {"{uri}": path, "{path}": path, "{query}": "//evil.test", "{header.X}": path}
    for placeholder, value in filled.items():
        location = location.replace(placeholder, value)
    assert host_in_browser(location) == "shop.test"


def host_in_browser(location: str) -> str:
    """Return the host that a browser on shop.test opens. https://url.spec.whatwg.org/#url-parsing"""
    location = re.sub(r"[\t\n\r]", "", location).strip().replace("\\", "/")
    match = re.match(r"(?:https?:)?//+([^/?#]*)", location)
    return match[1].rpartition("@")[2].partition(":")[0] if match else "shop.test"


@pytest.mark.parametrize(
    "text",
    [
        "{env.HOME}",
        "{env.X\\}y}",
        "{env.X",
        "a {file./etc/x}",
        "{system.hostname}",
        "{http.request.body}",
        "{http.request.tls.client.subject}",
        "{http.vars.other}",
        "{http.request.header.X}{env.X}",
        '{"a": "{env.HOME}"}',
        "{args.0}",
        "{x}",
        "{$HOME}",
    ],
)
def test_placeholders_of_the_host_are_detected(text):
    assert caddyfile.unknown_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "ok"}',
        "body{color:red}",
        "function(){return 1}",
        "{ a }",
        "{host}{uri}",
        "{http.request.header.Accept}",
        "{re.assets.1}",
        "{err.status_code}",
        "{$UPSTREAM}",
        "$2a$14$abc",
    ],
)
def test_other_text_is_not_taken_for_a_placeholder(text):
    assert not caddyfile.unknown_placeholder(text)


SECRET, ASKS = "of the host", "/x?{env.HOME}"
PIECES = ("/v2", "{uri}", "{path}", "{header.X}", "{re.x.1}", "{query}", "?", "#", "a=b", "&")


def rewritten(uri: str) -> str:
    """Return the result of a rewrite in Caddy 2.6 if the visitor sends placeholders everywhere.

    https://github.com/caddyserver/caddy/blob/v2.6.2/modules/caddyhttp/rewrite/rewrite.go
    """
    path, mark, query = uri.partition("#")[0].partition("?")
    path = expanded(path.replace("{uri}", ASKS))
    path, _, brought = path.partition("?")
    return path + mark + expanded(query or brought) * bool(mark)


def expanded(text: str) -> str:
    values = {"{env.HOME}": SECRET}
    return re.sub(r"\{[^{}]*\}", lambda match: values.get(match[0], ASKS), text)


@pytest.mark.attack("F2", "Caddy expands a placeholder of the host that a visitor sends")
@given(uri=st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_data_from_a_visitor_is_not_expanded(uri):
    assert caddyfile.is_expanded_twice(uri) or SECRET not in rewritten(uri)


@pytest.mark.parametrize(
    "uri", ["/v2{path}", "/x?{query}", "{path}?{query}&a=b", "/x?", "/x#{uri}"]
)
def test_an_ordinary_rewrite_is_allowed(uri):
    assert SECRET not in rewritten(uri)
    assert not caddyfile.is_expanded_twice(uri)


BCRYPT = f"14${SALTED}"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def with_password(password: object, algorithm: str, **more: object) -> list[caddyjson.Violation]:
    basic = {
        "accounts": [{"username": "ann", "password": password, **more}],
        "hash": {"algorithm": algorithm},
        "hash_cache": {},
    }
    handler = {"handler": "authentication", "providers": {"http_basic": basic}}
    return caddyjson.violations(
        adapted({"handle": [handler]}), NAMES, render(site.BUILT_IN).slot_routes
    )


@pytest.mark.parametrize(
    ("password", "algorithm", "salt"),
    [
        (f"$2a${BCRYPT}", "bcrypt", ""),
        (f"$2y${BCRYPT}", "bcrypt", ""),
        (f"$2b${BCRYPT}".replace("$14$", "$04$"), "bcrypt", ""),
        (base64_of(f"$2a${BCRYPT}".encode()), "bcrypt", ""),
        (base64_of(bytes(32)), "scrypt", base64_of(b"salt")),
    ],
)
def test_a_hash_from_caddy_is_allowed(password, algorithm, salt):
    assert with_password(password, algorithm, salt=salt) == []
    assert with_password(password, algorithm) == []


@pytest.mark.attack("F2", "checking a password hash takes hours for each request")
@pytest.mark.parametrize(
    ("password", "algorithm"),
    [
        *[
            (f"{kind}{cost}${SALTED}", "bcrypt")
            for kind in ("$2a$", "$2z$", "$2$", "$1$", "$2{host}$", "$0a$", "{host}$2a$")
            for cost in ("31", "15", "+9", "03", "3{host}1", "\u0661\u0664")
        ],
        *[(f"{kind}{BCRYPT}", "bcrypt") for kind in ("$2z$", "$2$", "$1$", "$2{host}$", "2a$")],
        (f"$2a${BCRYPT}x", "bcrypt"),
        (f"$2a${BCRYPT}\n", "bcrypt"),
        (base64_of(f"$2a$31${SALTED}".encode()), "bcrypt"),
        (base64_of(f"$2a$31${SALTED}".encode()[:-1] + b"\xff"), "bcrypt"),
        (base64_of(f"$2a${BCRYPT}".encode())[:20] + "\n" + base64_of(b"x"), "bcrypt"),
        (base64_of(f"$2a${BCRYPT}".encode()).rstrip("=") + "{host}", "bcrypt"),
        (base64_of(bytes(32)), "bcrypt"),
        (f"$2a${BCRYPT}", "scrypt"),
        (base64_of(bytes(33)), "scrypt"),
        (base64_of(bytes(32)).replace("A=", "B="), "scrypt"),
        (base64_of(bytes(32)), "argon2id"),
        ("", "bcrypt"),
        (None, "bcrypt"),
        (14, "scrypt"),
        (["$2a$"], "bcrypt"),
    ],
)
def test_a_costlier_hash_is_refused(password, algorithm):
    assert with_password(password, algorithm)


@pytest.mark.parametrize("salt", ["{host}", "c2Fsd", "c2 Fs", base64_of(bytes(2000)), 5])
def test_a_salt_is_base64(salt):
    assert with_password(base64_of(bytes(32)), "scrypt", salt=salt)


def with_format(**encoder: object) -> list[caddyjson.Violation]:
    log = {"writer": {"output": "stderr"}, "encoder": encoder, "include": ["http.log.access.log0"]}
    config = adapted() | {"logging": {"logs": {"log0": log}}}
    return caddyjson.violations(config, NAMES, render(site.BUILT_IN).slot_routes)


@pytest.mark.attack("F2", "a log's format writes additional lines to the journal")
@pytest.mark.parametrize("kind", ["console", "json"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_format", "<0>All hands: run this"),
        ("time_format", "2006 <0>"),
        ("line_ending", "\n<0>sshd[1]: Accepted publickey for root\n"),
        ("line_ending", "\n"),
        ("message_key", "<0>"),
        ("message_key", "a\nb"),
        ("level_key", ""),
        ("duration_format", "<0>"),
        ("level_format", "<0>"),
        ("time_local", "<0>"),
        ("newest_key", "x"),
    ],
)
def test_no_format_sets_the_start_or_end_of_a_line(kind, key, value):
    assert with_format(format=kind, **{key: value})
    assert with_format(format="filter", wrap={"format": kind, key: value})


def test_named_formats_are_allowed():
    named = {"time_format": "rfc3339", "time_local": True, "level_format": "upper"}
    named |= {"duration_format": "string", "time_key": "@timestamp", "message_key": "msg"}
    assert with_format(format="console", **named) == []
    assert with_format(format="filter", wrap={"format": "json", **named}) == []


ROUTES = {
    "a rewrite with the visitor's path": {"handler": "rewrite", "uri": "/v2{http.request.uri}"},
    "a rewrite with a header": {"handler": "rewrite", "uri": "{http.request.header.X-Go}?"},
    "a rewrite of the proxy's": {
        "handler": "reverse_proxy",
        "rewrite": {"uri": "{http.request.uri.path}?"},
    },
    "a foreign upstream": {"handler": "reverse_proxy", "upstreams": [{"dial": "10.0.0.1:80"}]},
    "a socket": {"handler": "reverse_proxy", "upstreams": [{"dial": "unix//run/docker.sock"}]},
    "a lookup": {"handler": "reverse_proxy", "upstreams": [{"lookup_srv": "evil.test"}]},
    "dynamic": {"handler": "reverse_proxy", "dynamic_upstreams": {"source": "a"}},
    "active checks": {"handler": "reverse_proxy", "health_checks": {"active": {"port": 2019}}},
    "another transport": {"handler": "reverse_proxy", "transport": {"protocol": "fastcgi"}},
    "a tls transport": {"handler": "reverse_proxy", "transport": {"protocol": "http", "tls": {}}},
    "files": {"handler": "file_server", "root": "/"},
    "templates": {"handler": "templates"},
    "variables": {"handler": "vars", "daybook_slot": "10.0.0.1:80"},
    "variables with the log": {"handler": "vars", "skip_log": True, "root": "/"},
    "a map": {"handler": "map", "source": "{http.request.host}"},
    "an unknown handler": {"handler": "exec"},
    "no handler": {},
    "an environment variable": {"handler": "static_response", "body": "{env.HOME}"},
    "a placeholder in a key": {"handler": "static_response", "headers": {"{env.HOME}": ["x"]}},
    "a foreign location": {
        "handler": "static_response",
        "headers": {"Location": ["https://evil.test"]},
    },
    "a replaced location": {
        "handler": "headers",
        "response": {"replace": {"location": [{"search": "a", "replace": "b"}]}},
    },
    "a costly hash": {
        "handler": "authentication",
        "providers": {"http_basic": {"accounts": [{"username": "a", "password": "$2a$31$x"}]}},
    },
    "deep": {"handler": "subroute", "routes": [{"handle": [{"handler": "file_server"}]}]},
    "errors inside": {"handler": "subroute", "errors": {"routes": []}},
    "in the application's answer": {
        "handler": "reverse_proxy",
        "handle_response": [{"routes": [{"handle": [{"handler": "file_server"}]}]}],
    },
}


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.attack("F2", "Caddy adapts a Caddyfile to other JSON than its words suggest")
def test_a_disallowed_handler_is_found_in_the_json(name):
    config = adapted({"handle": [ROUTES[name]]})
    assert caddyjson.violations(config, NAMES, render(site.BUILT_IN).slot_routes)
    with pytest.raises(Refused, match="Caddyfile line"):
        check(CommandResult(0, json.dumps(config), ""))


@pytest.mark.parametrize("kind", ["file", "expression", "vars", "vars_regexp", "host", "remote_ip"])
def test_a_disallowed_matcher_is_found_in_the_json(kind):
    values = {"host": ["evil.test"], "remote_ip": {"ranges": ["::/0"], "forwarded": True}}
    matcher = {"not": [{kind: values.get(kind, {})}]}
    config = adapted({"match": [matcher], "handle": []})
    assert caddyjson.violations(config, NAMES, render(site.BUILT_IN).slot_routes)


CONFIGS = {
    "an admin": adapted() | {"admin": {"listen": "0.0.0.0:2019"}},
    "storage": adapted() | {"storage": {"module": "file_system"}},
    "a tls application": {"apps": adapted()["apps"] | {"tls": {}}},
    "another application": {"apps": adapted()["apps"] | {"exec": {}}},
    "a second server": {
        "apps": {
            "http": {
                "servers": {
                    **adapted()["apps"]["http"]["servers"],
                    "srv1": {"listen": [":8088"], "routes": []},
                }
            }
        }
    },
    "another listener": adapted(listen=[":443", ":8443"]),
    "a socket": adapted(listen=["unix//run/x"]),
    "policies": adapted(tls_connection_policies=[{}]),
    "other names": adapted(routes=[{"handle": [{"handler": "static_response"}]}]),
    "no choice of the slot": adapted(slot_routes=False),
    "errors for all names": adapted(errors={"routes": [{"handle": []}]}),
    "a log to a file": adapted()
    | {"logging": {"logs": {"log0": {"writer": {"output": "file", "filename": "/etc/x"}}}}},
    "a log of everything": adapted() | {"logging": {"logs": {"other": {}}}},
    "a sink": adapted() | {"logging": {"sink": {}}},
    "servers that are none": {"apps": {"http": {"servers": {"srv0": [], "srv1": None}}}},
    "listeners that are none": adapted(listen=[{}, []]),
    "routes that are none": adapted(routes=[{"handle": [{"routes": None}], "match": [{}]}]),
    "nothing": {},
    "no object": [],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unexpected_configuration_is_refused(name):
    with pytest.raises(Refused):
        check(CommandResult(0, json.dumps(CONFIGS[name]), ""))


def test_the_expected_configuration_passes():
    check(CommandResult(0, json.dumps(adapted()), ""))


def test_the_check_of_caddy_is_confined(run_folder):
    system = RecordingSystem(CommandResult(0, json.dumps(adapted()), ""))
    rendered = render(site.BUILT_IN)
    site.Caddy(system, "shop").check(rendered)
    assert system.command[0] == "systemd-run"
    for setting in ("DynamicUser=yes", "PrivateNetwork=yes", "NoNewPrivileges=yes"):
        assert f"--property={setting}" in system.command
    assert system.command[system.command.index("--") + 1] == "/usr/bin/caddy"
    assert system.text == rendered.text
    assert list(run_folder.iterdir()) == []


@pytest.mark.parametrize(
    "result",
    [
        CommandResult(1, "", "Failed to start transient service unit: Access denied"),
        CommandResult(226, "", ""),
        CommandResult(124, "", "timed out after 60 s"),
        CommandResult(127, "", "systemd-run: not found"),
        CommandResult(0, "", ""),
        CommandResult(0, "no JSON", ""),
        CommandResult(0, "[" * 100_000, ""),
    ],
)
def test_a_failed_check_refuses_the_release(result):
    with pytest.raises(Refused, match="Cannot check"):
        check(result)


def test_an_error_of_caddy_has_its_line_and_quotes_nothing():
    message = "Error: parsing caddyfile tokens for 'header': /Caddyfile:11 - Error during parsing: "
    message += "Wrong argument count or unexpected line ending after 'sesame\x1b[2J'"
    template = "# first\n\n{$NAMES} {\n\treverse_proxy {$UPSTREAM}\n\n\theader a b c d sesame\n}\n"
    text = render(template).text.splitlines()
    line = text.index("\theader a b c d sesame") + 1
    with pytest.raises(Refused) as refused:
        check(CommandResult(1, "", message.replace(":11", f":{line}")), template)
    assert "Caddyfile line 6: Caddy rejected it: Wrong argument count" in str(refused.value)
    assert "sesame" not in str(refused.value)
