"""Review requirements of an environment: the state of the checkout and the number of approvals.

A checkout cannot vouch for itself. So bootstrap stores a note in the account with the reviewed
repository and the requirements of each environment. The strictest of three sources applies: that
note, the current tip of the reviewed branch on its server, and the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from daybook import aws, git, settings, signers
from daybook.environment import Environment
from daybook.errors import PreflightFailed, SettingsError
from daybook.settings import Settings
from daybook.target import Target

PUSHED, CLEAN, ANY = "pushed", "clean", "any"
STRICTEST = (PUSHED, CLEAN, ANY)
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Requirement:
    """The requirements for a change: the state of its commit, and the number of approvals."""

    git: str = ANY
    approvals: int = 0

    @classmethod
    def strictest(cls, *requirements: Requirement) -> Requirement:
        """Return the strictest combination of the requirements."""
        states = {requirement.git for requirement in requirements}
        git = next((state for state in STRICTEST if state in states), ANY)
        approvals = max((requirement.approvals for requirement in requirements), default=0)
        return cls(git, approvals)


@dataclass(frozen=True)
class Note:
    """The note in the account: the reviewed repository, and the requirement of each environment.

    is_complete: False for a note from an older bootstrap, which has no approvals.
    """

    remote: str = ""
    requires: Mapping[str, Requirement] = field(default_factory=dict)
    is_complete: bool = True


@dataclass(frozen=True)
class Review:
    """The review of one environment. is_account: the step changes resources that all share.

    code: the folder that the library was imported from. is_overridden: the operator gave a reason
    for an unreviewed commit; this excuses the code, but not missing approvals.
    """

    environment: Environment
    is_account: bool = False
    code: Path = Path(__file__).parent
    is_overridden: bool = False

    @property
    def is_required(self) -> bool:
        """Tell whether the settings or the account require a reviewed commit."""
        return self.git_required == PUSHED

    @cached_property
    def git_required(self) -> str:
        """Return the required state of the checkout, by the settings and the account."""
        return Requirement.strictest(
            *map(_requirement, self.own_settings.values()), *self._noted_requirements()
        ).git

    @property
    def approvals(self) -> int:
        """Return the number of people besides the operator who must approve."""
        reviewed = map(_requirement, self._reviewed.values())
        own = map(_requirement, self.own_settings.values())
        return Requirement.strictest(*own, *self._noted_requirements(), *reviewed).approvals

    @cached_property
    def own_settings(self) -> Mapping[str, Settings]:
        """Return the settings used by the run, for each environment that it may change."""
        if self.is_account:
            return self.environment.of_account
        return {self.environment.name: self.environment.settings}

    @cached_property
    def to_note(self) -> Mapping[str, Requirement]:
        """Return the requirements for bootstrap's note, at least those of the reviewed branch."""
        reviewed = {env: _requirement(settings) for env, settings in self._reviewed.items()}
        return {
            env: Requirement.strictest(_requirement(settings), reviewed.get(env, Requirement()))
            for env, settings in self.own_settings.items()
        }

    @cached_property
    def note(self) -> Note:
        """Return bootstrap's note in the account; empty for a sandbox that is not running."""
        if not self.environment.target.is_up:
            return Note()
        return load_note(self.environment.target, self.environment.settings.app)

    @property
    def note_problem(self) -> str:
        """Return why the account has no requirement for the environment, or "".

        Bootstrap writes the note; before the first bootstrap there is nothing to change.
        """
        if self.is_account or not self.environment.target.is_up:
            return ""
        if not self.note.is_complete:
            return "its review note is from an older bootstrap, without approvals"
        if self.environment.name in self.note.requires:
            return ""
        if self.note != Note():
            return f"its review note does not include {self.environment.name}"
        has_state = aws.bucket_exists(self.environment.target, self.environment.state_bucket)
        return "it has a state bucket, but no review note" if has_state else ""

    @property
    def tip(self) -> git.Commit:
        """Return the current commit of the reviewed branch; PreflightFailed if it is unknown."""
        if isinstance(self._tip_or_error, PreflightFailed):
            raise self._tip_or_error
        return self._tip_or_error

    @cached_property
    def commit(self) -> git.Commit:
        """Return the commit that is checked out; PreflightFailed unless it is reviewed."""
        checked_out, tip = git.head(self.environment.root), self.tip
        try:
            if git.is_ancestor(self.environment.root, checked_out, tip.id):
                return git.Commit(checked_out, tip.branch)
        except git.Unreadable as err:
            raise PreflightFailed(
                "This clone does not contain the reviewed branch.",
                observed=str(err),
                next="git fetch --unshallow, or git fetch",
            ) from err
        raise PreflightFailed(
            "This commit is not in the reviewed branch.",
            expected=f"{tip.id[:12]}, or an ancestor of it",
            observed=checked_out[:12] or "no commit",
            next=f"have it merged into {tip.branch or 'the default branch'}, then git pull",
        )

    def refresh(self) -> None:
        """Discard cached answers from the server and the account, which may be hours old."""
        for name in ("_tip_or_error", "_reviewed", "commit", "git_required", "note", "to_note"):
            self.__dict__.pop(name, None)

    def require_same_files(self) -> None:
        """Raise PreflightFailed unless the files are exactly those of the checked-out commit.

        The settings that the run has loaded must match the commit too.
        """
        commit = git.head(self.environment.root)
        changed = files_changed(self.environment.root, commit) or list(
            self._settings_changed(commit)
        )
        if changed:
            raise PreflightFailed(
                "The files differ from the commit.",
                details=changed[:20],
                expected=commit[:12] or "a commit",
                observed=f"{len(changed)} changed",
                next="commit, stash or remove the changes, then start the step again",
            )
        if not self.code.is_relative_to(self.environment.root / "lib"):
            raise PreflightFailed(
                "Daybook's own code is not from this checkout.",
                expected=str(self.environment.root / "lib"),
                observed=str(self.code.parent),
                next="run make setup in this checkout, and use the daybook that it installs",
            )

    def signers(self) -> signers.Signers:
        """Return the accepted signers: those at the tip of the reviewed branch, if one is required.

        With an override and no answer from the server, those of the last known reviewed commit.
        """
        if not self.is_required:
            return signers.load(self.environment.root)
        try:
            text = git.read(
                self.environment.root, self._authoritative_commit, signers.FILE
            ).decode()
            return signers.parse(text, signers.FILE)
        except FileNotFoundError:
            return signers.Signers()
        except (git.Unreadable, UnicodeDecodeError) as err:
            raise _unreadable(signers.FILE, err) from err

    def store_tip(self) -> None:
        """Store the tip of the reviewed branch in the account, for an override without its server.

        Roles of workflows cannot write it, so it is as trustworthy as the note beside it. In a
        workflow, this has no effect; the next run of a person stores the commit.
        """
        if not self.is_required:
            return
        with suppress(PreflightFailed, *aws.FAILURES):
            name, newest = newest_parameter(self.environment.settings.app), self.tip.id
            if last_known(self.environment.target, self.environment.settings.app) != newest:
                ssm = aws.client(self.environment.target, "ssm")
                ssm.put_parameter(Name=name, Value=newest, Type="String", Overwrite=True)

    @property
    def remote(self) -> str:
        """Return the URL in the account's note; the first bootstrap uses the settings."""
        if self.note.remote:
            return self.note.remote
        if not self.is_account:
            raise PreflightFailed(
                "The account has no note of the reviewed repository.",
                next=f"daybook run bootstrap -p env {self.environment.name}",
            )
        return self.remote_to_note

    @property
    def remote_to_note(self) -> str:
        """Return the URL for bootstrap's note, from this environment's settings or another's."""
        remotes = (
            remote(settings, self.environment.target)
            for settings in (self.environment.settings, *self.own_settings.values())
        )
        return next(filter(None, remotes), "")

    @cached_property
    def _tip_or_error(self) -> git.Commit | PreflightFailed:
        """Return the tip from the server, or the error; cached, because each lookup takes time."""
        try:
            return git.tip(self.remote, self.environment.root, key=self.environment.ssh_key)
        except PreflightFailed as err:
            return err

    @property
    def _authoritative_commit(self) -> str:
        """Return the commit that defines signers and approvals, independent of the checkout."""
        try:
            return self.tip.id
        except PreflightFailed as err:
            last = (
                last_known(self.environment.target, self.environment.settings.app)
                if self.is_overridden
                else ""
            )
            if not last:
                raise err
            return last

    @cached_property
    def _reviewed(self) -> Mapping[str, Settings]:
        """Return the settings in the reviewed branch, for each environment that the run may change.

        {} if no review is required, or if only the account's note is available.
        """
        if not self.is_required:
            return {}
        try:
            commit = self._authoritative_commit
        except PreflightFailed:
            if not self.is_overridden:
                raise
            return {}
        try:
            return dict(self._settings_in(commit))
        except (git.Unreadable, UnicodeDecodeError, SettingsError) as err:
            raise _unreadable("environments/", err) from err

    def _settings_in(self, commit: str) -> Iterator[tuple[str, Settings]]:
        names = [self.environment.name]
        if self.is_account:
            listed = git.list_folder(self.environment.root, commit, "environments")
            names = [name.removesuffix(".yml") for name in listed if name.endswith(".yml")]
        shared = (self.environment.settings.app, self.environment.settings.account)
        for env in names:
            with suppress(FileNotFoundError):
                loaded = self._settings_of(commit, env)
                if not self.is_account or (loaded.app, loaded.account) == shared:
                    yield env, loaded

    def _settings_of(self, commit: str, env: str) -> Settings:
        text = git.read(self.environment.root, commit, f"environments/{env}.yml").decode()
        return settings.parse(text, env)

    def _settings_changed(self, commit: str) -> Iterator[str]:
        """Yield each settings file that the run has loaded and that differs from the commit."""
        for env, loaded in self.own_settings.items():
            try:
                is_same = self._settings_of(commit, env) == loaded
            except (git.Unreadable, FileNotFoundError, UnicodeDecodeError, SettingsError):
                is_same = False
            if not is_same:
                yield f"changed at the start of the run: environments/{env}.yml"

    def _noted_requirements(self) -> Iterator[Requirement]:
        """Yield the account's requirement for each environment that the run may change."""
        for env, requirement in self.note.requires.items():
            if self.is_account or env == self.environment.name:
                yield requirement


