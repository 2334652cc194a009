"""The runner's HTTP client for GitHub."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

WAIT_S = 60


class RequestRefused(Exception):
    """An HTTP error response. status: its code."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Link:
    """A base URL and its token."""

    url: str
    token: str
    scheme: str = "Bearer"

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Send JSON and return the response's JSON; None if it is empty.

        Raises RequestRefused for an error response, OSError if the server is unreachable.
        """
        body = self.raw(method, path, None if content is None else json.dumps(content).encode())
        return json.loads(body) if body else None

    def raw(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send bytes and return the response's bytes."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        request.add_header("Authorization", f"{self.scheme} {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace").strip()
            raise RequestRefused(error.code, text or error.reason) from error
