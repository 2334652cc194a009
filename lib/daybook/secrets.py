"""An environment's secrets: their values are in SSM Parameter Store, under `/<app>/<env>/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from daybook import aws
from daybook.aws import errors
from daybook.environment import Environment
from daybook.errors import CommandFailed, SettingsError
from daybook_release import names

LIMIT_BYTES = 4096
"""What the standard tier holds:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
"""
RETIRED = "retired"
_NOBODY = ("", "N/A")


@dataclass(frozen=True)
class Version:
    """One value that was set, and everything about it but the value.

    arn: who AWS says it was. note: who Daybook says it was, and in which run.
    is_retired: a rotation has put another in its place everywhere.
    """

    name: str
    number: int
    changed: datetime
    arn: str = ""
    note: str = ""
    is_retired: bool = False

    @property
    def who(self) -> str:
        """Return who set it, as far as it is known."""
        said = [*self.note.split("; "), self.arn]
        return "\n".join(word for word in said if word) or "unknown"


class Store:
    """The values of one environment's secrets."""

    def __init__(self, environment: Environment) -> None:
        self.path = f"/{environment.settings.app}/{environment.name}"
        self._tags = environment.tags
        self._target = environment.target
        self._ssm = environment.client("ssm")

    def current(self) -> dict[str, Version]:
        """Return what has a value: `{"DATABASE_URL": Version(…)}`."""
        wanted = [{"Key": "Path", "Option": "OneLevel", "Values": [self.path]}]
        with self._asking("DescribeParameters", self.path):
            pages = self._ssm.get_paginator("describe_parameters").paginate(ParameterFilters=wanted)
            found = [self._version(each) for page in pages for each in page["Parameters"]]
        return {version.name: version for version in sorted(found, key=lambda each: each.name)}

    def history(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a secret, the newest first; none when it has no value."""
        with self._asking("GetParameterHistory", self._full(name)):
            pages = self._ssm.get_paginator("get_parameter_history").paginate(Name=self._full(name))
            try:
                found = [self._version(each) for page in pages for each in page["Parameters"]]
            except self._ssm.exceptions.ParameterNotFound:
                return ()
        return tuple(sorted(found, key=lambda each: -each.number))

    def values(self) -> dict[str, str]:
        """Return the values themselves: to be compared, never to be shown or kept."""
        with self._asking("GetParametersByPath", self.path):
            pages = self._ssm.get_paginator("get_parameters_by_path").paginate(
                Path=self.path, WithDecryption=True
            )
            return {
                self._short(each["Name"]): each["Value"]
                for page in pages
                for each in page["Parameters"]
            }

    def holds(self, name: str, value: str) -> bool:
        """Tell whether this is the value already; False also to who may write but not read it."""
        with self._asking("GetParameter", self._full(name)):
            try:
                answer = self._ssm.get_parameter(Name=self._full(name), WithDecryption=True)
            except ClientError as err:
                if _code(err) in ("ParameterNotFound", "AccessDeniedException"):
                    return False
                raise
        return answer["Parameter"]["Value"] == value

    def put(self, name: str, value: str, note: str) -> int:
        """Set a value and return the number of its version. note: who did it, and in which run."""
        if problem := names.problem_of(name):
            raise SettingsError("A secret has a name that it may not have.", details=[problem])
        with self._asking("PutParameter", self._full(name)):
            answer = self._ssm.put_parameter(
                Name=self._full(name),
                Value=value,
                Type="SecureString",
                Tier="Standard",
                Overwrite=True,
                Description=note[:1024],
            )
            number = answer["Version"]
        if number == 1:
            is_set = f"{name} was set; its tags were not."
            with self._asking("AddTagsToResource", self._full(name), changed=is_set):
                self._tag(name)
        return number

    def retire(self, name: str, number: int) -> None:
        """Mark a version as one that nothing uses any more; its value stays in the history."""
        # A label is one version's alone, and begins with a letter.
        label = f"{RETIRED}-{number}"
        with self._asking("LabelParameterVersion", self._full(name)):
            self._ssm.label_parameter_version(
                Name=self._full(name), ParameterVersion=number, Labels=[label]
            )

    def delete(self, name: str) -> bool:
        """Remove a value and its history; False when there is none."""
        with self._asking("DeleteParameter", self._full(name)):
            try:
                self._ssm.delete_parameter(Name=self._full(name))
            except self._ssm.exceptions.ParameterNotFound:
                return False
        return True

    def _tag(self, name: str) -> None:
        """PutParameter takes tags only where it may not overwrite."""
        tags = [{"Key": key, "Value": value} for key, value in self._tags.items()]
        self._ssm.add_tags_to_resource(
            ResourceType="Parameter", ResourceId=self._full(name), Tags=tags
        )

    @contextmanager
    def _asking(self, call: str, what: str, changed: str = "") -> Iterator[None]:
        """Turn AWS's refusal into its code alone: its message may repeat the value."""
        try:
            yield
        except aws.FAILURES as err:
            failure = errors.failure(err, f"ssm:{call}", self._target)
            raise CommandFailed(
                f"{failure.message.removesuffix('.')} on {what}.",
                expected=failure.expected,
                observed=_code(err),
                changed=changed or failure.changed,
                next=failure.next,
            ) from None

    def _full(self, name: str) -> str:
        if not names.FORM.fullmatch(name):
            raise SettingsError(
                f"{ascii(name)[:80]} is not the name of a secret.",
                expected="A to Z, 0 to 9 and _, such as DATABASE_URL",
                next="daybook secrets list -e ENV",
            )
        return f"{self.path}/{name}"

    def _short(self, full: str) -> str:
        return full.removeprefix(f"{self.path}/")

    def _version(self, found: Mapping[str, Any]) -> Version:
        arn = found.get("LastModifiedUser", "")
        return Version(
            name=self._short(found["Name"]),
            number=found["Version"],
            changed=found["LastModifiedDate"],
            arn="" if arn in _NOBODY else arn,
            note=found.get("Description", ""),
            is_retired=f"{RETIRED}-{found['Version']}" in found.get("Labels", ()),
        )


def problem_of(value: str) -> str | None:
    """Return why a value cannot be kept, without saying it; None when it can."""
    size = len(value.encode())
    if not value.strip():
        return "is empty"
    if "\0" in value:
        return "holds a NUL character, which no environment variable can"
    if size > LIMIT_BYTES:
        return f"has {size} bytes, and Parameter Store keeps {LIMIT_BYTES}"
    return None


def _code(err: Exception) -> str:
    return err.response["Error"]["Code"] if isinstance(err, ClientError) else type(err).__name__
