"""The documents: links, pictures, named files, examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend

from daybook import errors

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
PICTURES = sorted(ROOT.glob("docs/images/*.svg"))
CONTRIBUTING = ROOT / "docs/contributing.md"
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
    titles = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_local_links_have_a_target(page):
    local = [link for link in LINK.findall(page.read_text()) if "://" not in link[0]]
    assert [path for path, _ in local if not (page.parent / path).exists()] == []
    named = [((page.parent / path if path else page), anchor) for path, anchor in local if anchor]
    assert [(path, anchor) for path, anchor in named if anchor not in anchors(path)] == []


def test_the_index_links_to_every_page():
    index = ROOT / "docs/index.md"
    linked = {path for path, _ in LINK.findall(index.read_text())}
    assert {page.name for page in ROOT.glob("docs/*.md")} - linked == {index.name}


def test_security_names_only_existing_tests():
    named = set(re.findall(r"`([\w/]+/test_\w+\.py)`", (ROOT / "docs/security.md").read_text()))
    assert len(named) > 20
    assert {name for name in named if not (ROOT / "tests" / name).is_file()} == set()


def test_named_files_exist():
    folders = "lib|tests|tools|benchmarks|terraform|app|runbooks|notebooks"
    named = {
        name
        for page in PAGES
        if page.name != "security.md"  # It names files below tests/.
        for name in re.findall(rf"`((?:{folders})/[a-z_\d./-]+)`", page.read_text())
    }
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_has_a_description_and_a_dark_form(picture):
    root = ElementTree.parse(picture).getroot()
    names = {child.tag.rpartition("}")[2]: child.text for child in root}
    assert len(names["desc"]) > len(names["title"]) > 10
    assert "prefers-color-scheme: dark" in names["style"]


def test_the_readme_names_every_exit_code():
    codes = {getattr(cls, "exit_code", 1) for cls in vars(errors).values()} - {1}
    text = " ".join((ROOT / "README.md").read_text().split())
    assert {code for code in codes if not re.search(rf"[,:] {code} [a-z]", text)} == set()


def test_the_table_of_steps_is_that_of_the_notebooks():
    subprocess.run([sys.executable, "tools/steps_table.py", "--check"], cwd=ROOT, check=True)
    models = {f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert models <= set(re.findall(r"notebooks/[\w-]+\.ipynb", (ROOT / "README.md").read_text()))


def test_make_alone_prints_every_target():
    output = subprocess.check_output(["make", "--no-print-directory"], cwd=ROOT, text=True)
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert re.findall(r"make ([\w-]+) ", output) == phony


def example(word: str) -> dict[str, Any]:
    """Execute the Python example of contributing.md that contains a word; return its names."""
    [source] = [
        block
        for block in re.findall(r"(?ms)^```python\n(.*?)^```", CONTRIBUTING.read_text())
        if word in block
    ]
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, str(CONTRIBUTING), "exec"), names)
    return names


def test_the_example_check_works():
    proxy_is_unset = example("proxy_is_unset")["proxy_is_unset"]
    assert proxy_is_unset({})("proxy").is_ok
    failed = proxy_is_unset({"HTTPS_PROXY": "http://proxy"})("proxy")
    assert (failed.name, failed.is_ok, failed.fix) == ("proxy", False, "unset HTTPS_PROXY")


def test_the_example_step_is_complete():
    zone = example("class Zone")["Zone"]
    assert not zone.__abstractmethods__
    assert (zone.name, zone.is_read_only) == ("zone", True)


def test_the_example_patch_works(monkeypatch):
    original = ElasticAddressBackend.allocate_address
    monkeypatch.setattr(ElasticAddressBackend, "allocate_address", original)
    names = example("ElasticAddressBackend")
    names["patch"]()
    names["patch"]()
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-east-1")
        for _ in range(names["QUOTA"]):
            ec2.allocate_address(Domain="vpc")
        with pytest.raises(ClientError, match="AddressLimitExceeded"):
            ec2.allocate_address(Domain="vpc")
