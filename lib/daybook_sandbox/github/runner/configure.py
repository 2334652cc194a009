"""`config.sh`: register this folder as a runner of a repository, or take it back."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from daybook_sandbox.github.runner.link import Link, RequestRefused

FILES = (".runner", ".credentials", ".credentials_rsaparams")
INPUT = "ACTIONS_RUNNER_INPUT_"
ARCHITECTURES = {"x86_64": "X64", "aarch64": "ARM64"}


def configure(root: Path, given: Sequence[str]) -> int:
    """Register; the folder must not be registered yet."""
    asked = _arguments(given)
    if (root / ".runner").exists():
        print(
            "Cannot configure the runner because it is already configured. To reconfigure the "
            "runner, run './config.sh remove' first.",
            file=sys.stderr,
        )
        return 1
    labels = [] if asked.no_default_labels else ["self-hosted", "Linux", architecture()]
    labels += [label.strip() for label in (asked.labels or "").split(",") if label.strip()]
    wanted = {"url": asked.url, "name": asked.name, "labels": labels, "replace": asked.replace}
    found = _registration("POST", asked.url, asked.token, wanted)
    if found is None:
        return 1
    settings = {
        "agentId": found["id"],
        "agentName": asked.name,
        "poolId": 1,
        "poolName": asked.runnergroup or "Default",
        "serverUrl": found["server"],
        "gitHubUrl": asked.url,
        "workFolder": asked.work,
    }
    _keep(root / ".credentials", {"scheme": "OAuth", "data": {"token": found["token"]}})
    _keep(root / ".credentials_rsaparams", {})
    _keep(root / ".runner", settings)
    print("\n√ Runner successfully added\n√ Settings Saved.\n")
    return 0


def remove(root: Path, given: Sequence[str]) -> int:
    """Take the registration back, on the server and here; --local: here alone."""
    asked = _arguments(given)
    if not asked.local and (root / ".runner").exists():
        settings = json.loads((root / ".runner").read_text())
        name = {"url": settings["gitHubUrl"], "id": settings["agentId"]}
        if _registration("DELETE", settings["gitHubUrl"], asked.token, name) is None:
            return 1
        print("\n√ Runner removed successfully")
    for file in FILES:
        (root / file).unlink(missing_ok=True)
    print("√ Removed .credentials\n√ Removed .runner\n")
    return 0


def architecture() -> str:
    """Return the processor as GitHub's labels and variables call it: X64."""
    return ARCHITECTURES.get(platform.machine(), platform.machine().upper())


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the options; one that is missing is looked for in ACTIONS_RUNNER_INPUT_NAME."""
    parser = argparse.ArgumentParser(prog="config.sh", allow_abbrev=False)
    for flag in ("unattended", "replace", "ephemeral", "disableupdate", "no-default-labels"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--local", action="store_true")
    for option in ("url", "token", "name", "labels", "runnergroup", "work"):
        parser.add_argument(f"--{option}", default=os.environ.get(f"{INPUT}{option.upper()}"))
    asked = parser.parse_args(given)
    asked.name = asked.name or platform.node()
    asked.work = asked.work or "_work"
    return asked


def _registration(method: str, url: str, token: str, content: dict) -> dict | None:
    """Change the registration; None, and the runner's own words, when it is refused."""
    server = "{0.scheme}://{0.netloc}".format(urlsplit(url or ""))
    path = "/api/v3/actions/runner-registration"
    try:
        return Link(server, token or "", "RemoteAuth").ask(method, path, content)
    except RequestRefused as error:
        reason = "NotFound" if error.status == 404 else str(error)
        print(
            f"Http response code: {reason} from '{method} {server}{path}'\n{error}",
            file=sys.stderr,
        )
    except (OSError, ValueError) as error:
        print(f"Failed to connect. {error}", file=sys.stderr)
    return None


def _keep(file: Path, content: dict) -> None:
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=2) + "\n")
