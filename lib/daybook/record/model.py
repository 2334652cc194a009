"""The fields of a record and of a journal's entries, as pydantic models.

The models validate JSON when it is read; the code then works on the JSON itself. No model is ever
serialized, so the bytes of a record, which are hashed and signed, do not depend on pydantic. Keys
that a model does not name are allowed.

`python -m daybook.record.model` prints the JSON schema of record.json. It describes the records
that Daybook writes; reading is more lenient: it also accepts an unknown status or an empty account.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

SCHEMA = "daybook-record/1"
MAX_DEPTH = 100
"""Maximum nesting of lists and objects."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_RUN = re.compile(r"[^/\x00]{1,255}")
_OPENING_BRACKETS = re.compile(rb"[\[{]")
_STATUSES = ("waiting", "succeeded", "failed", "interrupted")


def _require_time(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError("not a time")
    datetime.fromisoformat(value)
    return value


def _require_time_or_nothing(value: str) -> str:
    return _require_time(value) if value else value


def _require_run(value: str) -> str:
    if not _RUN.fullmatch(value) or value in (".", ".."):
        raise ValueError("not the name of a run's folder")
    return value


def _published(**schema: Any) -> Any:
    """Add to the published schema what reading does not enforce."""
    return Field(json_schema_extra=schema)


Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Number = Annotated[float, Field(gt=-1e15, lt=1e15)]
"""Can be rounded and shown: neither NaN nor infinite."""
Text = Annotated[str | None, WithJsonSchema({"type": "string"})]
_WRITTEN_TIME = _published(pattern=f"^{_TIME.pattern}$")
Time = Annotated[str, AfterValidator(_require_time), _WRITTEN_TIME]
"""A time in the format of `journal.now`."""
TimeOrNothing = Annotated[str, AfterValidator(_require_time_or_nothing), _WRITTEN_TIME]
RunId = Annotated[str, AfterValidator(_require_run)]
Sha256 = Annotated[str, _published(pattern="^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A JSON object. The published schema requires all its fields unless it lists others."""

    model_config = ConfigDict(
        strict=True, extra="ignore", json_schema_serialization_defaults_required=True
    )


class Operator(Part):
    model_config = ConfigDict(json_schema_extra={"required": ["user", "name", "email"]})

    user: Text = Field(None, description="The user of the operating system.")
    name: Text = None
    email: Text = None
    sudo_user: Text = None
    key: Annotated[str | None, WithJsonSchema({"type": "string", "pattern": "^SHA256:"})] = Field(
        None, description="The fingerprint of the SSH key."
    )


class Computer(Part):
    name: str = ""
    system: Annotated[Any, WithJsonSchema({"type": "string"})] = ""


class Git(Part):
    commit: str = ""
    branch: str = ""
    dirty: list[str] = []


class Origin(Part):
    """The facts of a run that come from its journal's header; the defaults are for an empty one."""

    run: str = Field(
        "", description="The run's id and its folder: 20261123T184500Z-provision-3fa9c2."
    )
    step: str = ""
    environment: str = ""
    target: Annotated[str, _published(enum=["sandbox", "aws"])] = Field(
        "", description="sandbox: a rehearsal, without access to AWS."
    )
    account: Annotated[str, _published(pattern="^[0-9]{12}$")] = Field(
        "", description="The AWS account; the sandbox has one too."
    )
    region: str = ""
    caller_arn: str | None = Field(None, description="The AWS identity of the run, if known.")
    operator: Operator = Field(default_factory=dict)
    host: Computer = Field(default_factory=dict)
    ci: str | None = Field(None, description="The URL of the CI job.")
    git: Git = Field(default_factory=dict)
    parameters: dict = Field(default_factory=dict)


class Template(Part):
    """The notebook that was run."""

    path: str | None
    sha256: str | None


class RecordedPlan(Part):
    model_config = ConfigDict(json_schema_extra={"required": ["digest"]})

    digest: str
    changes: Annotated[list | None, WithJsonSchema({})] = None


class RecordedApproval(Part):
    digest: str
    how: str


class TimedApproval(RecordedApproval):
    time: Time


class Check(Part):
    model_config = ConfigDict(
        json_schema_extra={"required": ["name", "expected", "observed", "is_ok"]}
    )

    name: str
    expected: str = ""
    observed: str
    is_ok: bool | None = Field(None, description="null: the check could not run.")
    fix: Annotated[Any, WithJsonSchema({"type": "string"})] = ""


class RecordedChange(Part):
    model_config = ConfigDict(json_schema_extra={"required": []})

    time: Annotated[Any, _WRITTEN_TIME] = ""
    tool: Any = None
    action: str | None = None
    subject: str | None = Field(None, alias="what", description="The changed resource or task.")
    address: str | None = None
    host: Any = None
    detail: Any = None


class Phase(Part):
    name: str
    state: Annotated[str, _published(enum=["ended", "failed", "waiting", "cut"])]
    start: Time
    offset: Number
    seconds: Number | None


class Execution(Part):
    """One execution of a cell."""

    cell: int
    sha256: Sha256
    start: Time
    status: Annotated[str, _published(enum=["ok", "error", "cut", "left"])]
    seconds: Number | None


class Tool(Part):
    """One external command."""

    args: list[str]
    log: str | None
    returncode: int | None
    seconds: Number | None


class Error(Part):
    cell: int
    ename: str
    evalue: str


class File(Part):
    sha256: Sha256
    bytes: int


class Link(Part):
    """A closed record, by its run and the hash of its record.json."""

    run: RunId
    sha256: Sha256


class Summary(Origin):
    """All that a journal says of a run; summary.py builds it."""

    record_schema: Annotated[str, _published(const=SCHEMA)] = Field(alias="schema")
    template: Template
    versions: dict = Field(description="Versions of Python, packages, tools and providers.")
    plan: RecordedPlan | None = Field(description="The last plan.")
    approvals: list[TimedApproval]
    checks: list[Check]
    changes: list[RecordedChange] = Field(description="Changed resources and tasks.")
    outputs: dict
    phases: list[Phase]
    cells: list[Execution] = Field(description="Every execution of a cell, in order.")
    tools: list[Tool]
    error: Error | None
    start: TimeOrNothing
    end: TimeOrNothing
    seconds: Number
    status: Annotated[str, _published(enum=list(_STATUSES))]
    reason: str = Field(description="Why the run ended, unless the notebook itself ended it.")
    redacted: Annotated[
        dict, WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}})
    ] = Field(description="The number of secrets that the last scan redacted, by file.")

    @model_validator(mode="after")
    def _require_origin(self) -> Self:
        if missing := Origin.model_fields.keys() - self.model_fields_set:
            raise ValueError(f"missing: {', '.join(sorted(missing))}")
        return self


