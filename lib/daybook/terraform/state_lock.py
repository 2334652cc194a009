"""Terraform's lock on a state: its holder, and the locks that a run requested.

The S3 backend stores the lock as an object beside the state. The lock does not expire: it remains
after its Terraform process was killed. The lock id identifies the run, because Terraform logs the
id before it writes the object. `Who` does not: it is the same in every run of a user on a host.

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
"""Name of the attachment with Terraform's log of all commands, without the logs of providers."""
LOG_LIMIT_BYTES = 32 << 20
_ATTEMPT = re.compile(r"tf_backend\.lock\.id=([\w-]{1,64}) .*tf_backend\.operation=Lock\b")
_REFUSED = (404, 409, 412)


@dataclass(frozen=True)
class StateLock:
    """A held lock. key, etag: the object that stores it."""

    id: str
    operation: str
    holder: str
    created: str
    key: str
    etag: str

    def lines(self) -> list[str]:
        """Return one line per field that is set."""
        fields = {
            "ID": self.id,
            "Operation": self.operation,
            "Who": self.holder,
            "Created": self.created,
        }
        return [f"{name}: {value}" for name, value in fields.items() if value]


def state_key(folder: str, workspace: str) -> str:
    """Return the S3 key of the state of a folder in terraform/ and a workspace."""
    key = f"{folder}/terraform.tfstate"
    return key if workspace == "default" else f"env:/{workspace}/{key}"


def attempts(log: Path) -> list[str]:
    """Return the ids of all locks that the Terraform commands of this log requested."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return _ATTEMPT.findall(file.read(LOG_LIMIT_BYTES))
    except OSError:
        return []


def read(s3: BaseClient, bucket: str, state: str) -> StateLock | None:
    """Return the lock on a state, or None if it is unlocked."""
    key = f"{state}.tflock"
    try:
        stored = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as err:
        if err.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket"):
            return None
        raise
    try:
        content = dict(json.loads(stored["Body"].read(1 << 16)))
    except (ValueError, TypeError, RecursionError):
        content = {}
    fields = (_line(content.get(name)) for name in ("ID", "Operation", "Who", "Created"))
    id, *rest = fields
    return StateLock(id or stored["ETag"].strip('"'), *rest, key=key, etag=stored["ETag"])


def remove(s3: BaseClient, bucket: str, lock: StateLock) -> bool:
    """Remove exactly this lock; return False if it was released or replaced by another one."""
    try:
        s3.delete_object(Bucket=bucket, Key=lock.key, IfMatch=lock.etag)
    except ClientError as err:
        if err.response["ResponseMetadata"]["HTTPStatusCode"] in _REFUSED:
            return False
        raise
    return True


def _line(value: object) -> str:
    """Return a field of an untrusted object as short printable text."""
    text = value if isinstance(value, str) else ""
    return "".join(char for char in text if char.isprintable())[:200]
