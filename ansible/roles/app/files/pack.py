"""Pack the release program into one file, so that its installation on a host is atomic.

The same sources give the same bytes; otherwise every run of Ansible would report a change.
"""

import io
import sys
import zipfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[4] / "lib/daybook_release"
MAIN = "import sys\nfrom daybook_release.cli import main\nsys.exit(main())\n"
EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack() -> bytes:
    """Return the program as an executable Python archive."""
    file = io.BytesIO(b"#!/usr/bin/python3 -I\n")
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", EARLIEST), MAIN)
        for path in sorted(SOURCES.glob("*.py")):
            info = zipfile.ZipInfo(f"daybook_release/{path.name}", EARLIEST)
            archive.writestr(info, path.read_text(encoding="utf-8"), zipfile.ZIP_DEFLATED)
    return file.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if not target.is_file() or target.read_bytes() != pack():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pack())
