"""Call GitHub's API for this repository with the workflow's token."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

TIMEOUT_S = 30


class Repository:
    """The workflow's repository; the token comes from GITHUB_TOKEN."""

    def __init__(self) -> None:
        self.url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}"
        self._token = os.environ["GITHUB_TOKEN"]

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._call("GET", path, None)

    def send(self, method: str, path: str, **body: Any) -> Any:
        """Send JSON, and return the answer."""
        return self._call(method, path, json.dumps(body).encode())

    def _call(self, method: str, path: str, data: bytes | None) -> Any:
        request = urllib.request.Request(f"{self.url}/{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
