"""An environment's secrets, stored in SSM Parameter Store under `/<app>/<env>/`."""

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
"""The maximum size in the standard tier:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
"""
RETIRED = "retired"
_UNKNOWN_USERS = ("", "N/A")


@dataclass(frozen=True)
class Version:
    """One version of a secret, without its value.

    arn: the author according to AWS. note: the author and run according to Daybook.
    is_retired: a rotation has replaced this version everywhere.
    """

    name: str
    number: int
    changed: datetime
    arn: str = ""
    note: str = ""
    is_retired: bool = False

    @property
    def author(self) -> str:
        """Return the person, the run and the ARN that set it, one per line, as far as known."""
        lines = [*self.note.split("; "), self.arn]
        return "\n".join(filter(None, lines)) or "unknown"


class Store:
    """The store of one environment's secrets."""

    def __init__(self, environment: Environment) -> None:
        self.path = f"/{environment.settings.app}/{environment.name}"
        self._tags = environment.tags
        self._target = environment.target
        self._ssm = environment.client("ssm")

    def current(self) -> dict[str, Version]:
        """Return the current version of each secret: `{"DATABASE_URL": Version(…)}`."""
        filters = [{"Key": "Path", "Option": "OneLevel", "Values": [self.path]}]
        with self._errors_as_codes("DescribeParameters", self.path):
            pages = self._ssm.get_paginator("describe_parameters").paginate(
                ParameterFilters=filters
            )
            versions = [self._version(item) for page in pages for item in page["Parameters"]]
        return {version.name: version for version in sorted(versions, key=lambda v: v.name)}

    def history(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a secret, newest first; () without a value."""
        with self._errors_as_codes("GetParameterHistory", self._full(name)):
            pages = self._ssm.get_paginator("get_parameter_history").paginate(Name=self._full(name))
            try:
                versions = [self._version(item) for page in pages for item in page["Parameters"]]
            except self._ssm.exceptions.ParameterNotFound:
                return ()
        return tuple(sorted(versions, key=lambda version: -version.number))

    def values(self) -> dict[str, str]:
        """Return the values themselves, for comparison only: never show or store them."""
        with self._errors_as_codes("GetParametersByPath", self.path):
            pages = self._ssm.get_paginator("get_parameters_by_path").paginate(
                Path=self.path, WithDecryption=True
            )
            return {
                self._short(parameter["Name"]): parameter["Value"]
                for page in pages
                for parameter in page["Parameters"]
            }

    def holds(self, name: str, value: str) -> bool:
        """Tell whether this is the current value; False also without permission to read it."""
        with self._errors_as_codes("GetParameter", self._full(name)):
            try:
                answer = self._ssm.get_parameter(Name=self._full(name), WithDecryption=True)
            except ClientError as err:
                if _code(err) in ("ParameterNotFound", "AccessDeniedException"):
                    return False
                raise
        return answer["Parameter"]["Value"] == value

    def put(self, name: str, value: str, note: str) -> int:
        """Set a value and return its version number. note: the author and the run."""
        if problem := names.problem_of(name):
            raise SettingsError("The name of a secret is invalid.", details=[problem])
        with self._errors_as_codes("PutParameter", self._full(name)):
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
            untagged = f"{name} was set, but not tagged."
            with self._errors_as_codes("AddTagsToResource", self._full(name), changed=untagged):
                self._tag(name)
        return number

    def retire(self, name: str, number: int) -> None:
        """Label a version as no longer in use; its value stays in the history."""
        # A label belongs to one version only, and must start with a letter.
        label = f"{RETIRED}-{number}"
        with self._errors_as_codes("LabelParameterVersion", self._full(name)):
            self._ssm.label_parameter_version(
                Name=self._full(name), ParameterVersion=number, Labels=[label]
            )

    def delete(self, name: str) -> bool:
        """Delete a value and its history; return False if there is none."""
        with self._errors_as_codes("DeleteParameter", self._full(name)):
            try:
                self._ssm.delete_parameter(Name=self._full(name))
            except self._ssm.exceptions.ParameterNotFound:
                return False
        return True

    def _tag(self, name: str) -> None:
        """Tag a parameter in a separate call: PutParameter with Overwrite accepts no tags."""
        tags = [{"Key": key, "Value": value} for key, value in self._tags.items()]
        self._ssm.add_tags_to_resource(
            ResourceType="Parameter", ResourceId=self._full(name), Tags=tags
        )

    @contextmanager
    def _errors_as_codes(self, call: str, parameter: str, changed: str = "") -> Iterator[None]:
        """Reduce an error from AWS to its code: the message may contain the value."""
        try:
            yield
        except aws.FAILURES as err:
            failure = errors.failure(err, f"ssm:{call}", self._target)
            raise CommandFailed(
                f"{failure.message.removesuffix('.')} on {parameter}.",
                expected=failure.expected,
                observed=_code(err),
                changed=changed or failure.changed,
                next=failure.next,
            ) from None

    def _full(self, name: str) -> str:
        if not names.FORM.fullmatch(name):
            raise SettingsError(
                f"{ascii(name)[:80]} is not a valid name of a secret.",
                expected="A to Z, 0 to 9 and _, such as DATABASE_URL",
                next="daybook secrets list -e ENV",
            )
        return f"{self.path}/{name}"

    def _short(self, full: str) -> str:
        return full.removeprefix(f"{self.path}/")

    def _version(self, parameter: Mapping[str, Any]) -> Version:
        arn = parameter.get("LastModifiedUser", "")
        return Version(
            name=self._short(parameter["Name"]),
            number=parameter["Version"],
            changed=parameter["LastModifiedDate"],
            arn="" if arn in _UNKNOWN_USERS else arn,
            note=parameter.get("Description", ""),
            is_retired=f"{RETIRED}-{parameter['Version']}" in parameter.get("Labels", ()),
        )


def problem_of(value: str) -> str | None:
    """Return why a value cannot be stored, without repeating it, or None."""
    size = len(value.encode())
    if not value.strip():
        return "is empty"
    if "\0" in value:
        return "contains a NUL character, which an environment variable cannot"
    if size > LIMIT_BYTES:
        return f"has {size} bytes; Parameter Store allows at most {LIMIT_BYTES}"
    return None


def _code(err: Exception) -> str:
    return err.response["Error"]["Code"] if isinstance(err, ClientError) else type(err).__name__
