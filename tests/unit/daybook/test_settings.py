from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from daybook import settings
from daybook.errors import SettingsError
from daybook.settings import example, loader, types

ROOT = Path(__file__).parents[3]

GOOD = """
app: hello
account: sandbox
dns_zone: example.test
domains: [staging.example.test]
vpc_cidr: 10.20.0.0/16
ssh_allowed_cidrs: [203.0.113.7/32]
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
        root,
        GOOD.replace("hello", "Hello").replace("dns_zone", "dns_zon")
        + "instance: {disk_gib: big}\n",
    )
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    text = str(caught.value)
    assert (
        "environments/staging.yml:2: app: expected 2 to 25 lower-case letters, digits and hyphens"
        in text
    )
    assert "environments/staging.yml:4: dns_zon: no such setting; did you mean dns_zone?" in text
    assert "environments/staging.yml:2: dns_zone: required, but not set" in text
    assert "environments/staging.yml:8: instance.disk_gib:" in text
    assert "Nothing was changed." in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["app: [", "\tapp: x", "- a\n- b\n", ""])
def test_a_file_without_settings_is_one_error(root, text):
    write(root, text)
    with pytest.raises(SettingsError, match="staging"):
        settings.load(root, "staging")


def test_an_account_id_without_quotes_is_rejected(root):
    write(root, GOOD.replace("sandbox", "123456789012"))
    with pytest.raises(SettingsError, match=r"staging.yml:3: account"):
        settings.load(root, "staging")


def test_an_unknown_environment_suggests_the_nearest(root):
    write(root, GOOD)
    with pytest.raises(SettingsError, match="did you mean staging"):
        settings.load(root, "stagin")


def test_finds_the_root_from_a_subfolder(root, monkeypatch):
    monkeypatch.delenv("DAYBOOK_ROOT", raising=False)
    below = root / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert settings.find_root(below) == root


def test_a_folder_outside_a_project_is_an_error(tmp_path, monkeypatch):
    monkeypatch.delenv("DAYBOOK_ROOT", raising=False)
    with pytest.raises(SettingsError, match="not a Daybook project"):
        settings.find_root(tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("token: lets the shop send mail", "a secret's name has up to 64 characters"),
        ("APP_VERSION: what is released", "every release sets APP_VERSION"),
        ("TOKEN: tok_9f83hunter2", "expected its purpose, in two words or more"),
        ("TOKEN:", "expected text, got nothing"),
    ],
)
def test_a_secret_has_a_name_and_a_purpose_but_no_value(root, line, problem):
    write(root, f"{GOOD}secrets:\n  {line}\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    name = line.partition(":")[0]
    assert f"environments/staging.yml:9: secrets.{name}: {problem}" in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in told


def test_a_duplicate_key_is_a_mistake(root):
    write(root, GOOD + "domains: [other.example.test]\n")
    with pytest.raises(SettingsError, match=r"staging.yml:8: domains: this key is set twice"):
        settings.load(root, "staging")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("deploy_via: runner", "deploy_via: runner requires github.repository"),
        ("deploy_via: ssh", "expected 'runner', 'ssm' or 'none', got 'ssh'"),
        (
            "github: {repository: a/b}\ndeploy_via: runner\ninstance: {count: 2}",
            "for several, set ssm or none",
        ),
        ("github: {repository: 'a/*'}", "expected a repository such as owner/name, got 'a/*'"),
        ("github: {branch: 'release/*'}", "expected a branch such as main, got 'release/*'"),
    ],
)
def test_release_settings_must_be_consistent(root, lines, problem):
    write(root, f"{GOOD}{lines}\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert problem in str(caught.value)


def test_an_impossible_repository_is_for_rehearsals_only(root):
    lines = "github: {repository: rehearsal--only/hello, branch: staging}\ndeploy_via: runner\n"
    write(root, GOOD + lines)
    assert settings.load(root, "staging").github.path == "rehearsal--only/hello"
    write(root, (GOOD + lines).replace("sandbox", "'123456789012'"))
    with pytest.raises(SettingsError, match=r"github\.repository: expected your repository"):
        settings.load(root, "staging")


def test_github_ids_are_not_part_of_a_path():
    chosen = settings.GitHub(repository="ann@1/ops@2", application="ann@1/shop@3")
    assert (chosen.releases, chosen.path) == ("ann@1/shop@3", "ann/shop")


def test_every_setting_has_a_description():
    models = (settings.Settings, settings.InstanceSettings, settings.Freeze, settings.GitHub)
    fields = {f"{m.__name__}.{name}": f for m in models for name, f in m.model_fields.items()}
    assert [name for name, field in fields.items() if not field.description] == []


def changed(key: str, value: str) -> str:
    """Return valid settings with another value for a key; a new key is on line 8."""
    lines = GOOD.splitlines()
    at = next((n for n, line in enumerate(lines) if line.startswith(f"{key}:")), len(lines))
    return "\n".join([*lines[:at], f"{key}: {value}", *lines[at + 1 :]]) + "\n"


def check(root: Path) -> subprocess.CompletedProcess:
    """Run `daybook env check` for all environments."""
    environ = os.environ | {"DAYBOOK_ROOT": str(root)}
    program = Path(sys.executable).with_name("daybook")
    return subprocess.run(
        [program, "env", "check"], env=environ, capture_output=True, text=True, timeout=20
    )


APP, CIDR, TYPE, PORT = (
    "2 to 25 lower-case",
    "from /16 to /20",
    "such as t3.small",
    "a free port above it",
)
OPERATOR, NAME, MOMENT = "such as 203.0.113.7/32", "a DNS name in lower case", "with its UTC offset"
FREEZE = "[{since: %s, until: 2026-03-01T00:00:00Z, reason: the fair}]"
REFUSED = [
    ("app", "Hello", 2, "app", APP),
    ("app", "h", 2, "app", APP),
    ("app", "hello-", 2, "app", APP),
    ("app", "hello_shop", 2, "app", APP),
    ("app", "1hello", 2, "app", APP),
    ("app", "a" * 26, 2, "app", APP),
    ("app", r'"hello\n"', 2, "app", APP),
    ("app", "aws-shop", 2, "app", "without a prefix that AWS reserves"),
    ("app", "sg", 2, "app", "without a prefix that AWS reserves"),
    ("app", "true", 2, "app", "expected text"),
    ("account", "\u0661" * 12, 3, "account", "12-digit account id in quotes"),
    ("app", "hello_world", 2, "app", APP),
    *(
        ("app", f"{prefix}shop", 2, "app", "without a prefix that AWS reserves")
        for prefix in ("amazon-", "amzn-", "sg-", "ssm", "sthree-", "xn--")
    ),
    ("account", "123456789012", 3, "account", "write it in quotes"),
    ("account", r'"123456789012\n"', 3, "account", "12-digit account id in quotes"),
    ("region", "mars", 8, "region", "such as us-east-1"),
    ("region", "eu-central-1a", 8, "region", "such as us-east-1"),
    ("region", "us-east-\u0661", 8, "region", "such as us-east-1"),
    ("dns_zone", ".".join(["a" * 62] * 4) + ".test", 4, "dns_zone", NAME),
    ("dns_zone", "-x.test", 4, "dns_zone", NAME),
    ("domains", "&r [*r]", 5, "domains", "repeat the value"),
    ("dns_zone", "example.test.", 4, "dns_zone", NAME),
    ("dns_zone", "test", 4, "dns_zone", NAME),
    ("domains", "['*.example.test']", 5, "domains.0", NAME),
    ("domains", "[Staging.example.test]", 5, "domains.0", NAME),
    ("domains", f"[{', '.join(f'n{n}.example.test' for n in range(21))}]", 5, "domains", "most 20"),
    ("domains", "&r [*r]", 5, "domains", "repeat the value"),
    ("domains", "[" * 1000, 5, "domains", "nested deeper than"),
    ("domains", "[]", 5, "domains", "at least one"),
    ("domains", "[other.test]", 5, "domains.0", "ends with .example.test"),
    ("domains", "[badexample.test]", 5, "domains.0", "ends with .example.test"),
    ("domains", "[a.example.test, a.example.test]", 5, "domains", "expected unique values"),
    ("domains", f"[{'a' * 64}.example.test]", 5, "domains.0", NAME),
    (
        "domains",
        f"[{', '.join(f'n{n}.example.test' for n in range(300))}]",
        5,
        "domains",
        "at most 20",
    ),
    ("domains", "www.example.test", 5, "domains", "expected a list"),
    *(
        ("vpc_cidr", value, 6, "vpc_cidr", CIDR)
        for value in (
            *("10.0.0.0/24", "224.0.0.0/4", "10.20.0.0/15", "10.20.0.0/21"),
            *("10.250.0.0", "10.0.0.0/29", "10", "true", "~", "[]", "8.8.0.0/16", "127.0.0.0/16"),
            *("169.254.0.0/16", "224.0.0.0/16", "172.17.0.0/16", "10.20.0.1/16", "10.0.0.0/8"),
            *(
                "100.64.0.0/16",
                "0.0.0.0/16",
                "10.20.0.0/255.255.0.0",
                "\u0661\u0660.20.0.0/16",
                "'::/16'",
            ),
        )
    ),
    *(
        ("ssh_allowed_cidrs", f"[{value}]", 7, "ssh_allowed_cidrs.0", OPERATOR)
        for value in (
            *("1", "true", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "203.0.113.7", "127.0.0.1/32"),
            *("169.254.169.254/32", "224.0.0.1/32", "203.0.113.7/24", "'::/0'", "\u0662.2.2.2/32"),
            *("'2001:db8::/64'", "0.0.0.0/8", "10.0.0.0/7", "239.0.0.0/8", "255.255.255.255/32"),
        )
    ),
    ("ssh_allowed_cidrs", "203.0.113.7/32", 7, "ssh_allowed_cidrs", "expected a list"),
    (
        "ssh_allowed_cidrs",
        "[203.0.113.7/32, 203.0.113.7/32]",
        7,
        "ssh_allowed_cidrs",
        "expected unique values",
    ),
    (
        *(
            "ssh_allowed_cidrs",
            f"[{', '.join(f'10.0.{n // 250}.{n % 250}/32' for n in range(1000))}]",
        ),
        *(7, "ssh_allowed_cidrs", "at most 58, got 1000"),
    ),
    (
        *("ssh_allowed_cidrs", f"[{', '.join(f'10.0.0.{n}/32' for n in range(59))}]"),
        *(7, "ssh_allowed_cidrs", "at most 58, got 59"),
    ),
    ("instance", "{type: ''}", 8, "instance.type", TYPE),
    ("instance", "{type: small}", 8, "instance.type", TYPE),
    ("instance", "{type: t3}", 8, "instance.type", TYPE),
    ("instance", "{type: t3.small; id}", 8, "instance.type", TYPE),
    ("instance", "{type: t3.sm\u043ell}", 8, "instance.type", r"t3.sm\u043ell"),
    ("instance", "{disk_gib: 1:20}", 8, "instance.disk_gib", "reads this as 80"),
    ("instance", "{disk_gib: 020}", 8, "instance.disk_gib", "reads this as 16"),
    ("instance", "{disk_gib: true}", 8, "instance.disk_gib", "from 8 to 16384"),
    ("instance", "{disk_gib: 20.0}", 8, "instance.disk_gib", "from 8 to 16384"),
    ("instance", "{disk_gib: .inf}", 8, "instance.disk_gib", "plain decimal number"),
    ("instance", f"{{disk_gib: {'9' * 5000}}}", 8, "instance.disk_gib", "plain decimal number"),
    ("instance", "{disk_gib: 7}", 8, "instance.disk_gib", "from 8 to 16384"),
    ("instance", "{disk_gib: 16385}", 8, "instance.disk_gib", "from 8 to 16384"),
    ("instance", "{ami: ami-x}", 8, "instance.ami", "such as ami-"),
    ("instance", "{ami: debian-13}", 8, "instance.ami", "such as ami-"),
    ("instance", "{count: 0}", 8, "instance.count", "from 1 to 9"),
    ("instance", "{count: 1.5}", 8, "instance.count", "from 1 to 9"),
    ("instance", "{count: 10}", 8, "instance.count", "from 1 to 9"),
    ("instance", "t3.small", 8, "instance", "expected nested settings"),
    ("ssh_key", "/dev/zero", 8, "ssh_key", "the path of a private key"),
    ("ssh_key", "/tmp/../dev/zero", 8, "ssh_key", "the path of a private key"),
    ("ssh_key", "/", 8, "ssh_key", "the path of a private key"),
    ("ssh_key", "-oProxyCommand=id", 8, "ssh_key", "the path of a private key"),
    ("ssh_key", "~root/key", 8, "ssh_key", "the path of a private key"),
    ("ssh_key", r'"a\0b"', 8, "ssh_key", "control or invisible character; remove it"),
    ("ssh_key", "a\0b", 8, "ssh_key", "control or invisible character; remove it"),
    ("port", "2019", 8, "port", PORT),
    ("port", "2018", 8, "port", PORT),
    ("port", "17500", 8, "port", PORT),
    ("port", "17499", 8, "port", PORT),
    ("port", "32767", 8, "port", "from 1024 to 32766"),
    ("port", "1023", 8, "port", "from 1024 to 32766"),
    ("port", "65535", 8, "port", "from 1024 to 32766"),
    ("port", "443", 8, "port", "from 1024 to 32766"),
    ("port", "'8000'", 8, "port", "from 1024 to 32766"),
    ("approvals", "true", 8, "approvals", "from 0 to 1"),
    ("approvals", "2", 8, "approvals", "from 0 to 1"),
    ("deletion_protection", "1", 8, "deletion_protection", "true or false"),
    ("deletion_protection", "'yes'", 8, "deletion_protection", "true or false"),
    ("require_git", "Clean", 8, "require_git", "'any', 'clean' or 'pushed'"),
    ("git_remote", "--upload-pack=id", 8, "git_remote", "the URL of a git repository"),
    ("git_remote", "ext::sh -c id", 8, "git_remote", "the URL of a git repository"),
    ("git_remote", "ssh://-oProxyCommand=id/x", 8, "git_remote", "the URL of a git repository"),
    ("git_remote", "git@github.com:owner/name.git", 8, "git_remote", "ssh://git@github.com/owner"),
    ("plan_hours", "0", 8, "plan_hours", "from 1 to 168"),
    ("snapshot_days", "1e2", 8, "snapshot_days", "from 0 to 365"),
    ("flow_log_days", "10", 8, "flow_log_days", "0, 1, 3, 5, 7"),
    ("snapshot_days", "0.5", 8, "snapshot_days", "from 0 to 365"),
    ("snapshot_days", "366", 8, "snapshot_days", "from 0 to 365"),
    ("flow_log_days", "2", 8, "flow_log_days", "0, 1, 3, 5, 7"),
    ("flow_log_days", "10", 8, "flow_log_days", "0, 1, 3, 5, 7"),
    ("alarm_email", "ops", 8, "alarm_email", "such as ops@example.com"),
    ("alarm_email", "ops@example", 8, "alarm_email", "such as ops@example.com"),
    ("freezes", FREEZE % "2026-02-30T00:00:00Z", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "'2026-02-01T00:00:00+25:00'", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "2026-02-01T00:00:00", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "2026-02-01", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "1766188800", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "'1766188800'", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "0000-01-01T00:00:00Z", 8, "freezes.0.since", MOMENT),
    ("freezes", FREEZE % "2026-03-01T00:00:00Z", 8, "freezes.0.until", "a time after `since`"),
    ("freezes", FREEZE % "2027-01-01T00:00:00Z", 8, "freezes.0.until", "a time after `since`"),
    ("github", "{branch: -x}", 8, "github.branch", "such as main"),
    ("github", "{branch: ../x}", 8, "github.branch", "such as main"),
    ("github", "{branch: a..b}", 8, "github.branch", "such as main"),
    ("github", "{branch: a.lock}", 8, "github.branch", "such as main"),
    ("github", "{branch: HEAD}", 8, "github.branch", "such as main"),
    *(
        ("github", f"{{branch: '{branch}'}}", 8, "github.branch", "such as main")
        for branch in ("release/*", "a//b", "a/.b", "a/", "a.", "a.lock/b", "")
    ),
    ("github", "{repository: octo-org/*}", 8, "github.repository", "such as owner/name"),
    ("github", "{application: octo-org/*}", 8, "github.application", "such as owner/name"),
    ("github", "{repository: -a/b}", 8, "github.repository", "such as owner/name"),
    ("github", "{repository: a/..}", 8, "github.repository", "such as owner/name"),
    ("github", "{repository: a@\u0661/b}", 8, "github.repository", "such as owner/name"),
    ("github", "{labels: [--x]}", 8, "github.labels.0", "such as staging"),
    ("deploy_via", "runner", 8, "deploy_via", "requires github.repository"),
    ("deploy_via", "ssm", 8, "deploy_via", "requires github.repository"),
    ("secrets", "{A: lets it in, B: 1}", 8, "secrets.B", "expected text, got a number"),
    ("secrets", "[A=b]", 8, "secrets", "`NAME: its purpose`"),
    (
        *("secrets", f"{{{', '.join(f'S{n}: what for' for n in range(1000))}}}"),
        *(8, "secrets", "at most 100"),
    ),
    ("colour", "blue", 8, "colour", "expected app, account"),
]


@pytest.mark.attack("F12", "a setting with a traceback, or a value that AWS refuses later")
@pytest.mark.parametrize(
    ("key", "value", "line", "named", "choice"), REFUSED, ids=lambda each: str(each)[:25]
)
def test_a_wrong_value_names_file_line_key_and_valid_choice(root, key, value, line, named, choice):
    write(root, changed(key, value))
    begun = time.monotonic()
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert time.monotonic() - begun < 1
    [*_, detail] = [text for text in caught.value.details if choice in text] or [None]
    assert detail, caught.value.details
    assert detail.startswith(f"environments/staging.yml:{line}: {named}")
    assert len(str(caught.value)) < 2_500
    assert caught.value.exit_code == 2


BATCH = 45
"""An error lists 100 lines: two for each invalid environment."""


@pytest.mark.parametrize("start", range(0, len(REFUSED), BATCH))
def test_env_check_prints_one_line_per_mistake(root, start):
    values = {f"bad{n}": row for n, row in enumerate(REFUSED[start : start + BATCH])}
    for env, (key, value, *_) in values.items():
        write(root, changed(key, value), env)
    done = check(root)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    for env, (_, _, line, named, choice) in values.items():
        [mistake] = [text for text in lines if f"{env}.yml:" in text]
        assert mistake.startswith(f"environments/{env}.yml:{line}: {named}")
        assert choice in mistake


def test_env_check_prints_all_mistakes_of_a_file_at_once(root):
    wrong = {"app": "h", "vpc_cidr": "true", "ssh_allowed_cidrs": "[0.0.0.0/0, 0.0.0.0/1]"}
    text = changed("instance", "{type: small, disk_gib: 7}") + "flow_log_days: 10\n"
    for key, value in wrong.items():
        text = re.sub(rf"^{key}:.*$", f"{key}: {value}", text, flags=re.M)
    write(root, text)
    done = check(root)
    mistakes = re.findall(r"environments/staging\.yml:([0-9]+): ([\w.]+): ", done.stderr)
    assert done.returncode == 2
    assert mistakes == [
        ("2", "app"),
        ("6", "vpc_cidr"),
        ("7", "ssh_allowed_cidrs.0"),
        ("7", "ssh_allowed_cidrs.1"),
        ("8", "instance.type"),
        ("8", "instance.disk_gib"),
        ("9", "flow_log_days"),
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("account", "012345678901"),
        ("account", "'123456789012'"),
        ("vpc_cidr", "192.168.16.0/20"),
        ("vpc_cidr", "172.31.0.0/16"),
        ("ssh_allowed_cidrs", "[]"),
        ("ssh_allowed_cidrs", "[10.0.0.0/8, 203.0.113.0/24]"),
        ("domains", "[example.test, a.b.example.test]"),
        ("region", "us-gov-west-1"),
        ("deletion_protection", "yes"),
        ("git_remote", "https://github.com/owner/name.git"),
        ("git_remote", "ssh://git@git.example.com:2222/owner/name"),
        ("port", "32766"),
        ("instance", "{type: u-6tb1.metal, disk_gib: 16384, ami: ami-0123456789abcdef0, count: 9}"),
        ("instance", "{type: m7i-flex.large}"),
        ("github", "{repository: a@1/b.c@2, branch: release/1.x, labels: [own]}"),
        ("freezes", FREEZE % "'2026-02-01 00:00 +01:00'"),
        ("secrets", "{DATABASE_URL: 'where the orders are, äöü'}"),
        ("ssh_key", "~/keys/id.pem"),
        ("flow_log_days", "731"),
    ],
)
def test_valid_values_are_accepted(root, key, value):
    write(root, changed(key, value))
    settings.load(root, "staging")


def bombs() -> dict[str, bytes]:
    good = GOOD.strip().encode() + b"\n"
    laughs = "a: &a [x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return {
        "an alias bomb": laughs.encode(),
        "10 MB of comments": b"# x\n" * 2_500_000,
        "one scalar of 1 MB": good + b"colour: " + b"x" * 2**20,
        "nested 1,000 deep": good + b"freezes: " + b"[" * 1_000,
        "a recursive alias": good + b"freezes: &r [*r]",
        "4,000 unknown keys": b"".join(b"k%d: x\n" % n for n in range(4_000)),
        "a terabyte": b"",
        "no text": b"\xff\xfe\x00",
        "a date that does not exist": good + b"freezes: [{since: 2026-02-30T00:00:00Z}]",
    }


@pytest.mark.attack("F12", "settings that take minutes or memory to read")
@pytest.mark.parametrize("name", bombs())
def test_the_command_rejects_a_bomb_quickly(root, name):
    path = root / "environments/staging.yml"
    path.write_bytes(bombs()[name])
    if name == "a terabyte":
        os.truncate(path, 2**40)
    done = check(root)
    assert done.returncode == 2
    assert "environments/staging.yml:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 8_000


@pytest.mark.attack("F12", "settings that take minutes or memory to read")
@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_rejected_quickly(root, name):
    path = root / "environments/staging.yml"
    path.write_bytes(bombs()[name])
    if name == "a terabyte":
        os.truncate(path, 2**40)
    begun = time.process_time()
    with pytest.raises(SettingsError):
        settings.load(root, "staging")
    assert time.process_time() - begun < 0.5


@pytest.mark.attack("F12", "the name of an environment that leads elsewhere")
@pytest.mark.parametrize(
    "name",
    ["", "../staging", "-x", "--help", "a\0b", "$(id)", "x" * 5_000, "staging\n", "st\udcffg"],
)
def test_an_unknown_environment_name_is_rejected(root, name):
    write(root, GOOD)
    with pytest.raises(SettingsError, match="Unknown environment") as caught:
        settings.load(root, name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["-x", "x", "Staging", "a b", "stag*", "staging-", "account", "github", "x" * 21]
)
def test_a_file_with_an_invalid_environment_name_is_rejected(root, name):
    write(root, GOOD, name)
    with pytest.raises(SettingsError, match="is not a valid environment name"):
        settings.load(root, name)


@pytest.mark.attack("F3", "approvals that anyone can take out of their checkout")
@pytest.mark.parametrize(
    "git", ["", "require_git: any", "require_git: clean", "require_git: pushed"]
)
@pytest.mark.parametrize("account", ["sandbox", "'123456789012'"])
def test_on_an_account_approvals_require_reviewed_settings(root, git, account):
    write(root, f"{changed('account', account)}\napprovals: 1\n{git}\n")
    if account == "sandbox" or git == "require_git: pushed":
        assert settings.load(root, "staging").approvals == 1
        return
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert "requires require_git: pushed" in str(caught.value)


@pytest.mark.attack("F12", "settings that are a link out of what was reviewed")
def test_settings_must_not_be_a_symbolic_link(root):
    (root / "elsewhere.yml").write_text(GOOD)
    (root / "environments/staging.yml").symlink_to(root / "elsewhere.yml")
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert "symbolic link" in str(caught.value)


@pytest.mark.attack("F12", "a secret's value in the place of its name or purpose")
@pytest.mark.parametrize(
    "text",
    [
        "{TOKEN: hunter2}",
        "{'TOKEN=hunter2': lets it in}",
        "{hunter2!: lets it in}",
        "[TOKEN=hunter2]",
        "{TOKEN: [hunter2]}",
        "hunter2",
        "{TOKEN: hunter2, TOKEN: hunter2}",
        "{TOKEN: 'hunter2",
    ],
)
def test_a_misplaced_secret_is_not_repeated(root, text):
    write(root, changed("secrets", text))
    with pytest.raises(SettingsError) as caught:
        settings.load(root, "staging")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


VALID = (
    textwrap.dedent(GOOD).strip()
    + """
