"""A run's report in a real browser: no requests, no scripts, and it fits a phone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from daybook.record import seal
from daybook.record.journal import Journal

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>document.title = 'run'</script><img src='{url}/image.png' onerror='x()'>"
    "<meta http-equiv='refresh' content='0;url={url}/refresh'><link rel=icon href='{url}/icon'>"
    "<style>@import url({url}/style.css); b {{ background: url({url}/rule) }}</style>"
    "<b style='background: url({url}/inline)'>kept</b>"
)


@pytest.fixture
def other_server() -> Iterator[SimpleNamespace]:
    """Yield another server's URL and received requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", requests=requests)
        server.shutdown()


@pytest.fixture
def report(tmp_path, other_server):
    """Return the report of a failed run with hostile output."""
    header = {"run": "r1", "step": "provision", "environment": "staging", "target": "sandbox"}
    run = Journal.create(tmp_path / "runs/staging/r1", header)
    data = {"text/html": HOSTILE.format(url=other_server.url)}
    run.write("cell_start", cell=1, source="step.apply()" * 30, sha256="0" * 64)
    run.write("output", cell=1, type="display_data", data=data, metadata={})
    run.write("output", cell=1, type="stream", name="stdout", text="wide " * 200 + "\n" * 99)
    run.write("cell_end", cell=1, status="error", seconds=1, ename="ApplyFailed", evalue="x")
    seal.close(run.path.parent, "failed", open_journal=run)
    return run.path.parent / "report.html"


def test_the_report_makes_no_requests(report, other_server, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(report.as_uri())
    page.wait_for_load_state("networkidle")
    assert other_server.requests == []
    assert page.url == report.as_uri()
    assert page.title() == "provision staging: failed"
    assert page.locator("script, iframe, form, link").count() == 0
    assert page.get_by_text("kept").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
