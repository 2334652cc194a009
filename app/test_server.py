"""The application's own test: `python3 -m unittest` in this folder."""

from __future__ import annotations

import json
import os
import threading
import unittest
from unittest import mock
from urllib.error import HTTPError
from urllib.request import urlopen

import server


class ServerTest(unittest.TestCase):
    def setUp(self) -> None:
        facts = {"APP_VERSION": "1.4.0", "APP_ENVIRONMENT": "<staging>", "APP_HOST": "hello-1"}
        self.enterContext(mock.patch.dict(os.environ, facts))
        self.enterContext(mock.patch.object(server.Handler, "log_message"))
        self.server = server.Server(("127.0.0.1", 0), server.Handler)
        self.addCleanup(self.server.server_close)
        threading.Thread(target=self.server.serve_forever).start()
        self.addCleanup(self.server.shutdown)

    def get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.server.server_port}{path}", timeout=5) as answer:
            return answer.read()

    def test_up(self) -> None:
        self.assertEqual(self.get("/up"), b"up\n")

    def test_version(self) -> None:
        expected = {"version": "1.4.0", "environment": "<staging>", "host": "hello-1"}
        self.assertEqual(json.loads(self.get("/version")), expected)

    def test_page_shows_the_facts_escaped(self) -> None:
        page = self.get("/").decode()
        self.assertIn("&lt;staging&gt;", page)
        self.assertNotIn("<staging>", page)
        self.assertIn("1.4.0", page)
        self.assertIn("hello-1", page)

    def test_anything_else_is_not_found(self) -> None:
        with self.assertRaises(HTTPError) as caught:
            self.get("/nothing")
        self.assertEqual(caught.exception.code, 404)
        caught.exception.close()


if __name__ == "__main__":
    unittest.main()
