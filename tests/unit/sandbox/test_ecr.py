"""ECR's refusals at its registry, and its record of pushes."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace

import h11
import pytest
from moto.ecr.models import ECRBackend

from daybook_sandbox.ecr import Ecr, RegistryRequest

TOKEN = "Basic " + base64.b64encode(b"AWS:123456789012-auth-token").decode()
FIRST, SECOND = "sha256:" + "1" * 64, "sha256:" + "2" * 64
MANIFEST = b'{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}'
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
PUSH = RegistryRequest("PUT", "hello", "manifests", "1", TOKEN, TYPE)


@pytest.fixture
def backend():
    ecr_backend = ECRBackend("us-east-1", "123456789012")
    ecr_backend.create_repository("hello", None, None, None, "MUTABLE", [])
    ecr_backend.create_repository("fixed", None, None, None, "IMMUTABLE", [])
    return ecr_backend


@pytest.fixture
def ecr(backend):
    sts = SimpleNamespace(assumed_roles=[])
    return Ecr(SimpleNamespace(account="123456789012", region="us-east-1", ecr=backend, sts=sts))


def push(ecr: Ecr, digest: str, call: RegistryRequest = PUSH, status: int = 201) -> None:
    answer = h11.Response(status_code=status, headers=[("Docker-Content-Digest", digest)])
    ecr.record(call, answer, MANIFEST)


def images(backend, repository: str = "hello") -> dict[str, list[str]]:
    return {image.image_digest: image.image_tags for image in backend.describe_images(repository)}


def code(ecr: Ecr, call: RegistryRequest) -> str | None:
    refusal = ecr.refusal(call)
    return refusal.code if refusal else None


def test_parses_a_request():
    request = h11.Request(
        method="PUT",
        target="/v2/team/hello/manifests/1?x=y",
        headers=[("Host", "x"), ("Authorization", TOKEN), ("Content-Type", TYPE)],
    )
    assert RegistryRequest.of(request) == replace(PUSH, repository="team/hello")
    ping = h11.Request(method="GET", target="/v2/", headers=[("Host", "x")])
    assert RegistryRequest.of(ping) == RegistryRequest("GET", "", "", "", "", "")


def test_login(ecr):
    ping = RegistryRequest("GET", "", "", "", TOKEN, "")
    assert code(ecr, ping) is None
    refusal = ecr.refusal(replace(ping, authorization="Basic bm90aGluZw=="))
    assert (refusal.status, refusal.code) == (401, "UNAUTHORIZED")
    assert dict(refusal.headers)["WWW-Authenticate"].startswith("Basic realm=")


def test_repository_must_exist(ecr):
    assert code(ecr, PUSH) is None
    assert code(ecr, replace(PUSH, repository="other")) == "NAME_UNKNOWN"
    assert (
        code(ecr, RegistryRequest("POST", "other", "blobs", "uploads/", TOKEN, ""))
        == "NAME_UNKNOWN"
    )


def test_push_is_recorded_with_its_digest(ecr, backend):
    push(ecr, FIRST)
    push(ecr, FIRST, replace(PUSH, reference="latest"))
    assert images(backend) == {FIRST: ["1", "latest"]}


def test_tag_moves_and_the_old_image_remains(ecr, backend):
    push(ecr, FIRST)
    push(ecr, SECOND)
    assert images(backend) == {FIRST: [], SECOND: ["1"]}
    assert code(ecr, replace(PUSH, method="GET", reference=FIRST)) is None


def test_push_by_digest_has_no_tag(ecr, backend):
    push(ecr, FIRST, replace(PUSH, reference=FIRST))
    assert images(backend) == {FIRST: []}


def test_a_refused_push_is_not_recorded(ecr, backend):
    push(ecr, FIRST, status=400)
    push(ecr, FIRST, replace(PUSH, method="GET"), status=201)
    assert images(backend) == {}


def test_immutable_tag(ecr):
    fixed = replace(PUSH, repository="fixed")
    assert code(ecr, fixed) is None
    push(ecr, FIRST, fixed)
    assert code(ecr, fixed) == "TAG_INVALID"
    assert code(ecr, replace(fixed, reference="2")) is None


def test_deleted_image_cannot_be_pulled(ecr, backend):
    push(ecr, FIRST)
    pull = replace(PUSH, method="HEAD")
    assert code(ecr, pull) is None
    backend.batch_delete_image("hello", image_ids=[{"imageDigest": FIRST}])
    assert code(ecr, pull) == "MANIFEST_UNKNOWN"
