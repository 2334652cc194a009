"""`config.sh`: register this folder as a runner of a repository, or remove the registration."""

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


def configure(root: Path, arguments: Sequence[str]) -> int:
    """Register the folder, which must not be registered yet."""
    options = _parse(arguments)
    if (root / ".runner").exists():
        print(
            "Cannot configure the runner because it is already configured. To reconfigure the "
            "runner, run './config.sh remove' first.",
            file=sys.stderr,
        )
        return 1
    labels = [] if options.no_default_labels else ["self-hosted", "Linux", architecture()]
    labels += [label.strip() for label in (options.labels or "").split(",") if label.strip()]
    request = {
        "url": options.url,
        "name": options.name,
        "labels": labels,
        "replace": options.replace,
    }
    runner = _registration("POST", options.url, options.token, request)
    if runner is None:
        return 1
    settings = {
        "agentId": runner["id"],
        "agentName": options.name,
        "poolId": 1,
        "poolName": options.runnergroup or "Default",
        "serverUrl": runner["server"],
        "gitHubUrl": options.url,
        "workFolder": options.work,
    }
    _write_private(root / ".credentials", {"scheme": "OAuth", "data": {"token": runner["token"]}})
    _write_private(root / ".credentials_rsaparams", {})
    _write_private(root / ".runner", settings)
    print("\n√ Runner successfully added\n√ Settings Saved.\n")
    return 0


def remove(root: Path, arguments: Sequence[str]) -> int:
    """Remove the registration on the server and locally; with --local, only locally."""
    options = _parse(arguments)
    if not options.local and (root / ".runner").exists():
        settings = json.loads((root / ".runner").read_text())
        name = {"url": settings["gitHubUrl"], "id": settings["agentId"]}
        if _registration("DELETE", settings["gitHubUrl"], options.token, name) is None:
            return 1
        print("\n√ Runner removed successfully")
    for file in FILES:
        (root / file).unlink(missing_ok=True)
    print("√ Removed .credentials\n√ Removed .runner\n")
    return 0


def architecture() -> str:
    """Return the architecture as in GitHub's labels and variables: X64."""
    return ARCHITECTURES.get(platform.machine(), platform.machine().upper())


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options, with defaults from ACTIONS_RUNNER_INPUT_NAME variables."""
    parser = argparse.ArgumentParser(prog="config.sh", allow_abbrev=False)
    for flag in ("unattended", "replace", "ephemeral", "disableupdate", "no-default-labels"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--local", action="store_true")
    for option in ("url", "token", "name", "labels", "runnergroup", "work"):
        parser.add_argument(f"--{option}", default=os.environ.get(f"{INPUT}{option.upper()}"))
    options = parser.parse_args(arguments)
    options.name = options.name or platform.node()
    options.work = options.work or "_work"
    return options


def _registration(method: str, url: str, token: str, content: dict) -> dict | None:
    """Change the registration; print the runner's error and return None if it is refused."""
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


def _write_private(file: Path, content: dict) -> None:
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=2) + "\n")
