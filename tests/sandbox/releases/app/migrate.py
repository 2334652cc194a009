"""Print the migrated version; fail if MODE requires it."""

import os
import sys
import time

print(f"migrated to {os.environ['APP_VERSION']}")
if os.environ.get("MODE") == "stuck":
    sys.exit("column exists already")
if os.environ.get("MODE") == "endless":
    time.sleep(100_000)
