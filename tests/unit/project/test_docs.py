"""What the pages say is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from daybook import errors

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
PICTURES = sorted(ROOT.glob("docs/images/*.svg"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_says_in_words_what_it_shows_and_has_a_dark_form(picture):
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
    said = subprocess.check_output(["make", "--no-print-directory"], cwd=ROOT, text=True)
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert re.findall(r"make ([\w-]+) ", said) == phony
