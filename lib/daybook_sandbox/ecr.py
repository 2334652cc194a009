"""ECR's rules for registry requests, and its record of pushes."""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from moto.ecr.models import Image

from daybook_sandbox import logins, metadata, permissions, simulator
from daybook_sandbox.api import Cloud
from daybook_sandbox.httpstream import header

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# The IAM action of each kind of request; the first match applies.
ACTIONS = (
    ("GET|HEAD", "manifests", "BatchGetImage"),
    ("PUT", "manifests", "PutImage"),
    ("DELETE", "manifests|blobs", "BatchDeleteImage"),
    ("HEAD", "blobs", "BatchCheckLayerAvailability"),
    ("GET", "blobs", "GetDownloadUrlForLayer"),
    ("POST|PATCH|PUT", "blobs", "InitiateLayerUpload"),
    (".*", "tags", "ListImages"),
)
REPOSITORY_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags)/(?P<reference>.*)")


def host_name(cloud: Cloud) -> str:
    """Return the registry's host name."""
    return f"{cloud.account}.dkr.ecr.{cloud.region}.amazonaws.com"


@dataclass(frozen=True)
class RegistryRequest:
    """The parts of a registry API request that ECR's rules apply to.

    reference: the tag or digest if kind is "manifests".
    """

    method: str
    repository: str
    kind: str
    reference: str
    authorization: str
    media_type: str

    @classmethod
    def of(cls, request: h11.Request) -> RegistryRequest:
        """Parse an HTTP request."""
        path = REPOSITORY_PATH.match(request.target.decode().partition("?")[0])
        return cls(
            method=request.method.decode(),
            repository=path["name"] if path else "",
            kind=path["kind"] if path else "",
            reference=path["reference"] if path else "",
            authorization=header(request, "Authorization"),
            media_type=header(request, "Content-Type"),
        )

    @property
    def is_push(self) -> bool:
        """Return True if the request completes a push; the layers are uploaded first."""
        return self.method == "PUT" and self.kind == "manifests"

    @property
    def action(self) -> str:
        """Return the IAM action: ecr:PutImage."""
        fits = (
            action
            for methods, kinds, action in ACTIONS
            if re.fullmatch(methods, self.method) and re.fullmatch(kinds, self.kind)
        )
        return f"ecr:{next(fits, self.method)}"

    @property
    def tag(self) -> str | None:
        return None if DIGEST.fullmatch(self.reference) else self.reference


@dataclass(frozen=True)
class RegistryError:
    """A refusal, in the JSON that Docker shows to its user."""

    status: HTTPStatus
    code: str
    message: str
    challenge: str = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        ask = (("WWW-Authenticate", self.challenge),) if self.challenge else ()
        return (("Content-Type", "application/json; charset=utf-8"), *ask)

    @property
    def body(self) -> bytes:
        return json.dumps({"errors": [{"code": self.code, "message": self.message}]}).encode()


class Ecr:
    """The rules and state of the account's registry."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._authorization = f"Basic {logins.login(cloud.account)}"
        self._challenge = f'Basic realm="https://{host_name(cloud)}/",service="ecr.amazonaws.com"'

    def refusal(self, call: RegistryRequest, machine: Any = None) -> RegistryError | None:
        """Return ECR's refusal of a request; None if it is allowed.

        machine: the sending instance, limited to its role; None for the operator.
        """
        is_login = hmac.compare_digest(call.authorization.encode(), self._authorization.encode())
        session = None if is_login else logins.session_of(self._cloud, call.authorization)
        if not is_login and not session:
            return RegistryError(
                HTTPStatus.UNAUTHORIZED,
                "UNAUTHORIZED",
                "Your authorization token is not valid. Log in again.",
                self._challenge,
            )
        if not call.repository:
            return None
        if machine and not self._may(metadata.role_of(self._cloud, machine), call):
            return _denied(machine.id, call)
        if session and not self._may(self._cloud.iam.get_role_by_arn(session.role_arn), call):
            return _denied(session.arn, call)
        repository = self._cloud.ecr.repositories.get(call.repository)
        if repository is None:
            return RegistryError(
                HTTPStatus.NOT_FOUND,
                "NAME_UNKNOWN",
                f"The repository with name '{call.repository}' does not exist in the registry "
                f"with id '{self._cloud.account}'",
            )
        return self._manifest_refusal(call, repository) if call.kind == "manifests" else None

    def _may(self, role: Any | None, call: RegistryRequest) -> bool:
        prefix = f"arn:aws:ecr:{self._cloud.region}:{self._cloud.account}:repository"
        call = simulator.Call(call.action, f"{prefix}/{call.repository}", {})
        return bool(role) and permissions.allows(self._cloud.iam, role, call)

    def record(self, call: RegistryRequest, response: h11.Response, manifest: bytes) -> None:
        """Record a push that the registry accepted."""
        if not call.is_push or response.status_code != HTTPStatus.CREATED:
            return
        repository = self._cloud.ecr.repositories[call.repository]
        digest = header(response, "Docker-Content-Digest")
        image = _find(repository, digest)
        if image is None:
            text = manifest.decode()
            image = Image(self._cloud.account, None, text, call.repository, call.media_type, digest)
            repository.images.append(image)
        if call.tag:
            _move_tag(repository, image, call.tag)

    def _manifest_refusal(self, call: RegistryRequest, repository: Any) -> RegistryError | None:
        image = _find(repository, call.reference)
        if call.is_push and call.tag and image and repository.is_tag_immutable():
            return RegistryError(
                HTTPStatus.BAD_REQUEST,
                "TAG_INVALID",
                f"The image tag '{call.tag}' already exists in the '{call.repository}' "
                "repository and cannot be overwritten because the repository is immutable.",
            )
        if call.method in ("GET", "HEAD") and image is None:
            return RegistryError(
                HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "Requested image not found"
            )
        return None


def _denied(arn: str, call: RegistryRequest) -> RegistryError:
    message = f"{arn} is not authorized to perform: {call.action}"
    return RegistryError(HTTPStatus.FORBIDDEN, "DENIED", message)


def _find(repository: Any, reference: str) -> Image | None:
    """Return the image with a tag or a digest."""
    images = list(repository.images)
    return next(
        (image for image in images if reference in (*image.image_tags, image.image_digest)), None
    )


def _move_tag(repository: Any, image: Image, tag: str) -> None:
    """Move a tag to an image; the image that had it remains without it, as in ECR.

    moto's put_image would delete that image, so its digest could no longer be pulled.
    """
    for holder in list(repository.images):
        if holder is not image and tag in holder.image_tags:
            holder.remove_tag(tag)
            holder.image_tag = holder.image_tags[-1] if holder.image_tags else None
    image.update_tag(tag)
