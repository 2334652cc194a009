"""What a compose file must be to be released."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from daybook_release import rules

ROOT = Path(__file__).parents[2]
TEXT = """\
name: ${APP_NAME:-shop}
x-release: {health: /up, drain: 1m30s, migrate: [python3, migrate.py]}
services:
  web:
    image: ${APP_IMAGE:-shop:development}
    env_file: .env
    ports:
      - 127.0.0.1:${APP_PORT:-8000}:8000
    healthcheck:
      test: [CMD, "true"]
  worker:
    image: ${APP_IMAGE}
    command: [work]
  db:
    image: postgres:17
    ports: ["127.0.0.1:5432:5432"]
    volumes: [data:/var/lib/postgresql]
volumes:
  data:
"""


@pytest.fixture
def model() -> dict:
    return copy.deepcopy(yaml.safe_load(TEXT))


def lines(model: dict) -> list[str]:
    return [problem.line(TEXT) for problem in rules.problems(model)]


def test_a_good_file_has_no_problem(model):
    assert lines(model) == []


def test_the_example_application_can_be_released():
    assert rules.problems(yaml.safe_load((ROOT / "app/compose.yaml").read_text())) == []


def test_wishes_have_defaults(model):
    assert rules.wishes(model) == rules.Wishes(
        "web", health="/up", migrate=("python3", "migrate.py"), drain_s=90
    )
    del model["x-release"]
    assert rules.wishes(model) == rules.Wishes("web", health="/", drain_s=30)


def test_the_web_service_is_the_one_with_a_port_and_a_health_check(model):
    model["services"]["front"] = model["services"].pop("web")
    assert rules.wishes(model).web == "front"
    assert lines(model) == []


def test_a_fixed_port_is_told_with_its_line_and_the_fix(model):
    model["services"]["web"]["ports"] = ["127.0.0.1:8000:8000"]
    assert lines(model) == [
        "compose.yaml line 7: two copies could not run side by side; "
        "write 127.0.0.1:${APP_PORT:-8000}:8000"
    ]


@pytest.mark.parametrize(
    ("service", "key", "value", "line"),
    [
        ("web", "healthcheck", None, 9),
        ("web", "healthcheck", {"test": ["CMD", "true"], "disable": True}, 9),
        ("web", "image", "shop:1", 5),
        ("web", "container_name", "web", 4),
        ("web", "deploy", {"replicas": 2}, 4),
        ("web", "ports", ["${APP_PORT:-8000}:8000"], 7),
        ("web", "ports", ["0.0.0.0:${APP_PORT:-8000}:8000"], 7),
        ("db", "ports", ["5432:5432"], 16),
        ("db", "ports", [{"target": 5432, "published": "5432"}], 16),
        ("worker", "image", None, 11),
        ("worker", "privileged", True, 11),
        ("worker", "network_mode", "host", 11),
        ("worker", "network_mode", "container:other", 11),
        ("worker", "pid", "host", 11),
        ("worker", "ipc", "host", 11),
        ("worker", "userns_mode", "host", 11),
        ("worker", "devices", ["/dev/kmsg"], 11),
        ("worker", "device_cgroup_rules", ["c 1:1 rwm"], 11),
        ("worker", "cap_add", ["SYS_ADMIN"], 11),
        ("worker", "security_opt", ["seccomp=unconfined"], 11),
        ("worker", "volumes_from", ["container:other"], 11),
        ("worker", "extends", {"file": "other.yaml", "service": "x"}, 11),
        ("worker", "env_file", "other.env", 11),
        ("worker", "runtime", "other", 11),
        ("db", "volumes", ["/etc:/etc"], 17),
        ("db", "volumes", ["./data:/data"], 17),
        ("db", "volumes", ["~/data:/data"], 17),
        ("db", "volumes", ["${HOME}:/data"], 17),
        ("db", "volumes", ["/var/run/docker.sock:/var/run/docker.sock"], 17),
        ("db", "volumes", [{"type": "bind", "source": "/", "target": "/host"}], 17),
    ],
)
def test_what_cannot_be_released_is_refused(model, service, key, value, line):
    model["services"][service][key] = value
    [told] = lines(model)
    assert told.startswith(f"compose.yaml line {line}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("volumes", {"data": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}}),
        ("secrets", {"key": {"file": "/root/.ssh/id"}}),
        ("configs", {"key": {"file": "./x"}}),
        ("include", ["other.yaml"]),
    ],
)
def test_files_of_the_host_in_disguise_are_refused(model, key, value):
    model[key] = value
    assert len(lines(model)) == 1


def test_what_compose_prints_is_judged_like_what_people_write(model):
    model["services"]["web"]["env_file"] = [{"path": "/srv/shop/releases/1/.env"}]
    model["services"]["db"]["volumes"] = [{"type": "volume", "source": "data", "target": "/x"}]
    model["services"]["db"]["ports"] = [{"host_ip": "127.0.0.1", "target": 1, "published": "1"}]
    assert lines(model) == []


def test_a_key_that_nobody_has_judged_is_refused(model):
    model["services"]["db"]["newest_feature"] = True
    assert lines(model)


def test_a_variable_without_value_or_default_is_refused(model):
    model["services"]["worker"]["environment"] = {
        "URL": "${DATABASE_URL}",
        "MODE": "${MODE:-fast}",
        "COST": "$$5",
        "MAIL": "${MAIL_TOKEN:?}",
    }
    found = rules.unknown(model, {"APP_IMAGE", "MAIL_TOKEN"})
    assert [problem.says for problem in found] == ["nobody says what DATABASE_URL is"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1m30s", 90), ("1h", 3600), ("1.5s", 1.5), ("soon", None)]
)
def test_durations(text, seconds):
    assert rules.seconds(text) == seconds
