"""The three actions our workflows use, reimplemented by name without running their code."""

from __future__ import annotations

import base64
import glob
import io
import os
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as Tree
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daybook_sandbox.github.runner.link import Link

if TYPE_CHECKING:
    from daybook_sandbox.github.runner.job import JobExecution

Inputs = Mapping[str, str]
STS = "{https://sts.amazonaws.com/doc/2011-06-15/}"
SESSION_S = "3600"
CONFIG = ("GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0")


class ActionFailed(Exception):
    """An action failed."""


def checkout(job: JobExecution, inputs: Inputs, env: dict[str, str]) -> None:
    """Check out the commit with git, or from an archive if git is missing."""
    github = job.contexts["github"]
    folder = Path(github["workspace"], inputs.get("path", ""))
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    ref = inputs.get("ref") or github["sha"]
    job.report.line(f"Syncing repository: {github['repository']}")
    if not shutil.which("git", path=env["PATH"]):
        job.report.line("Git is not installed: downloading an archive from the REST API.")
        link = Link(github["api_url"], github["token"])
        content = link.raw("GET", f"/repos/{github['repository']}/tarball/{ref}")
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(folder, members=_without_root(tar), filter="data")
        return
    login = base64.b64encode(f"x-access-token:{github['token']}".encode()).decode()
    header = f"AUTHORIZATION: basic {login}"
    # In the environment, because all users of the machine can read command lines.
    secret = dict(zip(CONFIG, ("1", "http.extraheader", header), strict=True))
    depth = inputs.get("fetch-depth", "1")
    options = ["--no-tags", f"--depth={depth}"] if depth != "0" else ["--tags"]
    remote = f"{github['server_url']}/{github['repository']}"
    for arguments in (
        ["init", "--quiet", "--initial-branch=main", "."],
        ["remote", "add", "origin", remote],
        ["fetch", "--quiet", *options, "origin", ref],
        ["checkout", "--quiet", "--force", *_head(github, inputs), "FETCH_HEAD"],
    ):
        if job.process(["git", *arguments], folder, env | secret):
            raise ActionFailed(f"git {arguments[0]} failed")
    if inputs.get("persist-credentials", "true") == "true":
        with (folder / ".git/config").open("a") as config:
            config.write(f'[http]\n\textraheader = "{header}"\n')
        job.add_cleanup(lambda: _forget(folder / ".git/config", header))


