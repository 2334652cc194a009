"""Check the JSON that Caddy adapted a site to against an allow-list.

Handlers, matchers and keys that are not listed here are refused, including those of newer versions.
https://caddyserver.com/docs/json/
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daybook_release.caddyfile import is_expanded_twice, leaves_site, unknown_placeholder

SECOND_NS = 1_000_000_000
UPSTREAM = "{http.vars.daybook_slot}"
BCRYPT = re.compile(rb"\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}")
"""A hash with a cost of at most 14; each step doubles the CPU time of a request."""
SCRYPT_BYTES, SALT_BYTES = 32, 1024
"""The length of a scrypt hash, which has Caddy's default cost, and the maximum for a salt."""
MAX_DURATION_S = 3600
LISTEN = {"https": ":443", "http": ":80"}


@dataclass(frozen=True)
class Violation:
    """A part of the JSON that is not allowed. near: texts that help to find its line."""

    message: str
    near: tuple[str, ...] = ()


Validator = Callable[[Any, str], Iterator[Violation]]


def violations(
    config: Any, names: Sequence[str], slot_routes: Sequence[Mapping[str, Any]]
) -> list[Violation]:
    """Return all parts of an adapted site that are not allowed.

    names: with or without a scheme, as in the Caddyfile. slot_routes: the first routes, which
    select the slot.
    """
    return list(_SiteValidator(names, slot_routes).config(config))


