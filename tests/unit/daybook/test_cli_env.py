"""`daybook env`: check and print settings, and create an environment."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from daybook.cli import env as cli_env
from daybook.errors import SettingsError

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Return a copy of the project's settings, playbooks and group variables."""
    for pattern in ("environments/*.yml", "ansible/*.yml", "ansible/group_vars/*.yml"):
        for path in CHECKOUT.glob(pattern):
            copy = tmp_path / path.relative_to(CHECKOUT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("DAYBOOK_SSH_KEY", raising=False)
    return tmp_path


def run(*args: str) -> str:
    done = CliRunner().invoke(cli_env.env, args, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_check_prints_the_settings_of_each_environment_and_their_sources(root):
    said = run("check")
    for env in ("staging", "production"):
        assert f"✓ {env} · REHEARSAL: valid" in said
        assert f"environments/{env}.yml:2" in said
    assert re.search("plan_hours +24", said)
    assert "staging" not in run("check", "production")


def test_check_lists_the_problems_of_all_environments(root):
    production, staging = (root / f"environments/{env}.yml" for env in ("production", "staging"))
    production.write_text(production.read_text().replace("10.30.0.0/16", "10.20.16.0/20"))
    staging.write_text(staging.read_text().replace("port: 8000", "prot: 80"))
    shutil.copy(production, root / "environments/demo.yml")
    with pytest.raises(SettingsError) as caught:
        run("check")
    text = str(caught.value)
    assert "environments/staging.yml:13: prot: no such setting; did you mean port?" in text
    assert (
        "demo: daybook.test belongs to production; www.daybook.test belongs to production" in text
    )
    assert "10.20.16.0/20 overlaps 10.20.16.0/20 of demo" in text
    assert "demo: ansible/demo.yml is missing" in text


def test_new_creates_a_valid_environment(root):
    before = run("check", "staging")
    said = run("new", "demo")
    assert "✓ demo · REHEARSAL: valid" in said
    for file in ("environments/demo.yml", "ansible/demo.yml", "ansible/group_vars/demo.yml"):
        assert f"Written: {file}" in said
        assert "staging" not in (root / file).read_text()
    assert "10.40.0.0/16" in said
    assert "demo.daybook.test" in said
    assert run("check", "staging") == before
    run("check")


def test_new_copies_stricter_settings(root):
    said = run("new", "qa", "--from", "production")
    assert re.search("deletion_protection +true", said)
    assert "qa, copied from production" in said


def test_new_lists_the_secrets_without_a_value(root):
    path = root / "environments/staging.yml"
    path.write_text(path.read_text().replace("secrets: {}", "secrets: {TOKEN: lets it send mail}"))
    assert "daybook secrets set NAME -e demo, for TOKEN" in run("new", "demo")


def test_new_does_not_overwrite_files(root):
    (root / "ansible/demo.yml").write_text("mine\n")
    with pytest.raises(SettingsError, match=r"ansible/demo.yml already exists"):
        run("new", "demo")
    assert not (root / "environments/demo.yml").exists()
    assert (root / "ansible/demo.yml").read_text() == "mine\n"


def test_export_leaves_unrelated_variables_unchanged():
    now = {"EDITOR": "vi", "TF_CLI_ARGS": "-destroy", "AWS_PROFILE": "work", "AWS_REGION": "x"}
    wanted = {"AWS_REGION": "us-east-1", "TF_DATA_DIR": "/a b"}
    assert cli_env.script(wanted, now) == [
        *("unset AWS_PROFILE", "unset TF_CLI_ARGS"),
        *("export AWS_REGION=us-east-1", "export TF_DATA_DIR='/a b'"),
    ]
