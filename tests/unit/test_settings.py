from __future__ import annotations

import textwrap

import pytest

from daybook import settings
from daybook.errors import SettingsError

GOOD = """
app: hello
account: sandbox
zone: example.test
names: [staging.example.test]
cidr: 10.20.0.0/16
operators: [203.0.113.7/32]
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "environments").mkdir()
    (tmp_path / "terraform").mkdir()
    return tmp_path


def write(root, text, env="staging"):
    (root / "environments" / f"{env}.yml").write_text(textwrap.dedent(text))


def test_reads_settings_with_their_defaults(root):
    write(root, GOOD)
    found = settings.load(root, "staging")
    assert (found.app, found.region, found.port) == ("hello", "us-east-1", 8000)
    assert found.instance.disk_gib == 20


def test_lists_every_mistake_with_its_line(root):
    write(
        root, GOOD.replace("hello", "Hello").replace("zone", "zon") + "instance: {disk_gib: big}\n"
    )
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    text = str(caught.value)
    assert "environments/staging.yml:2: app: 'Hello' is not a short name such as hello" in text
    assert "environments/staging.yml:4: zon: no such setting; did you mean zone?" in text
    assert "zone: Field required" in text
    assert "environments/staging.yml:8: instance.disk_gib:" in text
    assert "Nothing was changed." in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["app: [", "\tapp: x", "- a\n- b\n", ""])
def test_a_file_that_is_no_settings_is_one_error(root, text):
    write(root, text)
    with pytest.raises(SettingsError, match="staging"):
        settings.load(root, "staging")


def test_an_account_id_without_quotes_says_so(root):
    write(root, GOOD.replace("sandbox", "123456789012"))
    with pytest.raises(SettingsError, match=r"staging.yml:3: account"):
        settings.load(root, "staging")


def test_an_unknown_environment_names_the_nearest(root):
    write(root, GOOD)
    with pytest.raises(SettingsError, match="did you mean staging"):
        settings.load(root, "stagin")


def test_finds_the_root_from_below(root, monkeypatch):
    monkeypatch.delenv("DAYBOOK_ROOT", raising=False)
    below = root / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert settings.find_root(below) == root


def test_says_where_there_is_no_project(tmp_path, monkeypatch):
    monkeypatch.delenv("DAYBOOK_ROOT", raising=False)
    with pytest.raises(SettingsError, match="not a Daybook project"):
        settings.find_root(tmp_path)