class _SiteValidator:
    """The allow-list for the site of one environment."""

    def __init__(self, names: Sequence[str], slot_routes: Sequence[Mapping[str, Any]]) -> None:
        self.names_by_listener: dict[str, list[str]] = {}
        for name in names:
            scheme, _, host = name.rpartition("://")
            self.names_by_listener.setdefault(LISTEN[scheme or "https"], []).append(host.lower())
        self.names = [name for hosts in self.names_by_listener.values() for name in hosts]
        self.slot_routes = list(slot_routes)
        self.is_rewritten = True

    def config(self, config: Any) -> Iterator[Violation]:
        """Check a whole configuration: one HTTP application, its servers and its logs."""
        self.is_rewritten = _has_rewrite(config)
        http = _object(servers=_map(self._server))
        yield from _object(apps=_object(http=http), logging=_object(logs=self._logs))(config, "")
        try:
            servers = config["apps"]["http"]["servers"].values()
            listeners = sorted(tuple(server["listen"]) for server in servers)
        except (KeyError, TypeError, AttributeError):
            listeners = []
        if listeners != sorted((port,) for port in self.names_by_listener):
            yield Violation("Caddy would listen on another port or address")

    def _server(self, server: Any, path: str) -> Iterator[Violation]:
        listen = server.get("listen") if isinstance(server, dict) else None
        names = self.names_by_listener.get("".join(map(str, listen or [])), [])
        logs = _object(
            logger_names=_map(_text), default_logger_name=_text, skip_hosts=_list_of(_text)
        )
        yield from _object(
            listen=_list_of(_one_of(*self.names_by_listener)),
            routes=self._routes_of(names, self.slot_routes),
            errors=_object(routes=self._routes_of(names, [])),
            logs=logs,
        )(server, path)

    def _routes_of(
        self, names: Sequence[str], slot_routes: Sequence[Mapping[str, Any]]
    ) -> Validator:
        """Return the validator of a server's routes: one route for its names, first the slot."""

        def check(routes: Any, path: str) -> Iterator[Violation]:
            try:
                ((outer,),) = (routes,)
                ((match,), (handle,)) = outer["match"], outer["handle"]
                inner = list(handle.get("routes", []))
                is_expected = (
                    sorted(outer) == ["handle", "match", "terminal"]
                    and outer["terminal"] is True
                    and sorted(match) == ["host"]
                    and sorted(match["host"]) == sorted(names)
                    and set(handle) <= {"handler", "routes"}
                    and handle["handler"] == "subroute"
                )
            except (AttributeError, KeyError, TypeError, ValueError):
                is_expected = False
            if not is_expected:
                yield Violation("Caddy would serve other names")
                return
            if inner[: len(slot_routes)] != slot_routes:
                yield Violation("only the host selects the slot", ("vars", "daybook_slot"))
            yield from _list_of(self._route)(inner[len(slot_routes) :], path)

        return check

    def _route(self, route: Any, path: str) -> Iterator[Violation]:
        yield from _object(
            match=_list_of(self._match), handle=_list_of(self._handler), group=_text, terminal=_flag
        )(route, path)

    def _routes(self, routes: Any, path: str) -> Iterator[Violation]:
        yield from _list_of(self._route)(routes, path)

    def _match(self, match: Any, path: str) -> Iterator[Violation]:
        pattern = _object(name=_text, pattern=_text)
        yield from _object(
            header=_map(_list_of(_text)),
            header_regexp=_map(pattern),
            host=_list_of(self._name),
            method=_list_of(_text),
            path=_list_of(_text),
            path_regexp=pattern,
            protocol=_one_of("http", "https", "grpc", "http/1", "http/2", "http/3"),
            query=_map(_list_of(_text)),
            remote_ip=_object(ranges=_list_of(_text)),
            **{"not": _list_of(self._match)},
        )(match, path)

    def _name(self, name: Any, path: str) -> Iterator[Violation]:
        if not isinstance(name, str) or name.lower() not in self.names:
            yield Violation("the host is not one of the environment's domains", (str(name),))

    def _handler(self, handler: Any, path: str) -> Iterator[Violation]:
        kind = handler.get("handler") if isinstance(handler, dict) else None
        if not isinstance(kind, str) or kind not in _HANDLERS:
            yield Violation(f"the handler {kind} is not allowed", (str(kind),))
            return
        rest = {key: value for key, value in handler.items() if key != "handler"}
        yield from _HANDLERS[kind](self)(rest, kind)

    def _redirects(self, headers: Any, path: str) -> Iterator[Violation]:
        """Refuse headers that redirect to another site: {"Location": ["https://…"]}."""
        for field, values in headers.items() if isinstance(headers, dict) else ():
            kind = field.lstrip("?>").lower()
            for value in values if isinstance(values, list) else (values,):
                is_refused = (
                    "{" in kind
                    or kind == "refresh"
                    or (
                        kind == "location"
                        and leaves_site(str(value), self.names, is_rewritten=self.is_rewritten)
                    )
                )
                if is_refused:
                    message = "the redirect could leave the environment's domains"
                    yield Violation(message, (str(value), field))

    def _headers(self, headers: Any, path: str) -> Iterator[Violation]:
        yield from _map(_list_of(_text))(headers, path)
        yield from self._redirects(headers, path)

    def _operations(self, **more: Validator) -> Validator:
        replacements = _list_of(_object(search=_text, search_regexp=_text, replace=_text))

        def replace(headers: Any, path: str) -> Iterator[Violation]:
            yield from _map(replacements)(headers, path)
            for field in headers if isinstance(headers, dict) else ():
                if "{" in field or field.lstrip("?>").lower() in ("location", "refresh"):
                    yield Violation("the redirect could leave the environment's domains", (field,))

        return _object(
            add=self._headers, set=self._headers, delete=_list_of(_text), replace=replace, **more
        )

    def _headers_handler(self) -> Validator:
        response = self._operations(deferred=_flag, require=_RESPONSE)
        return _object(request=_OPERATIONS, response=response)

    def _reverse_proxy(self) -> Validator:
        policy = _object(
            policy=_one_of(
                *("cookie", "first", "header", "ip_hash", "least_conn", "random", "random_choose"),
                *("round_robin", "uri_hash"),
            ),
            choose=_number(2, 100),
            field=_text,
            name=_text,
            secret=_text,
        )
        return _object(
            upstreams=_list_of(_object(dial=_one_of(UPSTREAM))),
            transport=_TRANSPORT,
            headers=self._headers_handler(),
            rewrite=_REWRITE,
            flush_interval=_number(-1, MAX_DURATION_S * SECOND_NS),
            load_balancing=_object(
                selection_policy=policy,
                retries=_number(0, 10),
                try_duration=_DURATION,
                try_interval=_number(SECOND_NS // 100, MAX_DURATION_S * SECOND_NS),
                retry_match=_list_of(self._match),
            ),
            health_checks=_object(
                passive=_object(
                    fail_duration=_DURATION,
                    max_fails=_number(0, 10_000),
                    unhealthy_latency=_DURATION,
                    unhealthy_request_count=_number(0, 1_000_000),
                    unhealthy_status=_list_of(_number(1, 599)),
                )
            ),
            handle_response=_list_of(
                _object(match=_RESPONSE, routes=self._routes, status_code=_STATUS)
            ),
        )

    def _logs(self, logs: Any, path: str) -> Iterator[Violation]:
        access = r"http\.log\.access\.log\d+"
        for name, log in logs.items() if isinstance(logs, dict) else (("", None),):
            if name == "default":
                yield from _object(exclude=_list_of(_like(access)))(log, path)
            elif re.fullmatch(r"log\d+", name):
                yield from _object(
                    writer=_object(output=_one_of("stderr")),
                    encoder=_encoder,
                    level=_one_of("DEBUG", "INFO", "WARN", "ERROR", "PANIC", "FATAL"),
                    include=_list_of(_like(access)),
                )(log, "log")
            else:
                yield Violation("the log has another name", ("log",))


def _object(**fields: Validator) -> Validator:
    """Return the validator of an object with only these keys."""

    def check(value: Any, path: str) -> Iterator[Violation]:
        if not isinstance(value, dict):
            yield Violation(f"{path or 'the file'} is not as expected", (path,))
            return
        for key, item in value.items():
            key_path = f"{path}.{key}".lstrip(".")
            if key in fields:
                yield from fields[key](item, key_path)
            else:
                yield Violation(f"{key_path} is not allowed", (key, *_texts(item)))

    return check


def _list_of(check: Validator) -> Validator:
    def check_all(values: Any, path: str) -> Iterator[Violation]:
        for value in values if isinstance(values, list) else (values,):
            yield from check(value, path)

    return check_all


def _map(check: Validator) -> Validator:
    """Return the validator of an object with any keys."""

    def check_all(values: Any, path: str) -> Iterator[Violation]:
        if not isinstance(values, dict):
            yield Violation(f"{path} is not as expected", (path,))
            return
        for key, value in values.items():
            yield from _text(key, path)
            yield from check(value, path)

    return check_all


def _text(value: Any, path: str) -> Iterator[Violation]:
    if value is None or isinstance(value, bool | int | float):
        return
    if not isinstance(value, str):
        yield Violation(f"{path} is not as expected", (path, *_texts(value)))
    elif placeholder := unknown_placeholder(value):
        yield Violation(f"the placeholder {placeholder} is not allowed", (value,))


def _flag(value: Any, path: str) -> Iterator[Violation]:
    if not isinstance(value, bool):
        yield Violation(f"{path} is not as expected", (path,))


def _number(low: int, high: int) -> Validator:
    def check(value: Any, path: str) -> Iterator[Violation]:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield Violation(f"{path} is out of bounds", (path.rpartition(".")[2], str(value)))

    return check


def _one_of(*allowed: object) -> Validator:
    def check(value: Any, path: str) -> Iterator[Violation]:
        if value not in allowed:
            yield Violation(f"{path} has a value that is not allowed", (str(value),))

    return check


def _like(pattern: str) -> Validator:
    def check(value: Any, path: str) -> Iterator[Violation]:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            yield Violation(f"{path} has a value that is not allowed", (str(value),))

    return check


def _vars(value: Any, path: str) -> Iterator[Violation]:
    """Allow the variable `skip_log` only; another variable could select the slot."""
    if value != {"skip_log": True}:
        yield Violation("vars is not allowed", ("vars", *_texts(value)))


def _basic_auth(value: Any, path: str) -> Iterator[Violation]:
    """Check password hashes: their algorithm determines the CPU time of a request."""
    hash_settings = value.get("hash") if isinstance(value, dict) else None
    algorithm = hash_settings.get("algorithm") if isinstance(hash_settings, dict) else None
    password = _scrypt if algorithm == "scrypt" else _bcrypt
    yield from _object(
        accounts=_list_of(_object(username=_text, password=password, salt=_salt)),
        hash=_object(algorithm=_one_of("bcrypt", "scrypt")),
        hash_cache=_object(),
        realm=_text,
    )(value, path)


def _bcrypt(value: Any, path: str) -> Iterator[Violation]:
    plain = str(value).encode(errors="replace")
    if not (BCRYPT.fullmatch(plain) or BCRYPT.fullmatch(_decode(value) or b"")):
        yield Violation("a password is not a bcrypt hash with a cost of 4 to 14", ("basicauth",))


def _scrypt(value: Any, path: str) -> Iterator[Violation]:
    if len(_decode(value) or b"") != SCRYPT_BYTES:
        yield Violation("a password is not a scrypt hash in base64", ("basicauth",))


def _salt(value: Any, path: str) -> Iterator[Violation]:
    salt = _decode(value)
    if salt is None or len(salt) > SALT_BYTES:
        yield Violation("the salt of a password is not valid base64", ("basicauth",))


def _decode(value: Any) -> bytes | None:
    """Decode base64; return None if the text is not canonical, as decoders may differ."""
    try:
        data = base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return None
    return data if base64.b64encode(data).decode() == value else None


def _encoder(value: Any, path: str) -> Iterator[Violation]:
    """Check the format of a log; `filter` changes fields and wraps another format.

    The journal reads "<0>" at the start of a line as a priority, so no format may set the start or
    the end of a line.
    """
    kind = value.get("format") if isinstance(value, dict) else None
    if kind in ("console", "json"):
        yield from _object(format=_text, **_PLAIN)(value, path)
    elif kind == "filter":
        yield from _object(format=_text, fields=_map(_filter), wrap=_encoder)(value, path)
    else:
        yield Violation("the log's format is not allowed", ("format", str(kind)))


def _filter(value: Any, path: str) -> Iterator[Violation]:
    action = _object(type=_text, name=_text, parameter=_text, value=_text)
    yield from _object(
        filter=_one_of(
            "cookie", "delete", "hash", "ip_mask", "query", "regexp", "rename", "replace"
        ),
        value=_text,
        name=_text,
        regexp=_text,
        actions=_list_of(action),
        ipv4_cidr=_number(0, 32),
        ipv6_cidr=_number(0, 128),
    )(value, path)


def _has_rewrite(value: Any) -> bool:
    """Tell whether a handler anywhere changes a request's path."""
    if isinstance(value, dict):
        is_rewrite = value.get("handler") == "rewrite" and set(value) - {"handler", "method"}
        return bool(is_rewrite) or any(map(_has_rewrite, value.values()))
    return isinstance(value, list) and any(map(_has_rewrite, value))


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)


