"""Pack the release program into one file, so that a host has all of it or none.

The same sources make the same bytes, or every run of Ansible would report a change.
"""

import io
import sys
import zipfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[4] / "lib/daybook_release"
MAIN = "import sys\nfrom daybook_release.cli import main\nsys.exit(main())\n"
BEGINNING = (1980, 1, 1, 0, 0, 0)


def packed() -> bytes:
    """Return a Python archive that runs by itself."""
    file = io.BytesIO(b"#!/usr/bin/python3 -I\n")
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", BEGINNING), MAIN)
        for path in sorted(SOURCES.glob("*.py")):
            info = zipfile.ZipInfo(f"daybook_release/{path.name}", BEGINNING)
            archive.writestr(info, path.read_text(encoding="utf-8"), zipfile.ZIP_DEFLATED)
    return file.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if not target.is_file() or target.read_bytes() != packed():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(packed())
