"""Parse the Caddyfile of an image, check each statement against an allow-list, and regenerate it.

Caddy never reads the image's text. It reads the statements parsed here, with each word quoted
again, inside the host's own site, so these checks and Caddy cannot interpret braces, comments,
snippets or `{$…}` differently. caddyjson checks the JSON that Caddy adapts them to.
https://caddyserver.com/docs/caddyfile/concepts
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from daybook_release.printable import printable

NAMES, UPSTREAM = "{$NAMES}", "{$UPSTREAM}"
SLOT = "{vars.daybook_slot}"
MAX_BYTES, MAX_DEPTH, MAX_STATEMENTS = 64 * 1024, 12, 1000
BLOCKS_OF_DIRECTIVES = ("handle", "handle_path", "route", "handle_errors", "handle_response")
DIRECTIVES = (
    *("abort", "basicauth", "copy_response", "copy_response_headers", "encode", "error"),
    *("handle", "handle_errors", "handle_path", "header", "log", "method", "redir"),
    *("request_body", "request_header", "respond", "reverse_proxy", "rewrite", "route"),
    *("skip_log", "uri"),
)
MATCHERS = (
    *("header", "header_regexp", "host", "method", "not", "path", "path_regexp", "protocol"),
    *("query", "remote_ip"),
)
SUBDIRECTIVES = {
    "reverse_proxy": (
        *("fail_duration", "flush_interval", "handle_response", "header_down", "header_up"),
        *("lb_policy", "lb_retries", "lb_retry_match", "lb_try_duration", "lb_try_interval"),
        *("max_fails", "method", "replace_status", "rewrite", "to", "transport"),
        *("unhealthy_latency", "unhealthy_request_count", "unhealthy_status"),
    ),
    "transport": (
        *("compression", "dial_fallback_delay", "dial_timeout", "expect_continue_timeout"),
        *("keepalive", "keepalive_idle_conns", "keepalive_idle_conns_per_host"),
        *("keepalive_interval", "max_conns_per_host", "max_idle_conns_per_host"),
        *("max_response_header", "read_buffer", "response_header_timeout", "versions"),
        "write_buffer",
    ),
    "log": ("format", "level", "output"),
    "not": MATCHERS,
    "lb_retry_match": MATCHERS,
}
"""Allowed in these blocks; caddyjson checks the words in other blocks."""
FIXES = {
    "import": "insert the imported lines",
    "file_server": "serve files from the application",
    "root": "serve files from the application",
    "try_files": "serve files from the application",
    "php_fastcgi": f"use reverse_proxy {UPSTREAM}",
    "forward_auth": f"authenticate in the application, or use reverse_proxy {UPSTREAM}",
    "tls": "remove it: the host manages certificates",
    "bind": "remove it: the host decides where Caddy listens",
    "expression": f"use {', '.join(MATCHERS)}",
}
PLACEHOLDER = re.compile(
    r"""
    dir | file | host | hostport | method | path | port | query | remote | remote_host
    | remote_port | scheme | uri | tls_cipher | tls_version | upstream_hostport
    | (cookie|header|labels|path|query)\.[\w-]+ | file\.(base|ext)
    | re\.[\w-]+\.[\w-]+ | http\.regexp\.[\w-]+\.[\w-]+
    | (err|http\.error)\.(id|status_code|status_text)
    | vars\.daybook_slot | http\.vars\.daybook_slot
    | (rp|http\.reverse_proxy)\.(status_code|status_text|header\.[\w-]+)
    | http\.reverse_proxy\.upstream\.hostport
    | http\.auth\.user\.id
    | http\.request\.(host|hostport|method|port|proto|scheme|uri|uuid|remote(\.host|\.port)?)
    | http\.request\.(cookie|header|host\.labels)\.[\w-]+
    | http\.request\.(orig_)?uri(\.path(\.dir|\.file(\.base|\.ext)?|\.\d+)?|\.query(\.[\w-]+)?)?
    | http\.request\.orig_(method|uri) | http\.request\.tls\.(cipher_suite|version)
    | time\.now(\.(common_log|http|unix|unix_ms|year))?
    """,
    re.VERBOSE,
)
"""Allowed placeholders: data of the request and the response, never of the host."""
PLACEHOLDER_START = re.compile(r"\{([A-Za-z][\w-]*)(?=[.}]|$)([^}]*)")
"""Text that Caddy could read as a placeholder; JSON and CSS do not match."""
AUTHORITY = re.compile(
    r"(?i:https?|\{scheme\}|\{http\.request\.scheme\})://"
    r"(?P<host>\{host\}|\{http\.request\.host\}|[a-z0-9.-]+)(?P<rest>.*)",
    re.DOTALL,
)
PATH = re.compile(r"\{(uri|path|http\.request\.uri(\.path)?)\}")
ORIGINAL_PATH = re.compile(r"\{http\.request\.orig_uri(\.path)?\}")
"""Always begins with a slash, even if a path was rewritten."""
URI = re.compile(r"\{(http\.request\.)?uri\}")
WORD = re.compile(
    r"""
    (?P<space>[ \t]+|\\\n) | (?P<newline>\n) | (?P<comment>\#[^\n]*)
    | "(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|\Z) | `(?P<literal>[^`]*)`(?=\s|\Z)
    | (?P<bare>(?!["`\#]|\\["`\#])(?:[^\s\\]|\\(?=\S)[^\s])+)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class CaddyfileProblem:
    """A reason to refuse a Caddyfile. line: in the image's file."""

    line: int
    message: str
    fix: str

    def __str__(self) -> str:
        return f"Caddyfile line {self.line}: {printable(self.message, 200)}; {self.fix}"


class InvalidCaddyfile(Exception):
    """The file cannot be parsed. problem: the reason and its line."""

    def __init__(self, line: int, message: str, fix: str) -> None:
        super().__init__(message)
        self.problem = CaddyfileProblem(line, message, fix)


@dataclass(frozen=True)
class Word:
    """A token of a Caddyfile, without its quotes."""

    text: str
    line: int
    is_quoted: bool = False

    def is_brace(self, brace: str) -> bool:
        return not self.is_quoted and self.text == brace


@dataclass(frozen=True)
class Statement:
    """The words of a line, and the statements of the block that it opens, if any."""

    words: tuple[Word, ...]
    line: int
    block: tuple[Statement, ...] | None = None

    @property
    def name(self) -> str:
        return self.words[0].text if self.words else ""

    @property
    def arguments(self) -> tuple[Word, ...]:
        """Return the words after the name, without a matcher."""
        words = self.words[1:]
        is_matched = words and (words[0].text.startswith(("@", "/")) or words[0].text == "*")
        return words[1:] if is_matched else words

    def all(self) -> Iterator[Statement]:
        """Yield this statement and all statements in its block."""
        yield self
        for statement in self.block or ():
            yield from statement.all()


def read(text: str) -> tuple[Statement, ...]:
    """Parse a file; raise InvalidCaddyfile if it is malformed or exceeds a limit."""
    if len(text.encode()) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024} KiB"
        raise InvalidCaddyfile(1, message, "serve long texts from the application")
    lines: list[list[Word]] = [[]]
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.replace("\t", " ").isprintable():
            raise InvalidCaddyfile(number, "a character is not printable", "remove it")
    for word in _split_words(text):
        if word is None:
            lines.append([])
        else:
            lines[-1].append(word)
    lines = [line for line in lines if line]
    if len(lines) > MAX_STATEMENTS:
        message = f"the file has more than {MAX_STATEMENTS} statements"
        raise InvalidCaddyfile(lines[MAX_STATEMENTS][0].line, message, "shorten it")
    return _blocks(lines)


def problems(statements: Sequence[Statement], names: Collection[str]) -> list[CaddyfileProblem]:
    """Return all reasons to refuse a file.

    names: the environment's domains, without a scheme.
    """
    result = [problem for statement in statements for problem in _top_level_problems(statement)]
    sites = [site for site in statements if site.name == NAMES and site.block is not None]
    for site in sites[1:]:
        result.append(CaddyfileProblem(site.line, f"{NAMES} is defined twice", "keep one site"))
    if not sites:
        fix = f"begin it with {NAMES} {{ and end it with }}"
        result.append(CaddyfileProblem(1, f"the file has no site {NAMES}", fix))
    inner = [statement for site in sites for statement in site.all()]
    if sites and not any(word.text == UPSTREAM for statement in inner for word in statement.words):
        fix = f"add reverse_proxy {UPSTREAM}"
        result.append(CaddyfileProblem(sites[0].line, f"{UPSTREAM} is not used", fix))
    has_rewrites = any(statement.name in ("uri", "rewrite", "handle_path") for statement in inner)
    checker = _DirectiveChecker(tuple(name.lower() for name in names), has_rewrites)
    for site in sites:
        for statement in site.block:
            result += checker.directive(statement)
    return sorted(dict.fromkeys(result), key=lambda problem: problem.line)


def check(text: str, names: Collection[str]) -> list[CaddyfileProblem]:
    """Return all reasons to refuse a text, including syntax errors."""
    try:
        return problems(read(text), names)
    except InvalidCaddyfile as err:
        return [err.problem]


def write(statements: Sequence[Statement], depth: int = 1) -> Iterator[tuple[int, str]]:
    """Yield the text of each statement with its line in the image's file."""
    indent = "\t" * depth
    for statement in statements:
        words = " ".join(_quote(word) for word in statement.words)
        if statement.block is None:
            yield statement.line, f"{indent}{words}\n"
            continue
        yield statement.line, f"{indent}{words} {{\n"
        yield from write(statement.block, depth + 1)
        yield statement.line, f"{indent}}}\n"


def leaves_site(location: str, names: Collection[str], *, is_rewritten: bool = True) -> bool:
    """Tell whether a redirect could leave the environment's domains.

    is_rewritten: a rewrite may have removed the first slash of a path, so that
    "https://shop.test{uri}" could become https://shop.test.example/.
    """
    if not location.isprintable() or " " in location or "\\" in location:
        return True
    if match := AUTHORITY.fullmatch(location):
        is_own = match["host"].startswith("{") or match["host"].lower() in names
        is_ended = match["rest"][:1] in ("", "/", "?", "#") or ORIGINAL_PATH.match(match["rest"])
        if not is_rewritten:
            is_ended = is_ended or PATH.match(match["rest"])
        return not (is_own and is_ended)
    return not re.match(r"/?[?#]|/\Z|/[^/{]", location)


def unknown_placeholder(text: str) -> str:
    """Return the first placeholder in a text that is not allowed, shortened to "{env.…}", or ""."""
    for match in PLACEHOLDER_START.finditer(text.replace(UPSTREAM, SLOT)):
        if not PLACEHOLDER.fullmatch(match[1] + match[2]):
            return "{" + match[1] + (".…}" if match[2] else "}")
    return "{$…}" if "{$" in text.replace(UPSTREAM, "") else ""


def is_expanded_twice(uri: str) -> bool:
    """Tell whether a rewrite expands placeholders such as {env.HOME} in data from a visitor.

    Caddy 2.6 replaces {uri} by the request's path and expands the result. If the query of the
    rewrite is empty, it also expands the text after a ? in a value of the path.
    https://github.com/advisories/GHSA-j8px-rmrx-76h9
    """
    path, mark, query = uri.partition("#")[0].partition("?")
    return bool(URI.search(path) or ("{" in path and mark and not query))


class _DirectiveChecker:
    """Check directives for an environment.

    names: the environment's domains. has_rewrites: a directive of the file changes paths.
    """

    def __init__(self, names: Collection[str], has_rewrites: bool) -> None:
        self.names = names
        self.has_rewrites = has_rewrites

    def directive(self, statement: Statement) -> Iterator[CaddyfileProblem]:
        name = statement.name
        yield from self._split_words(statement)
        if name.startswith("@"):
            yield from self._match(statement, statement.words[1:])
        elif name not in DIRECTIVES:
            yield _not_allowed(statement, name, DIRECTIVES)
        else:
            yield from self._arguments(statement)
            yield from self._block(statement)

    def _block(self, statement: Statement) -> Iterator[CaddyfileProblem]:
        allowed = SUBDIRECTIVES.get(statement.name)
        for inner in statement.block or ():
            if statement.name in BLOCKS_OF_DIRECTIVES:
                yield from self.directive(inner)
                continue
            yield from self._split_words(inner)
            is_matcher = statement.name == "reverse_proxy" and inner.name.startswith("@")
            if allowed and not is_matcher and inner.name not in allowed:
                yield _not_allowed(inner, inner.name, allowed, f" in {statement.name}")
            elif statement.name == "header":
                yield from self._header(inner, inner.words)
            elif allowed:
                yield from self._arguments(inner)
            yield from self._block(inner)

    def _split_words(self, statement: Statement) -> Iterator[CaddyfileProblem]:
        for word in statement.words:
            if placeholder := unknown_placeholder(word.text):
                message = f"the placeholder {placeholder} is not allowed"
                fix = "use placeholders of the request, such as {host}, {uri} and {header.Accept}"
                yield CaddyfileProblem(word.line, message, fix)
            if "`" in word.text and ('"' in word.text or word.text.endswith("\\")):
                fix = "use one kind of quotes within a word"
                yield CaddyfileProblem(word.line, "the word contains both kinds of quotes", fix)
            if "@daybook" in word.text:
                message = "names that begin with @daybook are reserved"
                yield CaddyfileProblem(word.line, message, "choose another name")
            if (
                word.text == "import"
            ):  # At the start of a line Caddy imports, even if the word is quoted.
                yield CaddyfileProblem(word.line, "import is not allowed", FIXES["import"])

    def _match(self, statement: Statement, words: Sequence[Word]) -> Iterator[CaddyfileProblem]:
        kind, *values = [*words, None]
        if kind and kind.text == "not":
            yield from self._match(statement, words[1:])
            return
        if kind and kind.text not in MATCHERS:
            yield _not_allowed(statement, kind.text, MATCHERS)
        if kind and kind.text == "host":
            for value in values[:-1]:
                if value.text.lower() not in self.names:
                    message = "the host is not one of the environment's domains"
                    yield CaddyfileProblem(value.line, message, f"use {_some_of(self.names)}")
        for inner in statement.block or ():
            yield from self._split_words(inner)
            yield from self._match(inner, inner.words)

    def _arguments(self, statement: Statement) -> Iterator[CaddyfileProblem]:
        name, words = statement.name, statement.words[1:]
        if name in ("reverse_proxy", "to"):
            for word in statement.arguments if name == "reverse_proxy" else words:
                if word.text != UPSTREAM:
                    fix = f"use only {UPSTREAM}"
                    yield CaddyfileProblem(word.line, "the upstream is not the application", fix)
        elif name == "transport" and [word.text for word in words] != ["http"]:
            yield CaddyfileProblem(
                statement.line, "the transport is not http", "use transport http"
            )
        elif name == "output" and [word.text for word in words] != ["stderr"]:
            yield CaddyfileProblem(
                statement.line, "the log does not go to stderr", "use output stderr"
            )
        elif name == "rewrite":
            for word in words:
                if is_expanded_twice(word.text):
                    message = "Caddy would expand placeholders of the host in data from a visitor"
                    fix = "remove the ?, or write a query after it, such as {query}"
                    if URI.search(word.text.partition("?")[0]):
                        fix = "write {path} instead of {uri}; the query is kept"
                    yield CaddyfileProblem(word.line, message, fix)
        elif name == "redir" and statement.arguments:
            yield from self._location(statement.arguments[0])
        elif name == "header":
            yield from self._header(statement, statement.arguments)
        elif name == "header_down":
            yield from self._header(statement, words)

    def _header(self, statement: Statement, words: Sequence[Word]) -> Iterator[CaddyfileProblem]:
        field = words[0].text.lstrip("+?>").lower() if words else ""
        if "{" in field:
            message = "a request could choose the header's name"
            yield CaddyfileProblem(statement.line, message, "use a fixed name")
        elif field == "location" and len(words) == 2:
            yield from self._location(words[1])
        elif field in ("location", "refresh") and len(words) > 1:
            message = f"the header {field.title()} could redirect to another site"
            yield CaddyfileProblem(
                statement.line, message, "use redir, or set it in the application"
            )

    def _location(self, word: Word) -> Iterator[CaddyfileProblem]:
        if leaves_site(word.text, self.names, is_rewritten=self.has_rewrites):
            fix = f"begin it with a path such as /new, or with https:// and {_some_of(self.names)}"
            if self.has_rewrites and AUTHORITY.fullmatch(word.text):
                fix += ", then / or {http.request.orig_uri}, because this file rewrites paths"
            yield CaddyfileProblem(
                word.line, "the redirect could leave the environment's domains", fix
            )


def _split_words(text: str) -> Iterator[Word | None]:
    """Yield the words of a text, and None at the end of each line."""
    at, line = 0, 1
    while at < len(text):
        match = WORD.match(text, at)
        if not match:
            fix = "close each quote and add a space after it"
            raise InvalidCaddyfile(line, "a quote or a backslash cannot be parsed", fix)
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "newline":
            yield None
        elif kind in ("quoted", "literal", "bare"):
            if kind == "quoted":
                value = re.sub(r"\\(.)", _unescape, value, flags=re.DOTALL)
            if kind != "bare" and value in ("{", "}"):
                fix = "add another character to the word"
                raise InvalidCaddyfile(line, "Caddy reads a quoted brace as a block", fix)
            yield Word(value, line, kind != "bare")
        line += match[0].count("\n")
        at = match.end()


def _unescape(match: re.Match[str]) -> str:
    return '"' if match[1] == '"' else match[0]


def _blocks(lines: Sequence[Sequence[Word]]) -> tuple[Statement, ...]:
    """Return lines as statements, nested in their blocks."""
    open_blocks: list[tuple[tuple[Word, ...], int]] = []
    levels: list[list[Statement]] = [[]]
    for words in lines:
        first, last, line = words[0], words[-1], words[0].line
        closes, opens = first.is_brace("}"), last.is_brace("{")
        inner_words = words[:-1] if opens or closes else words
        is_mixed = any(word.is_brace(brace) for word in inner_words for brace in ("{", "}", "{}"))
        if is_mixed or (closes and len(words) > 1):
            fix = "write { at the end of a line, and } on its own line"
            raise InvalidCaddyfile(line, "a brace is in the middle of the line", fix)
        if closes:
            if not open_blocks:
                raise InvalidCaddyfile(line, "this } closes no block", "remove it")
            (head, began), block = open_blocks.pop(), tuple(levels.pop())
            levels[-1].append(Statement(head, began, block))
        elif opens:
            if len(open_blocks) >= MAX_DEPTH:
                raise InvalidCaddyfile(
                    line, f"more than {MAX_DEPTH} blocks are nested", "use fewer"
                )
            open_blocks.append((tuple(words[:-1]), line))
            levels.append([])
        else:
            levels[-1].append(Statement(tuple(words), line))
    if open_blocks:
        raise InvalidCaddyfile(open_blocks[-1][1], "the block is not closed", "close it with }")
    return tuple(levels[0])


def _top_level_problems(statement: Statement) -> Iterator[CaddyfileProblem]:
    """Allow only one site at the top level."""
    texts = [word.text for word in statement.words]
    if texts == [NAMES] and statement.block is not None:
        return
    if not texts:
        message, fix = "global options are not allowed", "remove the block"
    elif texts[0] == "import":
        message, fix = "import is not allowed", FIXES["import"]
    elif re.fullmatch(r"\(.*\)", texts[0]):
        message, fix = "snippets are not allowed", FIXES["import"]
    else:
        message, fix = "another site or listener is not allowed", f"keep {NAMES} only"
    yield CaddyfileProblem(statement.line, message, fix)


def _not_allowed(
    statement: Statement, name: str, allowed: Sequence[str], within: str = ""
) -> CaddyfileProblem:
    fix = FIXES.get(name) or f"allowed{within}: {', '.join(allowed)}"
    return CaddyfileProblem(statement.line, f"{printable(name, 40)} is not allowed", fix)


def _some_of(names: Collection[str]) -> str:
    return " or ".join(sorted(names)[:5])


def _quote(word: Word) -> str:
    """Quote a word unless it is plain."""
    text = word.text.replace(UPSTREAM, SLOT)
    if re.fullmatch(r"(?:[A-Za-z0-9_@/.:*=+-]|\{[\w.-]+\})+", text):
        return text
    return f'"{text}"' if "`" in text else f"`{text}`"