def configure_aws_credentials(job: JobExecution, inputs: Inputs, env: dict[str, str]) -> None:
    """Exchange GitHub's OIDC token for temporary credentials of a role."""
    if "ACTIONS_ID_TOKEN_REQUEST_URL" not in env:
        raise ActionFailed(
            "It looks like you might be trying to authenticate with OIDC. Did you mean to set the "
            "`id-token` permission?"
        )
    audience = inputs.get("audience", "sts.amazonaws.com")
    query = urllib.parse.urlencode({"audience": audience})
    link = Link(env["ACTIONS_ID_TOKEN_REQUEST_URL"], env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
    token = link.ask("GET", f"&{query}")["value"]
    job.report.mask(token)
    credentials = _assume(token, inputs, env)
    for name in ("SecretAccessKey", "SessionToken", "AccessKeyId"):
        job.report.mask(credentials[name])
    region = inputs["aws-region"]
    job.export(
        AWS_ACCESS_KEY_ID=credentials["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=credentials["SecretAccessKey"],
        AWS_SESSION_TOKEN=credentials["SessionToken"],
        AWS_REGION=region,
        AWS_DEFAULT_REGION=region,
    )
    job.report.line(f"Authenticated as {inputs['role-to-assume']}")


def upload_artifact(job: JobExecution, inputs: Inputs, env: dict[str, str]) -> None:
    """Upload files as an artifact of the run."""
    workspace = Path(job.contexts["github"]["workspace"])
    files = _selected_files(workspace, inputs)
    name = inputs.get("name", "artifact")
    if not files:
        message = f"No files were found with the provided path: {inputs['path']}."
        if inputs.get("if-no-files-found", "warn") == "error":
            raise ActionFailed(message)
        job.report.line(f"Warning: {message} No artifacts will be uploaded.")
        return
    root = Path(os.path.commonpath([_base(workspace, line) for line in _included_patterns(inputs)]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(root))
    job.report.upload(name, buffer.getvalue())
    job.report.line(f"Artifact {name} has been uploaded: {len(files)} files")
    github = job.contexts["github"]
    run = f"{github['server_url']}/{github['repository']}/actions/runs/{github['run_id']}"
    job.set_outputs({"artifact-url": f"{run}/artifacts/{name}"})


ACTIONS: Mapping[str, Callable[[JobExecution, Inputs, dict[str, str]], None]] = {
    "actions/checkout": checkout,
    "actions/upload-artifact": upload_artifact,
    "aws-actions/configure-aws-credentials": configure_aws_credentials,
}


def _head(github: Mapping[str, str], inputs: Inputs) -> list[str]:
    """Return the checkout's head: a local branch for a branch, detached for any other ref."""
    is_branch = github["ref"].startswith("refs/heads/") and not inputs.get("ref")
    return ["-B", github["ref_name"]] if is_branch else ["--detach"]


def _forget(config: Path, secret: str) -> None:
    if config.exists():
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if secret not in line))


def _without_root(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Return the members of the archive's top folder, with paths relative to it."""
    members = []
    for member in tar.getmembers():
        member.name = member.name.partition("/")[2]
        members += [member] if member.name else []
    return members


def _assume(token: str, inputs: Inputs, env: Mapping[str, str]) -> dict[str, str]:
    region = inputs["aws-region"]
    endpoint = env.get("AWS_ENDPOINT_URL") or f"https://sts.{region}.amazonaws.com"
    parameters = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": inputs["role-to-assume"],
        "RoleSessionName": inputs.get("role-session-name", "GitHubActions"),
        "DurationSeconds": inputs.get("role-duration-seconds", SESSION_S),
        "WebIdentityToken": token,
    }
    request = urllib.request.Request(endpoint, urllib.parse.urlencode(parameters).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            credentials = Tree.fromstring(response.read()).find(f".//{STS}Credentials")
    except urllib.error.HTTPError as error:
        raise ActionFailed(
            f"Could not assume role with OIDC: {_message(error.read().decode())}"
        ) from error
    except OSError as error:
        raise ActionFailed(f"Could not assume role with OIDC: {error}") from error
    return {element.tag.removeprefix(STS): element.text for element in credentials}


def _message(answer: str) -> str:
    try:
        elements = Tree.fromstring(answer).iter()
    except Tree.ParseError:
        return answer
    return next((item.text or "" for item in elements if item.tag.endswith("Message")), answer)


def _selected_files(workspace: Path, inputs: Inputs) -> list[Path]:
    """Return the files that match the patterns and no pattern with !."""
    lines = [line.strip() for line in inputs["path"].splitlines()]
    excluded = {f for line in lines if line[:1] == "!" for f in _files(workspace, line[1:])}
    files = (f for line in _included_patterns(inputs) for f in _files(workspace, line))
    includes_hidden = inputs.get("include-hidden-files") == "true"
    return [
        file
        for file in files
        if file not in excluded and (includes_hidden or not _is_hidden(workspace, file))
    ]


def _included_patterns(inputs: Inputs) -> list[str]:
    lines = [line.strip() for line in inputs["path"].splitlines()]
    return [line for line in lines if line and line[:1] != "!"]


def _base(workspace: Path, pattern: str) -> Path:
    """Return the folder that artifact paths are relative to: the pattern up to its first *."""
    plain = workspace / pattern.partition("*")[0]
    return plain if plain.is_dir() else plain.parent


def _is_hidden(workspace: Path, file: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(workspace).parts)


def _files(workspace: Path, pattern: str) -> list[Path]:
    matches = map(Path, glob.glob(str(workspace / pattern), recursive=True) if pattern else ())
    paths = (p for match in matches for p in ([match] if match.is_file() else match.rglob("*")))
    return [path for path in paths if path.is_file()]
