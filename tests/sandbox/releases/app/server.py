"""Serve an application that is good, or bad as defined by MODE."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ.get("MODE", "good")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/slow":
            time.sleep(float(query))
        if path == "/version":
            version = "another" if MODE == "lies" else os.environ.get("APP_VERSION", "")
            secret = os.environ.get("TOKEN", "")
            self.answer(200, json.dumps({"version": version, "token": secret}).encode())
        elif MODE == "sick" or (MODE == "hides" and "X-Forwarded-For" in self.headers):
            self.answer(500, b"not well\n")
        else:
            self.answer(200, b"well\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, hashlib.sha256(body).hexdigest().encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = False


def main() -> None:
    """Listen until SIGTERM, then finish open requests."""
    if MODE == "exits":
        sys.exit("there is no database")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = Server(("", 8000), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
