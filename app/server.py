"""Serve the example application: a page, a health check and a version, until SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))


def facts() -> dict[str, str]:
    """Return the version that runs here: {"version": "1.4.0", "environment": "staging", "host": "hello-1"}."""
    return {
        "version": os.environ.get("APP_VERSION") or "unreleased",
        "environment": os.environ.get("APP_ENVIRONMENT") or "development",
        "host": os.environ.get("APP_HOST") or socket.gethostname(),
    }


def page() -> bytes:
    """Render the page for visitors."""
    return PAGE.substitute({name: escape(value) for name, value in facts().items()}).encode()


def version() -> bytes:
    """Render the facts for a program."""
    return json.dumps(facts()).encode() + b"\n"


ROUTES = {
    "/": ("text/html; charset=utf-8", page),
    "/up": ("text/plain; charset=utf-8", lambda: b"up\n"),
    "/version": ("application/json", version),
}


class Handler(BaseHTTPRequestHandler):
    """Answer one GET or HEAD per connection, so that shutdown waits for requests only."""

    protocol_version = "HTTP/1.0"
    server_version = "hello"
    sys_version = ""
    timeout = 5

    def do_GET(self) -> None:
        route = ROUTES.get(self.path.partition("?")[0])
        if route is None:
            self.answer(404, "text/plain; charset=utf-8", b"not found\n")
        else:
            kind, render = route
            self.answer(200, kind, render())

    do_HEAD = do_GET

    def answer(self, status: int, kind: str, body: bytes) -> None:
        """Send one complete response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log every request except health checks."""
        if " /up " not in self.requestline:
            super().log_request(code, size)


class Server(ThreadingHTTPServer):
    """Finish open requests when closing."""

    daemon_threads = False


def main() -> None:
    """Listen until SIGTERM or SIGINT, then finish open requests."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(("", int(os.environ.get("PORT") or "8000")), Handler)
    threading.Thread(target=server.serve_forever).start()
    print(f"listening on port {server.server_port}", flush=True)
    stop.wait()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
