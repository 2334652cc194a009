from __future__ import annotations

import textwrap
import traceback

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
    assert (
        "environments/staging.yml:2: app: expected 2 to 25 lower-case letters, digits and hyphens"
        in text
    )
    assert "environments/staging.yml:4: zon: no such setting; did you mean zone?" in text
    assert "environments/staging.yml:2: zone: required, but not set" in text
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


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "token: lets the shop send mail",
            "expected a name in capitals such as DATABASE_URL",
        ),
        ("APP_VERSION: what is released", "APP_VERSION is set by every release"),
        ("TOKEN: tok_9f83hunter2", "expected what it is for, in two words or more"),
        ("TOKEN:", "expected text, got nothing"),
    ],
)
def test_a_secret_has_a_name_and_a_purpose_and_never_a_value(root, line, problem):
    write(root, f"{GOOD}secrets:\n  {line}\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    name = line.partition(":")[0]
    assert f"environments/staging.yml:9: secrets.{name}: {problem}" in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in told


def test_a_key_that_is_there_twice_is_a_mistake(root):
    write(root, GOOD + "names: [other.example.test]\n")
    with pytest.raises(SettingsError, match=r"staging.yml:8: names: this key is set twice"):
        settings.load(root, "staging")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("deploy_via: runner", "deploy_via: runner needs github.repository"),
        ("deploy_via: ssh", "expected 'runner', 'ssm' or 'none', got 'ssh'"),
        (
            "github: {repository: a/b}\ndeploy_via: runner\ninstance: {count: 2}",
            "several choose ssm",
        ),
        ("github: {repository: 'a/*'}", "expected a repository such as owner/name, got 'a/*'"),
        ("github: {branch: 'release/*'}", "expected one branch such as main, got 'release/*'"),
    ],
)
def test_what_is_released_from_where_has_to_fit(root, lines, problem):
    write(root, f"{GOOD}{lines}\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert problem in str(caught.value)


def test_a_repository_that_nobody_can_have_is_for_rehearsals(root):
    lines = "github: {repository: rehearsal--only/hello, branch: staging}\ndeploy_via: runner\n"
    write(root, GOOD + lines)
    assert settings.load(root, "staging").github.path == "rehearsal--only/hello"
    write(root, (GOOD + lines).replace("sandbox", "'123456789012'"))
    with pytest.raises(SettingsError, match=r"github\.repository: expected a repository of yours"):
        settings.load(root, "staging")


def test_githubs_ids_are_no_part_of_an_address():
    chosen = settings.GitHub(repository="ann@1/ops@2", application="ann@1/shop@3")
    assert (chosen.releases, chosen.path) == ("ann@1/shop@3", "ann/shop")


def test_every_setting_is_explained_in_the_model():
    models = (settings.Settings, settings.Instance, settings.Freeze, settings.GitHub)
    fields = {f"{m.__name__}.{name}": f for m in models for name, f in m.model_fields.items()}
    assert [name for name, field in fields.items() if not field.description] == []
