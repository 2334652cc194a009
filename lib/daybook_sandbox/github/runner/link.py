"""What the runner says to GitHub and hears from it, by HTTP with a bearer token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

WAIT_S = 60


class RequestRefused(Exception):
    """An answer that is none. status: HTTP's number."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Link:
    """One address and what opens it."""

    url: str
    token: str
    scheme: str = "Bearer"

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Send JSON and return the JSON of the answer; None where there is none.

        Raises RequestRefused for a refusal, OSError where nobody answers.
        """
        body = self.raw(method, path, None if content is None else json.dumps(content).encode())
        return json.loads(body) if body else None

    def raw(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send bytes and return the answer's."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        request.add_header("Authorization", f"{self.scheme} {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace").strip()
            raise RequestRefused(error.code, said or error.reason) from error