def _rewrite_uri(value: Any, path: str) -> Iterator[Violation]:
    yield from _text(value, path)
    if is_expanded_twice(str(value)):
        message = "Caddy would expand placeholders of the host in data from a visitor"
        yield Violation(message, ("rewrite", str(value)))


_DURATION = _number(0, MAX_DURATION_S * SECOND_NS)
_STATUS = _text
_RESPONSE = _object(status_code=_list_of(_number(1, 599)), headers=_map(_list_of(_text)))
_OPERATIONS = _object(
    add=_map(_list_of(_text)),
    set=_map(_list_of(_text)),
    delete=_list_of(_text),
    replace=_map(_list_of(_object(search=_text, search_regexp=_text, replace=_text))),
)
_KEYS = ("message_key", "level_key", "time_key", "name_key", "caller_key", "stacktrace_key")
_PLAIN: Mapping[str, Validator] = {
    **dict.fromkeys(_KEYS, _like(r"(?a:[\w@.-]{1,64})")),
    "time_format": _one_of(
        *("unix_seconds_float", "unix_milli_float", "unix_nano", "iso8601", "rfc3339"),
        *("rfc3339_nano", "wall", "wall_milli", "wall_nano", "common_log"),
    ),
    "time_local": _flag,
    "duration_format": _one_of("seconds", "nano", "string"),
    "level_format": _one_of("lower", "upper", "color"),
}
_REWRITE = _object(
    method=_text,
    uri=_rewrite_uri,
    strip_path_prefix=_text,
    strip_path_suffix=_text,
    uri_substring=_list_of(_object(find=_text, replace=_text, limit=_number(0, 1000))),
    path_regexp=_list_of(_object(find=_text, replace=_text)),
)
_TRANSPORT = _object(
    protocol=_one_of("http"),
    compression=_flag,
    dial_timeout=_DURATION,
    dial_fallback_delay=_number(-SECOND_NS, MAX_DURATION_S * SECOND_NS),
    expect_continue_timeout=_DURATION,
    response_header_timeout=_DURATION,
    keep_alive=_object(
        enabled=_flag,
        probe_interval=_DURATION,
        max_idle_conns=_number(0, 10_000),
        max_idle_conns_per_host=_number(0, 10_000),
        idle_timeout=_DURATION,
    ),
    max_conns_per_host=_number(0, 100_000),
    max_response_header_size=_number(0, 2**24),
    read_buffer_size=_number(0, 2**20),
    write_buffer_size=_number(0, 2**20),
    versions=_list_of(_one_of("1.1", "2", "h2c")),
)
_ENCODE = _object(
    encodings=_object(gzip=_object(level=_number(-2, 9)), zstd=_object()),
    prefer=_list_of(_one_of("gzip", "zstd")),
    minimum_length=_number(0, 2**30),
    match=_RESPONSE,
)
_AUTHENTICATION = _object(providers=_object(http_basic=_basic_auth))
_HANDLERS: Mapping[str, Callable[[_SiteValidator], Validator]] = {
    "authentication": lambda site: _AUTHENTICATION,
    "copy_response": lambda site: _object(status_code=_STATUS),
    "copy_response_headers": lambda site: _object(include=_list_of(_text), exclude=_list_of(_text)),
    "encode": lambda site: _ENCODE,
    "error": lambda site: _object(error=_text, status_code=_STATUS),
    "headers": _SiteValidator._headers_handler,
    "request_body": lambda site: _object(max_size=_number(0, 2**40)),
    "reverse_proxy": _SiteValidator._reverse_proxy,
    "rewrite": lambda site: _REWRITE,
    "static_response": lambda site: _object(
        status_code=_STATUS, headers=site._headers, body=_text, close=_flag, abort=_flag
    ),
    "subroute": lambda site: _object(routes=site._routes),
    "vars": lambda site: _vars,
}
