"""Answer immediately, slowly, with an echo or in a stream; on SIGTERM, finish open requests."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """`/slow?s=5` takes its time; `/stream?s=10` says a line ten times a second; POST echoes."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        seconds = float(parse_qs(url.query).get("s", ["0"])[0])
        if url.path == "/stream":
            self.stream(seconds)
            return
        time.sleep(seconds)
        facts = {"version": os.environ.get("APP_VERSION", ""), "path": url.path}
        self.answer(json.dumps(facts).encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        if self.server.is_ending:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(round(seconds * 10)):
            line = f"{number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def log_request(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """A server that waits for open requests when it closes."""

    daemon_threads = False
    request_queue_size = 128
    is_ending = False


def main() -> None:
    """Listen until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = Server(("", 8000), Handler)
    threading.Thread(target=server.serve_forever).start()
    stop.wait()
    server.is_ending = True
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
