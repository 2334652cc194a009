"""Check Caddyfiles as a release does: python3 adapt.py FILE [unread], on a host.

FILE holds [NAMES, [TEXT, …]]; the output has one {"refused": …, "config": …} for each text. With
`unread` the words are not checked, so that only the adapted JSON can be refused.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/sbin/release")

from daybook_release import caddyfile, site, system
from daybook_release.errors import Refused


class RecordingSystem(system.System):
    """Keeps the output of Caddy."""

    out = ""

    def run(self, *words, **options):
        done = super().run(*words, **options)
        self.out = done.out
        return done


def check(names: list[str], text: str) -> dict[str, object]:
    recording = RecordingSystem()
    try:
        site.Caddy(recording, "app").check(site.render(text, tuple(names), "app", 8000))
    except Refused as err:
        return {"refused": err.message, "config": None}
    return {"refused": None, "config": json.loads(recording.out)}


if sys.argv[2:] == ["unread"]:
    caddyfile.problems = lambda *given: []
names, texts = json.loads(gzip.decompress(base64.b64decode(Path(sys.argv[1]).read_text())))
print(json.dumps([check(names, text) for text in texts]))
