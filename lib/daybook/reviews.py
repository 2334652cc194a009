"""Reviewed code and people: what an environment requires of a change, and who decides that.

A checkout cannot vouch for itself. So bootstrap notes in the account which repository is reviewed
and what each environment requires, and the strictest of three counts: that note, the tip of the
reviewed branch as its server gives it now, and the checkout.
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
    """What an environment requires of a change: of its commit, and how many people approve it."""

    git: str = ANY
    approvals: int = 0

    @classmethod
    def strictest(cls, *each: Requirement) -> Requirement:
        """Return the most that any of them asks for."""
        wanted = {one.git for one in each}
        git = next((word for word in STRICTEST if word in wanted), ANY)
        return cls(git, max((one.approvals for one in each), default=0))


@dataclass(frozen=True)
class Note:
    """What the account knows: the reviewed repository, and what each environment requires.

    is_whole: False for one of an older bootstrap, which said nothing of approvals.
    """

    remote: str = ""
    requires: Mapping[str, Requirement] = field(default_factory=dict)
    is_whole: bool = True


@dataclass(frozen=True)
class Review:
    """The requirement of one environment. is_account: of a step that changes what all share.

    code: where the library was imported from. is_overridden: whether a reason was given for a
    commit that is not reviewed; it excuses the code, and never the people.
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
        """Return what the checkout must be, by the settings and by the account."""
        return Requirement.strictest(*map(_asked, self.own.values()), *self._noted()).git

    @property
    def approvals(self) -> int:
        """Return how many people besides the operator must approve."""
        reviewed = map(_asked, self._reviewed.values())
        own = map(_asked, self.own.values())
        return Requirement.strictest(*own, *self._noted(), *reviewed).approvals

    @cached_property
    def own(self) -> Mapping[str, Settings]:
        """Return the settings that the run goes by, of each environment that it may change."""
        if self.is_account:
            return self.environment.of_account
        return {self.environment.name: self.environment.settings}

    @cached_property
    def to_note(self) -> Mapping[str, Requirement]:
        """Return what bootstrap notes of each environment: no less than the reviewed branch has."""
        reviewed = {env: _asked(each) for env, each in self._reviewed.items()}
        return {
            env: Requirement.strictest(_asked(each), reviewed.get(env, Requirement()))
            for env, each in self.own.items()
        }

    @cached_property
    def note(self) -> Note:
        """Return what bootstrap has noted in the account; a sandbox that is down has no account."""
        if not self.environment.target.is_up:
            return Note()
        return noted(self.environment.target, self.environment.settings.app)

    @property
    def note_problem(self) -> str:
        """Return why the account does not say what the environment requires, "" where it does.

        Bootstrap writes the note, and before the first one there is nothing to change.
        """
        if self.is_account or not self.environment.target.is_up:
            return ""
        if not self.note.is_whole:
            return "its note about reviews is of an older bootstrap, without approvals"
        if self.environment.name in self.note.requires:
            return ""
        if self.note != Note():
            return f"its note about reviews does not have {self.environment.name}"
        has_state = aws.bucket_exists(self.environment.target, self.environment.state_bucket)
        return "it has a state, and no note about reviews" if has_state else ""

    @property
    def tip(self) -> git.Commit:
        """Return the newest commit of the reviewed branch; PreflightFailed without an answer."""
        if isinstance(self._answer, PreflightFailed):
            raise self._answer
        return self._answer

    @cached_property
    def commit(self) -> git.Commit:
        """Return the reviewed commit that is checked out; PreflightFailed when it is not one."""
        own, tip = git.head(self.environment.root), self.tip
        try:
            if git.leads_to(self.environment.root, tip.id, own):
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

    def ask_again(self) -> None:
        """Forget what the server and the account have said: a plan may have waited for hours."""
        for name in ("_answer", "_reviewed", "commit", "git_required", "note", "to_note"):
            self.__dict__.pop(name, None)

    def require_same_files(self) -> None:
        """Raise PreflightFailed unless the files are exactly those of the commit checked out.

        So must be the settings that the run has read, whatever the files say now.
        """
        commit = git.head(self.environment.root)
        changed = files_changed(self.environment.root, commit) or list(
            self._settings_changed(commit)
        )
        if changed:
            raise PreflightFailed(
                "The files are not those of the commit.",
                details=changed[:20],
                expected=commit[:12] or "a commit",
                observed=f"{len(changed)} changed",
                next="commit, stash or remove them, then start the step again",
            )
        if not self.code.is_relative_to(self.environment.root / "lib"):
            raise PreflightFailed(
                "Daybook's own code is not that of the commit.",
                expected=str(self.environment.root / "lib"),
                observed=str(self.code.parent),
                next="make setup in this checkout, and run the daybook that it installs",
            )

    def signers(self) -> signers.Signers:
        """Return whose keys count: by the tip of the reviewed branch, where a review is required.

        Under an override and without an answer of its server, by the last one that was noted.
        """
        if not self.is_required:
            return signers.load(self.environment.root)
        try:
            text = git.read(self.environment.root, self._commit_of_people, signers.FILE).decode()
            return signers.parse(text, signers.FILE)
        except FileNotFoundError:
            return signers.Signers()
        except (git.Unreadable, UnicodeDecodeError) as err:
            raise _unreadable(signers.FILE, err) from err

    def remember(self) -> None:
        """Note in the account the newest reviewed commit, for an override while its server is down.

        No role of a workflow may write it, so it is worth as much as the note beside it; the next
        change of a person's does it then.
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
        """Return the URL that the account has; bootstrap may be the first to note it."""
        if self.note.remote:
            return self.note.remote
        if not self.is_account:
            raise PreflightFailed(
                "The account does not say which repository is reviewed.",
                next=f"daybook run bootstrap -p env {self.environment.name}",
            )
        return self.remote_to_note

    @property
    def remote_to_note(self) -> str:
        """Return the URL that bootstrap notes: of this environment's settings, or of another's."""
        remotes = (
            remote(each, self.environment.target)
            for each in (self.environment.settings, *self.own.values())
        )
        return next(filter(None, remotes), "")

    @cached_property
    def _answer(self) -> git.Commit | PreflightFailed:
        """Return what the server says, or why it says nothing: each question takes its time."""
        try:
            return git.tip(self.remote, self.environment.root, key=self.environment.ssh_key)
        except PreflightFailed as err:
            return err

    @property
    def _commit_of_people(self) -> str:
        """Return the commit whose signers and approvals count, whichever one is checked out."""
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
        """Return the settings of the reviewed branch, of each environment that may be changed.

        {} where no review is required, or where only the account's note is left to ask.
        """
        if not self.is_required:
            return {}
        try:
            commit = self._commit_of_people
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
            listed = git.listed(self.environment.root, commit, "environments")
            names = [name.removesuffix(".yml") for name in listed if name.endswith(".yml")]
        shared = (self.environment.settings.app, self.environment.settings.account)
        for env in names:
            with suppress(FileNotFoundError):
                each = self._settings_of(commit, env)
                if not self.is_account or (each.app, each.account) == shared:
                    yield env, each

    def _settings_of(self, commit: str, env: str) -> Settings:
        text = git.read(self.environment.root, commit, f"environments/{env}.yml").decode()
        return settings.parse(text, env)

    def _settings_changed(self, commit: str) -> Iterator[str]:
        """Give the settings that the run has read and that the commit does not have."""
        for env, each in self.own.items():
            try:
                is_same = self._settings_of(commit, env) == each
            except (git.Unreadable, FileNotFoundError, UnicodeDecodeError, SettingsError):
                is_same = False
            if not is_same:
                yield f"changed when the run began: environments/{env}.yml"

    def _noted(self) -> Iterator[Requirement]:
        """Give what the account has noted, of each environment that may be changed."""
        for env, each in self.note.requires.items():
            if self.is_account or env == self.environment.name:
                yield each


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


def newest_parameter(app: str) -> str:
    """Return where the newest reviewed commit that changed something is: beside the note."""
    return f"/{app}/account/reviewed"


def last_known(target: Target, app: str) -> str:
    """Return the newest reviewed commit that the account knows, "" where it knows none."""
    ssm = aws.client(target, "ssm")
    try:
        return ssm.get_parameter(Name=newest_parameter(app))["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return ""


def noted(target: Target, app: str) -> Note:
    """Return what bootstrap has noted; an empty note where there is none yet."""
    ssm = aws.client(target, "ssm")
    try:
        value = ssm.get_parameter(Name=parameter(app))["Parameter"]["Value"]
        said = json.loads(value)
        approvals = said.get("approvals", {})
        requires = {
            str(env): Requirement(str(wanted), int(approvals.get(env, 0)))
            for env, wanted in said["require_git"].items()
        }
        return Note(str(said["remote"]), requires, requires.keys() <= approvals.keys())
    except ssm.exceptions.ParameterNotFound:
        return Note()
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise PreflightFailed(
            "The account's note about reviews is damaged.",
            expected=f"JSON as bootstrap writes it, in {parameter(app)}",
            next="find out who changed it, then run bootstrap",
        ) from err


def _asked(chosen: Settings) -> Requirement:
    return Requirement(chosen.require_git, chosen.approvals)


def _unreadable(what: str, err: Exception) -> PreflightFailed:
    return PreflightFailed(
        f"{what} of the reviewed branch cannot be read.",
        observed=str(err).splitlines()[0],
        next="git pull, or at least git fetch, then run this step again",
    )
