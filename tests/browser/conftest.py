"""JupyterLab on the project copy, and a page in a real browser."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

CHECKOUT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUNNING = "[*]:"
ENDED = re.compile(r"\[\d+\]:")


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab. root: the project it serves."""

    root: Path
    url: str
    token: str

    def address(self, path: str) -> str:
        """Return the URL of a notebook in a new workspace."""
        return f"{self.url}/lab/tree/{path}?reset&token={self.token}"


@dataclass(frozen=True)
class NotebookPage:
    """A notebook in the browser; cell numbers count code cells from 0."""

    page: Page

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def prompt(self, number: int) -> Locator:
        """Return the prompt of a cell: [ ]: not run, [*]: running, [3]: completed."""
        return self.cell(number).locator(".jp-InputPrompt").first

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea").first

    def run(self, number: int, *, timeout_s: float = 120) -> None:
        """Run a cell and wait until it has completed or failed."""
        before = self.prompt(number).inner_text()
        self.cell(number).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")
        expect(self.prompt(number)).not_to_have_text(before)
        self.wait(number, timeout_s=timeout_s)

    def wait(self, number: int, *, timeout_s: float = 120) -> None:
        """Wait until a started cell has completed; an earlier cell may fail first."""
        expect(self.prompt(number)).not_to_have_text(RUNNING, timeout=timeout_s * 1000)
        output = "\n".join(self.output(index).inner_text() for index in range(number + 1))
        expect(self.prompt(number), output).to_have_text(ENDED)

    def run_all(self) -> None:
        """Select Run All Cells in the menu and wait until the cells are queued."""
        before = self.prompt(0).inner_text()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        expect(self.prompt(0)).not_to_have_text(before)

    def save(self) -> None:
        """Save and wait until the tab shows no unsaved changes."""
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".jp-mod-dirty")).to_have_count(0)


@pytest.fixture(scope="module")
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield JupyterLab on the project copy with only the project's configuration."""
    home = tmp_path_factory.mktemp("jupyter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Lab(project, f"http://127.0.0.1:{port}", secrets.token_hex(16))
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *(f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
                f"--config={CHECKOUT}/tools/jupyter_server_config.py",
            ],
            cwd=project,
            env=os.environ | _environment(project, home) | {"JUPYTER_TOKEN": running.token},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(running)
        yield running
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield headless Chromium for one file, because no other event loop may run with it."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab: Lab, browser: Browser, tmp_path: Path):
    """Return a function that opens a notebook in a tall page: hidden cells are not rendered."""
    context = browser.new_context(viewport={"width": 1280, "height": 6000})
    context.set_default_timeout(30_000)

    def open_(path: str) -> NotebookPage:
        page = context.new_page()
        page.goto(lab.address(path))
        expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
        status = page.locator("#jp-main-statusbar")
        expect(status).to_contain_text("| Idle", timeout=60_000)
        return NotebookPage(page)

    yield open_
    context.close()


@pytest.fixture
def screenshot(request: pytest.FixtureRequest):
    """Return a function that saves screenshots in $DAYBOOK_SCREENSHOTS if it is set."""
    folder = os.environ.get("DAYBOOK_SCREENSHOTS")

    def take(notebook: NotebookPage, name: str) -> None:
        if folder:
            notebook.page.screenshot(path=f"{folder}/{request.node.name}-{name}.png")

    return take


def _environment(project: Path, home: Path) -> dict[str, str]:
    settings = home / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    return {
        "DAYBOOK_ROOT": str(project),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


@retry(
    stop=stop_after_delay(60),
    wait=wait_fixed(0.2),
    retry=retry_if_exception_type(httpx.HTTPError),
    reraise=True,
)
def _wait_for(lab: Lab) -> None:
    httpx.get(f"{lab.url}/api/status", params={"token": lab.token}).raise_for_status()
