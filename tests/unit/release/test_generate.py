"""The compose model that a host runs."""

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


def generated(slot: str = "green") -> dict:
    names = ("APP_IMAGE", "TOKEN")
    return generate.generate(MODEL, app="hello", release="r1", slot=slot, port=8001, names=names)


def test_services_have_three_kinds_and_those_with_a_profile_are_omitted():
    assert generate.service_kinds(MODEL) == generate.ServiceKinds("web", ("worker",), ("db",))


def test_the_web_service_gets_the_name_and_port_of_its_slot():
    web = generated()["services"]["web-green"]
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


def test_short_forms_are_expanded():
    assert generated()["services"]["db"] == {
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


@pytest.mark.attack("F9", "a fork bomb uses up the process ids of the host")
@pytest.mark.parametrize(
    ("service", "limit"),
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
def test_every_container_has_one_process_limit_in_both_keys(service, limit):
    """Compose refuses a file if resources.limits has no pids or another number than pids_limit."""
    model = document.read(GOOD).tree
    model["services"]["worker"] |= service
    assert rules.problems(model) == []
    generated = generate.generate(
        model, app="x", release="r1", slot="blue", port=8000, names=("A",)
    )
    worker = generated["services"]["worker"]
    resource_limits = (worker.get("deploy", {}).get("resources") or {}).get("limits")
    assert worker["pids_limit"] == limit
    assert resource_limits is None or resource_limits["pids"] == limit


def test_other_keys_are_unchanged():
    result = generated()
    assert result["services"]["worker"]["depends_on"] == ["web-green", "db"]
    assert (result["name"], result["volumes"]) == ("hello", {"data": {}})
    assert "x-release" not in result


def test_the_difference_shows_only_changes():
    changed = [
        line for line in generate.difference(MODEL, generated()).splitlines() if line[0] in "+-"
    ]
    assert '-    ports: ["127.0.0.1:${APP_PORT:-8000}:80"]' in changed
    assert any(line.startswith("+    ports: ") and '"8001"' in line for line in changed)
    assert not [line for line in changed if "postgres" in line]
