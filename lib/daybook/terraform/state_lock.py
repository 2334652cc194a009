"""Terraform's own lock on a state: who has it, and which ones a run asked for.

The S3 backend keeps the lock as an object beside the state. It has no term: one whose Terraform
was killed stays. What tells whose it is, is its id, which Terraform writes to its log before it
writes the object. Its `Who` is no proof: every run of a user on a host has the same.

https://github.com/hashicorp/terraform/blob/v1.11.4/internal/backend/remote-state/s3/client.go
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from botocore.client import BaseClient
from botocore.exceptions import ClientError

LOG = "terraform.log"
"""Among a run's attachments: Terraform's own log of all its commands, without the providers'."""
LOG_LIMIT_BYTES = 32 << 20
_ATTEMPT = re.compile(r"tf_backend\.lock\.id=([\w-]{1,64}) .*tf_backend\.operation=Lock\b")
_REFUSED = (404, 409, 412)


@dataclass(frozen=True)
class StateLock:
    """A lock that somebody has. key, etag: the object that it is."""

    id: str
    operation: str
    who: str
    created: str
    key: str
    etag: str

    def lines(self) -> list[str]:
        """Return the facts, one a line."""
        facts = {
            "ID": self.id,
            "Operation": self.operation,
            "Who": self.who,
            "Created": self.created,
        }
        return [f"{name}: {value}" for name, value in facts.items() if value]


def state_key(folder: str, workspace: str) -> str:
    """Return where the S3 backend keeps the state of a folder of terraform/ and a workspace."""
    key = f"{folder}/terraform.tfstate"
    return key if workspace == "default" else f"env:/{workspace}/{key}"


def attempts(log: Path) -> list[str]:
    """Return the ids of the locks that the Terraforms of this log asked for."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return _ATTEMPT.findall(file.read(LOG_LIMIT_BYTES))
    except OSError:
        return []


def read(s3: BaseClient, bucket: str, state: str) -> StateLock | None:
    """Return the lock on a state, or None."""
    key = f"{state}.tflock"
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as err:
        if err.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket"):
            return None
        raise
    try:
        content = dict(json.loads(answer["Body"].read(1 << 16)))
    except (ValueError, TypeError, RecursionError):
        content = {}
    facts = (_line(content.get(name)) for name in ("ID", "Operation", "Who", "Created"))
    id, *rest = facts
    return StateLock(id or answer["ETag"].strip('"'), *rest, key=key, etag=answer["ETag"])


def remove(s3: BaseClient, bucket: str, lock: StateLock) -> bool:
    """Remove exactly this lock; False when it is another one by now, or gone."""
    try:
        s3.delete_object(Bucket=bucket, Key=lock.key, IfMatch=lock.etag)
    except ClientError as err:
        if err.response["ResponseMetadata"]["HTTPStatusCode"] in _REFUSED:
            return False
        raise
    return True


def _line(value: object) -> str:
    """Return a fact of an object that anybody may have written, as a short printable text."""
    text = value if isinstance(value, str) else ""
    return "".join(char for char in text if char.isprintable())[:200]
