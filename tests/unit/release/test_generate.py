"""The compose file that a host runs."""

from __future__ import annotations

import pytest
from compose_attacks import GOOD

from daybook_release import document, generate, rules

MODEL = {
    "name": "shop",
    "x-release": {"health": "/up"},
    "services": {
        "web": {
            "image": "${APP_IMAGE}",
            "build": {"context": "."},
            "env_file": [{"path": "/x/.env"}],
            "environment": ["MODE=fast", "TOKEN"],
            "privileged": False,
            "logging": {"driver": "json-file"},
            "x-note": "for people",
            "depends_on": {"db": {"condition": "service_started"}},
            "ports": ["127.0.0.1:${APP_PORT:-8000}:80"],
            "healthcheck": {"test": ["CMD", "true"]},
            "restart": "always",
        },
        "worker": {"image": "${APP_IMAGE}", "depends_on": ["web", "db"]},
        "db": {
            "image": "postgres:17",
            "volumes": ["data:/x:ro", "/anonymous", {"type": "tmpfs", "target": "/t"}],
            "ports": ["[::1]:5432:5432/udp"],
        },
        "shell": {"image": "${APP_IMAGE}", "profiles": ["tools"]},
    },
    "volumes": {"data": {}},
}


def made(slot: str = "green") -> dict:
    names = ("APP_IMAGE", "TOKEN")
    return generate.generated(MODEL, app="hello", release="r1", slot=slot, port=8001, names=names)


def test_services_are_of_three_kinds_and_those_with_a_profile_are_for_people():
    assert generate.service_kinds(MODEL) == generate.ServiceKinds("web", ("worker",), ("db",))


def test_the_web_service_gets_its_slot_and_its_port():
    web = made()["services"]["web-green"]
    assert web == {
        "image": "${APP_IMAGE}",
        "environment": {"APP_IMAGE": None, "TOKEN": None, "MODE": "fast"},
        "depends_on": {"db": {"condition": "service_started"}},
        "ports": [port(8001, 80)],
        "pull_policy": "never",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "healthcheck": {"test": ["CMD", "true"]},
        "restart": "unless-stopped",
        "labels": {"daybook.release": "r1"},
        "pids_limit": 1024,
    }


def port(published: int, target: int, address: str = "127.0.0.1", protocol: str = "tcp") -> dict:
    return {
        "mode": "ingress",
        "host_ip": address,
        "published": str(published),
        "target": target,
        "protocol": protocol,
    }


def test_what_has_a_short_form_is_written_out():
    assert made()["services"]["db"] == {
        "image": "postgres:17",
        "volumes": [
            {"type": "volume", "source": "data", "target": "/x", "read_only": True},
            {"type": "volume", "target": "/anonymous"},
            {"type": "tmpfs", "target": "/t"},
        ],
        "ports": [port(5432, 5432, "::1", "udp")],
        "pull_policy": "never",
        "pids_limit": 1024,
    }


@pytest.mark.attack("F9", "a fork bomb takes the host's process numbers")
@pytest.mark.parametrize(
    ("service", "most"),
    [
        ({}, 1024),
        ({"pids_limit": "200"}, 200),
        ({"ulimits": {"nproc": -1}}, 1024),
        ({"deploy": {"resources": None}}, 1024),
        ({"deploy": {"resources": {"limits": {}}}}, 1024),
        ({"deploy": {"resources": {"limits": {"memory": "1g"}}}}, 1024),
        ({"deploy": {"resources": {"limits": {"pids": 300}}}}, 300),
        ({"pids_limit": 300, "deploy": {"resources": {"limits": {"pids": 300}}}}, 300),
    ],
)
def test_every_container_has_a_limit_of_processes_on_which_both_keys_agree(service, most):
    """Compose refuses a file with resources.limits and another number, or none, of pids in it."""
    model = document.read(GOOD).tree
    model["services"]["worker"] |= service
    assert rules.problems(model) == []
    made = generate.generated(model, app="x", release="r1", slot="blue", port=8000, names=("A",))
    worker = made["services"]["worker"]
    bounds = (worker.get("deploy", {}).get("resources") or {}).get("limits")
    assert worker["pids_limit"] == most
    assert bounds is None or bounds["pids"] == most


def test_everything_else_stays_as_the_developers_wrote_it():
    result = made()
    assert result["services"]["worker"]["depends_on"] == ["web-green", "db"]
    assert (result["name"], result["volumes"]) == ("hello", {"data": {}})
    assert "x-release" not in result


def test_the_difference_shows_what_was_changed_and_only_that():
    changed = [line for line in generate.difference(MODEL, made()).splitlines() if line[0] in "+-"]
    assert '-    ports: ["127.0.0.1:${APP_PORT:-8000}:80"]' in changed
    assert any(line.startswith("+    ports: ") and '"8001"' in line for line in changed)
    assert not [line for line in changed if "postgres" in line]
