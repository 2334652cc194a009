"""Upload closed records to the account's bucket, which is versioned and locked."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from daybook import private_files
from daybook.errors import VerifyFailed
from daybook.record import seal

_MARKS = ".pushed"


@dataclass(frozen=True)
class Pushed:
    """The result of an upload. failed: the reason by run; the next upload tries again."""

    done: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def pending(root: Path, bucket: str, account: str, environment: str = "*") -> Iterator[Path]:
    """Yield the closed records of an account that are not in its bucket yet, oldest first.

    The account of a rehearsal is the sandbox's, so its record is never uploaded to AWS.
    """
    for folder in sorted(seal.runs_of(root, environment)):
        if not _mark(folder, bucket).exists():
            with suppress(VerifyFailed):  # `runs verify` reports broken records.
                record = seal.load(folder)
                if record and record["account"] == account:
                    yield folder


def push_pending(root: Path, bucket: str, s3: Any, account: str, environment: str = "*") -> Pushed:
    """Upload all pending records; stop at the first failure, which is returned, not raised.

    s3: a boto3 client.
    """
    done: list[str] = []
    for folder in pending(root, bucket, account, environment):
        try:
            push(folder, bucket, s3)
        except (BotoCoreError, ClientError, OSError) as err:
            return Pushed(tuple(done), {folder.name: str(err)})
        done.append(folder.name)
    return Pushed(tuple(done))


def push(folder: Path, bucket: str, s3: Any) -> None:
    """Upload one closed record, record.json last: if it exists, the record is complete."""
    last = [folder / seal.SIGNATURE, folder / seal.NAME]
    for path in [*seal.files_of(folder), *(path for path in last if path.exists())]:
        key = path.relative_to(folder.parent.parent).as_posix()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with path.open("rb") as body:
            s3.put_object(
                Bucket=bucket, Key=key, Body=body, ContentType=kind, ChecksumAlgorithm="SHA256"
            )
    mark = _mark(folder, bucket)
    private_files.make_folder(mark.parent)
    mark.touch(0o600)


def _mark(folder: Path, bucket: str) -> Path:
    return folder.parent.parent / _MARKS / bucket / f"{folder.parent.name}--{folder.name}"