class Record(Summary):
    """record.json of a closed run: by whom, where, the outcome, and the hash of every file."""

    model_config = ConfigDict(
        title="A Daybook record", json_schema_extra={"additionalProperties": False}
    )

    files: dict[str, File] = Field(description="Every other file of the record.")
    previous: Link | None = Field(
        description="The record that was closed before this one in the same environment."
    )
    signed: bool = Field(False, description="Whether a signature belongs to this record.")


class Head(Link):
    """The newest record of an environment, in .head.json."""

    previous: Link | None = None


class _NotebookMetadata(Part):
    tags: list[str] = []


class _NotebookCell(Part):
    cell_type: str
    source: str | list[str] = ""
    id: str = ""
    metadata: _NotebookMetadata = Field(default_factory=dict)


class Notebook(Part):
    cells: list[_NotebookCell]
    metadata: dict = {}


class Entry(Part):
    """A line of the journal; one of an unknown kind may have any other content."""

    seq: Count
    time: Time
    kind: str


class _Settings(Part):
    sha256: str = ""


class _Kernel(Part):
    pid: Count
    started: Number
    host: str = ""


class _TemplateCell(Part):
    place: Count
    id: str
    sha256: str


class _HeaderTemplate(Part):
    path: str | None = None
    sha256: str | None = None
    cells: list[_TemplateCell] = []