def files_changed(root: Path, commit: str) -> list[str]:
    """Return how the files at root differ from a commit, or why the commit is unreadable."""
    try:
        return git.differences(root, commit)
    except git.Unreadable as err:
        return [f"unreadable: {err}"]


def remote(settings: Settings, target: Target) -> str:
    """Return the URL of the reviewed repository according to the settings, or "".

    In a rehearsal, GitHub is the sandbox's.
    """
    if settings.git_remote or not settings.github.repository:
        return settings.git_remote
    server = target.environ.get("GITHUB_SERVER_URL", GITHUB) if target.is_sandbox else GITHUB
    return f"{server.rstrip('/')}/{settings.github.own_path}.git"


def parameter(app: str) -> str:
    """Return the parameter of the note; no host or workflow can write it."""
    return f"/{app}/account/review"


def newest_parameter(app: str) -> str:
    """Return the parameter of the newest reviewed commit that was used for a change."""
    return f"/{app}/account/reviewed"


def last_known(target: Target, app: str) -> str:
    """Return the newest reviewed commit stored in the account, or ""."""
    ssm = aws.client(target, "ssm")
    try:
        return ssm.get_parameter(Name=newest_parameter(app))["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return ""


def load_note(target: Target, app: str) -> Note:
    """Return bootstrap's note in the account; an empty note if there is none."""
    ssm = aws.client(target, "ssm")
    try:
        value = ssm.get_parameter(Name=parameter(app))["Parameter"]["Value"]
        data = json.loads(value)
        approvals = data.get("approvals", {})
        requires = {
            str(env): Requirement(str(state), int(approvals.get(env, 0)))
            for env, state in data["require_git"].items()
        }
        return Note(str(data["remote"]), requires, requires.keys() <= approvals.keys())
    except ssm.exceptions.ParameterNotFound:
        return Note()
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise PreflightFailed(
            "The account's review note is invalid.",
            expected=f"JSON as written by bootstrap, in {parameter(app)}",
            next="find out who changed it, then run bootstrap",
        ) from err


def _requirement(settings: Settings) -> Requirement:
    return Requirement(settings.require_git, settings.approvals)


def _unreadable(path: str, err: Exception) -> PreflightFailed:
    return PreflightFailed(
        f"{path} in the reviewed branch is unreadable.",
        observed=str(err).splitlines()[0],
        next="git pull (or git fetch), then run this step again",
    )
