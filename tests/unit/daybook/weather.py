"""Bad weather: count each call to AWS and each operation on a file, and make one of them fail.

with Weather(root).watched() as weather: …      # counts: weather.calls, weather.files
with Weather(root, aws=(7, "html")).watched(): …  # the 7th call gets a captive portal's page
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.retries.standard import ExponentialBackoff
from moto.core.botocore_stubber import BotocoreStubber

from daybook import aws

PORTAL = b"<html><head><title>Welcome</title></head><body>Sign in to the hotel's wifi<br></body>"
URL = "https://aws.example"
FILES = ("ENOSPC", "EROFS", "EMFILE", "EACCES", "EIO")
WRITES = ("ENOSPC", "EROFS", "EIO")


def _http(status: int, body: bytes, **headers: str) -> Callable[..., AWSResponse]:
    def answer(_request: Any) -> AWSResponse:
        whole = {
            "content-length": str(len(body)),
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        return AWSResponse(URL, status, whole, _Raw(body))

    return answer


def _refusal(status: int, code: str, **headers: str) -> Callable[..., AWSResponse]:
    """Answer with a refusal of AWS, in the service's format, JSON or XML."""

    def answer(request: Any) -> AWSResponse:
        is_json = bool(_header(request, "x-amz-target"))
        text = f'{{"__type":"{code}","message":"no\\u001b[31m"}}'
        if not is_json:
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
            text = text if "s3" in request.url else f"<ErrorResponse>{text}</ErrorResponse>"
        body = b"" if request.method == "HEAD" else text.encode()
        return _http(status, body, x_amzn_requestid="r-1", **headers)(request)

    return answer


def _raising(err: Exception) -> Callable[..., AWSResponse]:
    def answer(_request: Any) -> AWSResponse:
        raise err

    return answer


def _header(request: Any, name: str) -> bytes:
    value = request.headers.get(name, b"")
    return value if isinstance(value, bytes) else value.encode()


class _Raw(io.BytesIO):
    """A response body like urllib3's."""

    def stream(self, *_args: Any, **_options: Any) -> Iterator[bytes]:
        yield self.read()


AWS: dict[str, Callable[..., AWSResponse]] = {
    "html": _http(200, PORTAL, content_type="text/html"),
    "html 404": _http(404, PORTAL, content_type="text/html"),
    "html 500": _http(500, PORTAL, content_type="text/html"),
    "redirect": _http(302, b"", location="http://portal.example/"),
    "empty": _http(200, b""),
    "binary": _http(200, bytes(range(128, 256)) * 4, x_amzn_requestid="r-1"),
    "json of another kind": _http(200, b'["a"]', x_amzn_requestid="r-1"),
    "nothing in it": _http(200, b"{}", x_amzn_requestid="r-1"),
    "500": _refusal(500, "InternalError"),
    "503": _refusal(503, "ServiceUnavailable"),
    "throttled": _refusal(400, "ThrottlingException"),
    "expired": _refusal(400, "ExpiredToken"),
    "denied": _refusal(403, "AccessDenied"),
    "skewed": _refusal(403, "SignatureDoesNotMatch", date="Fri, 27 Nov 2020 00:00:00 GMT"),
    "timeout": _raising(ConnectTimeoutError(endpoint_url=URL)),
    "silence": _raising(ReadTimeoutError(endpoint_url=URL)),
    "unreachable": _raising(EndpointConnectionError(endpoint_url=URL)),
    "signed out": _raising(NoCredentialsError()),
}
"""Failures in place of AWS's answer."""
LATE = "carried out, then "
CALLS = (*AWS, f"{LATE}silence", f"{LATE}html", f"{LATE}500")
"""Failures after which the call may have taken effect."""


class Weather:
    """Counts what a command asks of AWS and of the disk; one of it fails.

    aws, file: (which, counted from 0, and how), from AWS and FILES.
    """

    def __init__(
        self,
        root: Path,
        aws: tuple[int, str] | None = None,
        file: tuple[int, str] | None = None,
    ) -> None:
        self.root, self.aws, self.file = root, aws, file
        self.calls: list[str] = []
        self.files: list[str] = []
        self.is_paused = False
        self._invocations: dict[bytes, int] = {}

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Neither count nor fail in this context."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def answer(self, request: Any, event_name: str, moto: Callable[[], Any]) -> Any:
        """Answer in place of moto if this call must fail; all retries of a call count as one."""
        if self.is_paused:
            return moto()
        invocation = _header(request, "amz-sdk-invocation-id")
        if invocation not in self._invocations:
            self._invocations[invocation] = len(self.calls)
            self.calls.append(event_name.removeprefix("before-send."))
        if not self.aws or self._invocations[invocation] != self.aws[0]:
            return moto()
        if self.aws[1].startswith(LATE):
            moto()
        return AWS[self.aws[1].removeprefix(LATE)](request)

    @contextmanager
    def watched(self) -> Iterator[Weather]:
        """Intercept this process's operations on files in this context."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", "unlink", "rename", "replace", "chmod", "open", "rmdir"):
                patch.setattr(os, name, self._on_path(getattr(os, name), f"os.{name}"))
            for name in ("write", "fsync", "ftruncate"):
                patch.setattr(os, name, self._on_fd(getattr(os, name), f"os.{name}"))
            opener = self._on_path(io.open, "open")
            patch.setattr(io, "open", opener)
            patch.setattr(builtins, "open", opener)
            yield self

    def _on_path(self, do: Callable, name: str) -> Callable:
        def operation(path: Any, *args: Any, **options: Any) -> Any:
            is_ours = isinstance(path, str | Path) and str(path).startswith(str(self.root))
            if is_ours:
                mode = options.get("mode", args[0] if args else "r") if name == "open" else ""
                self._count(f"{name} {mode} {Path(path).name}".replace("  ", " "), path)
            return do(path, *args, **options)

        return operation

    def _on_fd(self, do: Callable, name: str) -> Callable:
        def operation(fd: int, *args: Any) -> Any:
            if self._is_ours(fd):
                self._count(name, None)
            return do(fd, *args)

        return operation

    def _is_ours(self, fd: int) -> bool:
        try:
            return os.readlink(f"/proc/self/fd/{fd}").startswith(str(self.root))
        except OSError:
            return False

    def _count(self, what: str, path: Any) -> None:
        if self.is_paused:
            return
        self.files.append(what)
        if self.file and len(self.files) - 1 == self.file[0]:
            number = getattr(errno, self.file[1])
            raise OSError(number, os.strerror(number), *([str(path)] if path else []))


def stand_between(now: Callable[[], Weather], patch: pytest.MonkeyPatch) -> None:
    """Let the current weather answer in place of moto, without delays between retries."""
    moto, make = BotocoreStubber.__call__, aws._make_client
    clients: dict[str, Any] = {}

    def answer(stubber: Any, event_name: str, request: Any, **options: Any) -> Any:
        def by_moto() -> Any:
            found = moto(stubber, event_name, request, **options)
            if found is not None:  # moto's S3 gives no date.
                found.headers.setdefault("date", formatdate(usegmt=True))
            return found

        return now().answer(request, event_name, by_moto)

    def kept(target: Any, service: str) -> Any:
        clients[service] = clients.get(service) or make(target, service)
        return clients[service]

    patch.setattr(BotocoreStubber, "__call__", answer)
    patch.setattr(aws, "_make_client", kept)
    patch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
