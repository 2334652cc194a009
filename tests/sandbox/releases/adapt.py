"""Check Caddyfiles like a release, on a host: python3 adapt.py FILE [unread]

FILE contains [NAMES, [TEXT, …]]; the output is one {"refused": …, "config": …} per text. With
`unread`, the check of the text is skipped, so only the adapted configuration can be refused.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/sbin/release")

from daybook_release import caddyfile, host, site
from daybook_release.errors import Refused


class Listening(host.Host):
    """A host that keeps the output of Caddy."""

    out = ""

    def run(self, *words, **options):
        done = super().run(*words, **options)
        self.out = done.out
        return done


def check(names: list[str], text: str) -> dict[str, object]:
    listening = Listening()
    try:
        site.Caddy(listening, "app").check(site.render(text, tuple(names), "app", 8000))
    except Refused as err:
        return {"refused": err.message, "config": None}
    return {"refused": None, "config": json.loads(listening.out)}


if sys.argv[2:] == ["unread"]:
    caddyfile.problems = lambda *given: []
names, texts = json.loads(gzip.decompress(base64.b64decode(Path(sys.argv[1]).read_text())))
print(json.dumps([check(names, text) for text in texts]))