class _Header(Entry, Origin):
    versions: dict = {}
    settings: _Settings = Field(default_factory=dict)
    kernel: _Kernel = Field(default_factory=dict)
    template: _HeaderTemplate = Field(default_factory=dict)


class _PhaseEntry(Entry):
    name: str
    state: str


class _CheckEntry(Entry, Check):
    """One check."""


class _ChecksEntry(Entry):
    """All checks of a phase."""

    checks: list[Check]


class _PlanEntry(Entry, RecordedPlan):
    pass


class _ApprovalEntry(Entry, RecordedApproval):
    pass


class _ChangeEntry(Entry):
    action: str | None = None
    subject: str | None = Field(None, alias="what")
    address: str | None = None


class _ValuesEntry(Entry):
    values: dict = {}


class _CellStart(Entry):
    cell: Count
    source: str
    sha256: str
    cell_id: str = ""


class _ErrorFacts(Part):
    ename: str = ""
    evalue: str = ""


class _CellEnd(Entry, _ErrorFacts):
    cell: Count
    status: str
    seconds: Number | None = None
    traceback: str = ""


class _ToolStart(Entry):
    number: Count
    args: list[str] = []
    log: str | None = None


class _ToolEnd(Entry):
    number: Count
    returncode: int | None = None
    seconds: Number | None = None


class _StatusEntry(Entry):
    status: str


class _Note(Entry):
    subject: str = Field("", alias="what")


class _RedactedNote(_Note):
    files: dict


class _End(Entry):
    status: str
    reason: str = ""


class _OutputEntry(Entry):
    """An output of an unknown type may have any other content."""

    cell: Count
    type: str


class _Stream(_OutputEntry):
    name: str
    text: str


class _Display(_OutputEntry):
    data: dict
    metadata: dict = {}
    display_id: str = ""


class _ErrorOutput(_OutputEntry, _ErrorFacts):
    traceback: list[str] = []


class _Attachment(_OutputEntry):
    file: str
    bytes: Count = 0
    lost_bytes: Count = 0


_ENTRIES: dict[str, type[Entry]] = {
    "header": _Header,
    "phase": _PhaseEntry,
    "plan": _PlanEntry,
    "approval": _ApprovalEntry,
    "change": _ChangeEntry,
    "outputs": _ValuesEntry,
    "versions": _ValuesEntry,
    "cell_start": _CellStart,
    "cell_end": _CellEnd,
    "tool_start": _ToolStart,
    "tool_end": _ToolEnd,
    "status": _StatusEntry,
    "note": _Note,
    "end": _End,
}
_OUTPUTS: dict[str, type[Entry]] = {
    "stream": _Stream,
    "display_data": _Display,
    "execute_result": _Display,
    "update_display_data": _Display,
    "error": _ErrorOutput,
    "attachment": _Attachment,
}


def is_valid(value: object, model: type[Part]) -> bool:
    """Tell whether decoded JSON has the shape of a model."""
    return model.__pydantic_validator__.isinstance_python(value)


def is_entry(value: object) -> bool:
    """Tell whether decoded JSON is an entry of a journal."""
    return isinstance(value, dict) and is_valid(value, _entry_model(value))


def _entry_model(entry: dict[str, Any]) -> type[Entry]:
    match entry.get("kind"):
        case "check":
            return _ChecksEntry if "checks" in entry else _CheckEntry
        case "note" if entry.get("what") == "redacted":
            return _RedactedNote
        case "output":
            output = entry.get("type")
            return _OUTPUTS.get(output, _OutputEntry) if isinstance(output, str) else _OutputEntry
        case str(kind):
            return _ENTRIES.get(kind, Entry)
    return Entry


def decode(content: bytes) -> Any:
    """Decode JSON; ValueError for anything else, and beyond MAX_DEPTH."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if len(_OPENING_BRACKETS.findall(content)) > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise ValueError("nested too deep")
    return value


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(part, depth - 1) for part in parts)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of record.json as Daybook writes it."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | Record.model_json_schema(mode="serialization")


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