region: us-east-1
instance: {type: t3.small, disk_gib: 20, count: 1}
ssh_key: ~/.ssh/id_ed25519
port: 8000
secrets: {TOKEN: lets it send mail}
freezes: [{since: 2026-12-20T00:00:00Z, until: 2027-01-02T00:00:00Z, reason: the holidays}]
github: {repository: a/b, branch: main}
approvals: 1
"""
)
SCALARS = st.sampled_from(
    [
        *("", "~", "true", "-1", "1:20", "020", "1_0", ".nan", "9" * 400, "[]", "{}", "[[[]]]"),
        *("*a", "&a b", "!!int 3", "- x", "?", "'", '"', "|", ">", "#", "%", "@", "\0", "\x1b[2J"),
        *("\u202e", "\u0661\u0662", "-x", "--help", "../x", "$(id)", "a" * 300, "2026-02-30"),
        *("10.0.0.0/8", "\udcff"),
    ]
)


def rejected_or_usable(root: Path, raw: bytes) -> None:
    """Load settings: they are valid, or one bounded error names the file and a line."""
    (root / "environments/staging.yml").write_bytes(raw)
    try:
        settings.load(root, "staging")
    except SettingsError as err:
        problem = err
    else:
        return
    assert problem.exit_code == 2
    assert problem.details
    assert all(text.startswith("environments/staging.yml:") for text in problem.details[:20])
    assert len(str(problem)) < 12_000
    assert "\x1b" not in str(problem)


@how(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2_000, max_examples=300)
@given(at=st.integers(0, len(VALID)), size=st.integers(0, 30), put=SCALARS | st.binary(max_size=9))
def test_settings_with_random_bytes_are_valid_or_rejected(root, at, size, put):
    raw = put if isinstance(put, bytes) else put.encode("utf-8", "surrogatepass")
    valid = VALID.encode()
    rejected_or_usable(root, valid[:at] + raw + valid[at + size :])


@how(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2_000, max_examples=300)
@given(
    key=st.sampled_from([*settings.Settings.model_fields, "colour"]),
    inner=st.sampled_from(
        ["", *settings.InstanceSettings.model_fields, *settings.GitHub.model_fields]
    ),
    value=SCALARS | st.text(max_size=20) | st.integers().map(str) | st.floats().map(str),
)
def test_settings_with_random_values_are_valid_or_rejected(root, key, inner, value):
    text = changed(key, f"{{{inner}: {value}}}" if inner else value)
    rejected_or_usable(root, text.encode("utf-8", "surrogatepass"))


def test_a_value_in_an_error_is_short_and_ascii():
    assert types.shown("t3.sm\u043ell") == r"'t3.sm\u043ell'"
    assert types.shown("x" * 5_000) == "text of 5,000 characters"
    assert types.shown(["hunter2"]) == "a list"
    assert types.shown(True) == "true"


OLD = {new: old for old, new in loader.RENAMED.items()}


def test_each_former_key_is_read_with_one_warning(root, capsys, monkeypatch):
    monkeypatch.setattr(loader, "_WARNED", set())
    text = GOOD + "deletion_protection: true\nrequire_git: clean\n"
    write(root, text)
    expected = settings.load(root, "staging")
    assert capsys.readouterr().err == ""
    write(root, re.sub("|".join(OLD), lambda found: OLD[found[0]], text))
    assert settings.load(root, "staging") == settings.load(root, "staging") == expected
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(loader.RENAMED)
    for old, new in loader.RENAMED.items():
        line = text.splitlines().index(next(t for t in text.splitlines() if t.startswith(new))) + 1
        warning = f"environments/staging.yml:{line}: {old} is now named {new}; "
        assert [each.startswith(warning) for each in warnings].count(True) == 1


def test_a_mistake_under_a_former_key_is_reported_under_the_new_key(root):
    write(root, GOOD.replace("vpc_cidr", "cidr").replace("/16", "/24"))
    with pytest.raises(SettingsError, match=r"staging.yml:6: vpc_cidr: "):
        settings.load(root, "staging")


def test_a_key_under_both_names_is_rejected(root):
    write(root, GOOD + "cidr: 10.20.0.0/16\n")
    with pytest.raises(SettingsError, match=r"staging.yml:8: cidr: .*now named vpc_cidr"):
        settings.load(root, "staging")


def test_the_example_is_current_valid_and_not_an_environment():
    text = (ROOT / "environments/example.yml").read_text()
    assert text == example.render(), "python -m daybook.settings.example > environments/example.yml"
    assert settings.parse(text, "example").app == "hello"
    whole = re.sub(r"^# ?(?=[a-z_]+:|  )", "", text.split("\n\n", 1)[1], flags=re.M)
    whole = "\n".join(line for line in whole.split("\n") if not line.lstrip().startswith("#"))
    shown = settings.parse(whole, "example")
    assert set(yaml.safe_load(whole)) == set(settings.Settings.model_fields)
    assert shown.model_dump(exclude={"secrets", "freezes"}) == settings.parse(
        text, "example"
    ).model_dump(exclude={"secrets", "freezes"})
    assert "example" not in settings.environments(ROOT)
