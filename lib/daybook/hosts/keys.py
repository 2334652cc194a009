"""The hosts' SSH keys, stored beside Terraform's state: a console shows them only once."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.client import BaseClient


@dataclass(frozen=True)
class HostKeys:
    """The known_hosts file of an environment in its state bucket."""

    s3: BaseClient
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """Return the URL of the object: `s3://…`."""
        return f"s3://{self.bucket}/{self.key}"

    def read(self) -> str:
        """Return the keys in known_hosts format; "" before the first provision."""
        try:
            body = self.s3.get_object(Bucket=self.bucket, Key=self.key)["Body"]
        except (self.s3.exceptions.NoSuchKey, self.s3.exceptions.NoSuchBucket):
            return ""
        return body.read().decode(errors="replace")

    def write(self, known_hosts: str) -> None:
        """Replace the keys."""
        self.s3.put_object(Bucket=self.bucket, Key=self.key, Body=known_hosts.encode())

    def delete(self) -> None:
        """Delete the keys of destroyed hosts."""
        self.s3.delete_object(Bucket=self.bucket, Key=self.key)
