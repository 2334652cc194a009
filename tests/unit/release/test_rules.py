"""Rules for compose files: valid files pass, and all others are refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from compose_attacks import ATTACKS, GOOD, ORDINARY, ORDINARY_SECRETS, TEXTS, attacked

from daybook_release import document, limits, names, rules

ROOT = Path(__file__).parents[3]


@pytest.fixture
def model() -> dict:
    return copy.deepcopy(document.read(GOOD).tree)


def problems(text: str, secrets: tuple[str, ...] = ()) -> list[str]:
    """Return the problems of a text, checked as on a host before any program runs."""
    try:
        compose = document.read(text)
    except document.InvalidComposeFile as err:
        return [str(err)]
    found_problems = rules.problems(compose.tree) + rules.unknown(
        compose.tree, {*names.OWN, *secrets}
    )
    return [problem.line(compose) for problem in found_problems]


def lines(model: dict) -> list[str]:
    return [problem.line(document.read(GOOD)) for problem in rules.problems(model)]


def test_a_valid_file_has_no_problems():
    assert problems(GOOD) == []


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_files_can_be_released(text):
    assert problems(text, ORDINARY_SECRETS) == []


@pytest.mark.parametrize("path", ["app/compose.yaml", "benchmarks/release_app/compose.yaml"])
def test_the_example_applications_can_be_released(path):
    assert problems((ROOT / path).read_text()) == []


@pytest.mark.attack("F7", "a compose file requests access to the host")
@pytest.mark.parametrize(
    ("path", "value"), [attack[1:] for attack in ATTACKS], ids=[attack[0] for attack in ATTACKS]
)
def test_access_beyond_the_container_is_refused(path, value):
    text = yaml.safe_dump(attacked(path, value), sort_keys=False)
    messages = problems(text)
    assert messages
    for line in messages:
        assert line.startswith("compose.yaml line ")
        assert "; " in line
        assert line.isprintable()
        assert len(line) < 400


@pytest.mark.attack("F8", "a compose file's YAML is ambiguous or unbounded")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ambiguous_or_unbounded_yaml_is_refused(text):
    messages = problems(text)
    assert messages
    assert all(line.startswith("compose.yaml line ") and line.isprintable() for line in messages)


@pytest.mark.attack("F8", "the log quotes a refused compose file")
def test_a_message_quotes_no_value_and_no_unusual_key():
    marked = "kept-from-the-log"
    for path, value in (
        (("include",), [f"/etc/{marked}"]),
        (("services", "worker", "env_file"), f"/etc/{marked}"),
        (("services", "db", "volumes"), [f"/{marked}:/x"]),
        (("services", "worker", "environment"), {"A": f"${{{marked}"}),
        (("services", "worker", f"{marked}:*:20784:0"), True),
        (("services", "worker", "image"), f"127.0.0.1/{marked}:1"),
        (("services", "worker", "networks"), [f"/{marked}"]),
    ):
        messages = problems(yaml.safe_dump(attacked(path, value), sort_keys=False))
        assert messages
        assert marked not in "\n".join(messages)


def test_release_options_have_defaults(model):
    assert rules.release_options(model) == rules.ReleaseOptions(
        "web", health="/up", migrate=("python3", "migrate.py"), drain_s=90
    )
    del model["x-release"]
    assert rules.release_options(model) == rules.ReleaseOptions("web", health="/", drain_s=30)


def test_the_web_service_is_the_one_with_a_port_and_a_health_check(model):
    model["services"]["front"] = model["services"].pop("web")
    assert rules.release_options(model).web == "front"
    assert lines(model) == []


def test_a_fixed_port_is_reported_with_its_line_and_fix(model):
    model["services"]["web"]["ports"] = ["127.0.0.1:8000:8000"]
    assert lines(model) == [
        "compose.yaml line 7: two copies could not run side by side; "
        "write 127.0.0.1:${APP_PORT:-8000}:8000"
    ]


@pytest.mark.parametrize(
    ("service", "key", "value", "line"),
    [
        ("web", "healthcheck", None, 9),
        ("web", "image", "shop:1", 5),
        ("web", "container_name", "web", 4),
        ("db", "ports", ["5432:5432"], 16),
        ("worker", "image", None, 11),
        ("worker", "privileged", True, 11),
        ("db", "volumes", ["/etc:/etc"], 17),
    ],
)
def test_one_mistake_is_reported_once_with_its_line(model, service, key, value, line):
    model["services"][service][key] = value
    [message] = lines(model)
    assert message.startswith(f"compose.yaml line {line}: ")


def test_a_variable_without_value_or_default_is_refused(model):
    model["services"]["worker"]["environment"] = {
        "URL": "${DATABASE_URL}",
        "MODE": "${MODE:-fast}",
        "NESTED": "${A:-${B}}",
        "COST": "$$5",
        "MAIL": "${MAIL_TOKEN:?}",
        "HOME": None,
        "MAIL_TOKEN": None,
    }
    unset = rules.unknown(model, {"APP_IMAGE", "MAIL_TOKEN"})
    assert [p.message for p in unset] == [
        f"{n} has no value" for n in ("DATABASE_URL", "B", "HOME")
    ]


PRINTED = {
    "name": "shop",
    "services": {
        "web-blue": {
            "command": None,
            "healthcheck": {"test": ["CMD", "true"], "timeout": "5s"},
            "image": "registry/shop@sha256:0f",
            "labels": {"daybook.release": "r1"},
            "networks": {"default": None},
            "ports": [
                {
                    "mode": "ingress",
                    "host_ip": "127.0.0.1",
                    "target": 80,
                    "published": "8001",
                    "protocol": "tcp",
                }
            ],
        },
        "db": {
            "image": "postgres:17",
            "networks": {"default": None},
            "volumes": [{"type": "volume", "source": "data", "target": "/x", "volume": {}}],
        },
    },
    "networks": {"default": {"name": "shop_default", "ipam": {}}},
    "volumes": {"data": {"name": "shop_data"}},
}
FINAL = rules.RenderedValues(
    "shop", "registry/shop@sha256:0f", "web-blue", 8001, taken=(8000, 8001)
)


def test_a_valid_rendered_model_has_no_problems():
    assert rules.problems(PRINTED, FINAL) == []


@pytest.mark.attack("F7", "Compose interprets an allowed file differently")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "web-blue", "image"), "registry/shop@sha256:10"),
        (("services", "web-blue", "ports"), [{"target": 80, "published": "8001"}]),
        (("services", "web-blue", "ports", 0, "published"), "8000"),
        (("services", "web-blue", "ports", 0, "host_ip"), "0.0.0.0"),
        (("services", "web-blue", "labels"), {"com.docker.compose.project": "other"}),
        (("services", "db", "volumes", 0), {"type": "bind", "source": "/", "target": "/x"}),
        (
            ("services", "db", "ports"),
            [{"host_ip": "127.0.0.1", "target": 80, "published": "8000", "protocol": "tcp"}],
        ),
        (("services", "db", "privileged"), True),
        (("services", "db", "secrets"), [{"source": "x"}]),
        (("networks", "default", "name"), "host"),
        (("networks", "default", "external"), True),
        (("networks", "default", "ipam"), {"config": [{"subnet": "169.254.0.0/16"}]}),
        (("volumes", "data", "name"), "other_data"),
        (("volumes", "data", "driver_opts"), {"device": "/"}),
        (("configs",), {"x": {"file": "/etc/shadow"}}),
    ],
)
def test_a_changed_rendered_model_is_refused(path, value):
    printed = copy.deepcopy(PRINTED)
    node = printed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert rules.problems(printed, FINAL)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5s", 1.5),
        ("200ms", 0.2),
        ("soon", None),
        ("", None),
        ("\u0661s", None),
        (30, None),
    ],
)
def test_durations(text, seconds):
    assert rules.seconds(text) == seconds


@pytest.mark.parametrize(
    "image",
    [
        "postgres:17",
        "library/postgres:17-alpine",
        "postgres:17@sha256:" + "0" * 64,
        "postgres@sha256:" + "0" * 64,
        "ghcr.io/octo-org/mailer:v1.2.3",
        "docker.elastic.co/elasticsearch/elasticsearch:8.17.0",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop@sha256:" + "0" * 64,
    ],
)
def test_a_pinned_image_is_allowed(image):
    assert rules.PINNED.fullmatch(image)


def test_the_health_timeout_is_the_longest_time_that_docker_needs():
    check = {"test": "x", "start_period": "20s", "interval": "10s", "timeout": "5s", "retries": 4}
    assert rules.health_timeout_s({"healthcheck": check}) == 20 + 4 * 15
    assert rules.health_timeout_s({}) == 180 < limits.HEALTH_S


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("worker", "container_name", "shop-jobs"),
        ("worker", "container_name", "worker2"),
        ("worker", "cpu_shares", 512),
        ("worker", "pids_limit", 4096),
        ("worker", "logging", {"options": {"mode": "non-blocking", "max-buffer-size": "4m"}}),
        ("db", "healthcheck", {"test": "x", "interval": "1s", "start_interval": "500ms"}),
        ("db", "healthcheck", {"test": "x", "interval": "0s"}),
        ("db", "healthcheck", {"test": ["NONE"]}),
        ("db", "ulimits", {"nproc": -1}),
    ],
)
def test_values_within_the_limits_are_allowed(model, service, key, value):
    model["services"][service][key] = value
    assert lines(model) == []


def test_the_highest_number_of_copies_counts():
    assert rules.copies({"scale": 2, "deploy": {"replicas": 5}}) == 5
    assert rules.copies({}) == 1


def test_the_documentation_lists_the_limits():
    assert "\n".join(limits.table()) in (ROOT / "docs/releases.md").read_text()
