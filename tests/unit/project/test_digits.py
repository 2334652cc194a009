"""Text from outside is matched in ASCII: AWS, ssh and git take no other digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LIB = Path(__file__).parents[3] / "lib"
FILES = sorted([*LIB.glob("daybook/**/*.py"), *LIB.glob("daybook_release/**/*.py")])
LOOSE = re.compile(r"\\d|\.is(digit|decimal|numeric)\(|type=(int|float)\b")
"""What takes Unicode digits: patterns of text, str's own questions, argparse's conversion."""
FINE = {
    "daybook/record/redact.py",  # only guesses what may be a secret
    "daybook/git.py",  # compiled with re.ASCII
    "daybook/lock/watchdog.py",  # names in /proc
    "daybook/hosts/ssh_keys.py",  # only leaves out keys that have expired
    "daybook/supervisor.py",  # names in /proc
    "daybook_release/caddyfile.py",  # compiled with re.ASCII, or Caddy takes no others
    "daybook_release/caddyjson.py",  # written by Caddy, which takes no others
    "daybook_release/site.py",  # what Caddy prints
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_no_pattern_takes_unicode_digits(path):
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LOOSE.search(line) and "re.ASCII" not in line and "isascii" not in line
    ]
    assert str(path.relative_to(LIB)) in FINE or found == []
