"""Say which version migrates, and fail where MODE says so."""

import os
import sys

print(f"migrated to {os.environ['APP_VERSION']}")
if os.environ.get("MODE") == "stuck":
    sys.exit("column exists already")
