"""Reviewed code: what an environment requires of the commit that a step runs from.

A checkout cannot vouch for itself. So bootstrap notes in the account which repository is reviewed
and which environments require it, and that note decides, not the settings of the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from daybook import aws, git
from daybook.errors import PreflightFailed
from daybook.settings import Settings
from daybook.target import Target, ssh_key

PUSHED, ANY = "pushed", "any"
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Note:
    """What the account knows: the reviewed repository, and what each environment requires."""

    remote: str = ""
    require_git: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Review:
    """The requirement of one environment. is_account: of a step that changes what all share.

    code: where the library was imported from.
    """

    root: Path
    env: str
    settings: Settings
    target: Target
    is_account: bool = False
    code: Path = Path(__file__).parent

    @cached_property
    def is_required(self) -> bool:
        """Tell whether the settings or the account require a reviewed commit."""
        noted = self.note.require_git
        strictest = noted.values() if self.is_account else [noted.get(self.env, ANY)]
        return PUSHED in (self.settings.git, *strictest)

    @cached_property
    def note(self) -> Note:
        """Return what bootstrap has noted in the account."""
        return noted(self.target, self.settings.app)

    @cached_property
    def commit(self) -> git.Commit:
        """Return the reviewed commit that is checked out; PreflightFailed when it is not one."""
        own = git.head(self.root)
        tip = git.tip(self._remote(), self.root, key=ssh_key(self.settings, self.target))
        try:
            if git.leads_to(self.root, tip.id, own):
                return git.Commit(own, tip.branch)
        except git.Unreadable as err:
            raise PreflightFailed(
                "This clone does not have the reviewed branch.",
                observed=str(err),
                next="git fetch --unshallow, or git fetch",
            ) from err
        raise PreflightFailed(
            "This commit is not in the reviewed branch.",
            expected=f"{tip.id[:12]}, or an ancestor of it",
            observed=own[:12] or "no commit",
            next=f"have it merged into {tip.branch or 'the default branch'}, then git pull",
        )

    def require_same_files(self) -> None:
        """Raise PreflightFailed unless the files are exactly those of the commit checked out."""
        commit = git.head(self.root)
        if changed := files_changed(self.root, commit):
            raise PreflightFailed(
                "The files are not those of the commit.",
                details=changed[:20],
                expected=commit[:12] or "a commit",
                observed=f"{len(changed)} changed",
                next="commit, stash or remove them, then run this step again",
            )
        if not self.code.is_relative_to(self.root / "lib"):
            raise PreflightFailed(
                "Daybook's own code is not that of the commit.",
                expected=str(self.root / "lib"),
                observed=str(self.code.parent),
                next="make setup in this checkout, and run the daybook that it installs",
            )

    def _remote(self) -> str:
        """Return the URL that the account has; bootstrap may be the first to note it."""
        if self.note.remote or not self.is_account:
            if not self.note.remote:
                raise PreflightFailed(
                    "The account does not say which repository is reviewed.",
                    next=f"daybook run bootstrap -p env {self.env}",
                )
            return self.note.remote
        return remote(self.settings, self.target)


def files_changed(root: Path, commit: str) -> list[str]:
    """Return where the files at root differ from a commit, or why that cannot be told."""
    try:
        return git.differences(root, commit)
    except git.Unreadable as err:
        return [f"unreadable: {err}"]


def remote(chosen: Settings, target: Target) -> str:
    """Return the URL of the reviewed repository as the settings have it; "" where they have none.

    A rehearsal's GitHub is the sandbox's.
    """
    if chosen.git_remote or not chosen.github.repository:
        return chosen.git_remote
    server = target.environ.get("GITHUB_SERVER_URL", GITHUB) if target.is_sandbox else GITHUB
    return f"{server.rstrip('/')}/{chosen.github.own_path}.git"


def parameter(app: str) -> str:
    """Return where the note is: beside the environments, where no host or workflow may write."""
    return f"/{app}/account/review"


def noted(target: Target, app: str) -> Note:
    """Return what bootstrap has noted; an empty note where there is none yet."""
    ssm = aws.client(target, "ssm")
    try:
        value = ssm.get_parameter(Name=parameter(app))["Parameter"]["Value"]
        said = json.loads(value)
        return Note(str(said["remote"]), {str(k): str(v) for k, v in said["require_git"].items()})
    except ssm.exceptions.ParameterNotFound:
        return Note()
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise PreflightFailed(
            "The account's note about reviews is damaged.",
            expected=f"JSON as bootstrap writes it, in {parameter(app)}",
            next="find out who changed it, then run bootstrap",
        ) from err
