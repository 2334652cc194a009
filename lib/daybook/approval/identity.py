"""Who plans and applies: a person of environments/signers, or a workflow that AWS vouches for."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from daybook import aws, signers
from daybook.checks import Check, CheckResult
from daybook.environment import Environment
from daybook.errors import DaybookError, PreflightFailed
from daybook.record import provenance, signing
from daybook.record.statement import Party, is_app
from daybook.signers import RECORD, Signers
from daybook.target import Target

TOKEN_URL, TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
"""Set by GitHub in a job that may ask for an OIDC token."""
AUDIENCE = "sts.amazonaws.com"
TIMEOUT_S = 20
MAX_TOKEN = 16_000
_ASSUMED = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/([\w+=,.@-]+)/[\w+=,.@-]+")
_CLAIM = re.compile(r"[\x21-\x7e]{1,300}")
_GITHUB = re.compile(r"https://([a-z0-9-]+\.)+actions\.githubusercontent\.com(:443)?/[\x21-\x7e]*")
"""Where GitHub gives its jobs tokens: only it has a certificate for these names."""
_FIRST = "1"
"""The attempt that the actor of a run has started; a re-run by somebody else keeps the actor."""


@dataclass(frozen=True)
class Identity:
    """Who acts. name: in environments/signers. workflow: `{"subject": …, "actor": …}`, or empty."""

    name: str
    key: Path
    workflow: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return what a record and a check call it."""
        if not self.workflow:
            return self.name
        return f"workflow {self.workflow['subject']} by {self.workflow['actor']}"

    @property
    def party(self) -> Party:
        """Return it as somebody who takes part in a change."""
        return Party(self.name, actor=self.workflow.get("actor", "").casefold())


def find(environment: Environment, allowed: Signers) -> Identity:
    """Return who acts here; PreflightFailed says which line of environments/signers is missing."""
    workflow = _workflow(environment)
    candidates = keys(environment)
    marks = [signing.fingerprint(signing.public_key(key)) for key in candidates]
    for key, mark in zip(candidates, marks, strict=True):
        if line := allowed.allowed(mark, RECORD):
            return _identity(line, key, workflow)
    # Of several keys, speak of one that has a line, or at least of one that exists.
    known = sorted(range(len(marks)), key=lambda at: (not allowed.of(marks[at]), not marks[at]))
    key, mark = candidates[known[0]], marks[known[0]]
    raise PreflightFailed(
        f"With approvals: 1, a run needs a key that is registered in {signers.FILE}.",
        expected=f"a key that {signers.FILE} allows {RECORD}",
        observed=allowed.refusal(mark, RECORD),
        next=_line_to_add(key, environment.root, allowed),
    )


def is_known(environment: Environment, load: Callable[[], Signers]) -> Check:
    """Ask who acts here, and have the private key prove it. load: reads whose keys count."""

    def question(name: str) -> CheckResult:
        expected = f"a key of {signers.FILE} for {RECORD}"
        try:
            allowed = load()
            found = find(environment, allowed)
        except DaybookError as err:
            observed = "; ".join((err.observed or err.message, *err.details))
            return CheckResult(name, expected, observed, is_ok=False, fix=err.next or "")
        challenge = os.urandom(16)
        signature, why = signing.sign(challenge, found.key, RECORD)
        proved = signing.check(challenge, signature, allowed, RECORD)
        if proved.is_good and proved.name == found.name:
            return CheckResult(name, expected, found.title, is_ok=True)
        observed = why or f"{found.key.name} is not the private half of the key of {found.name}"
        fix = "unlock the key (ssh-add), or correct ssh_key in the settings"
        return CheckResult(name, expected, observed, is_ok=False, fix=fix)

    return question


def signers_are_usable(root: Path) -> Check:
    """Ask whether environments/signers can be read."""

    def question(name: str) -> CheckResult:
        expected = "every line can be used"
        try:
            count = len(signers.load(root).lines)
        except DaybookError as err:
            observed = "; ".join(err.details)
            return CheckResult(name, expected, observed, is_ok=False, fix=err.next or "")
        return CheckResult(name, expected, f"{count} lines", is_ok=True)

    return question


def keys(environment: Environment) -> tuple[Path, ...]:
    """Return the private keys that may prove who acts, the operator's own first.

    A rehearsal signs in to its hosts with the sandbox's key, which is nobody's until somebody
    registers it.
    """
    own = Path(os.environ.get("DAYBOOK_SSH_KEY") or environment.settings.ssh_key).expanduser()
    return tuple(dict.fromkeys((own, environment.ssh_key)))


def workflow_role(app: str, env: str) -> str:
    """Return the name of the role that an environment's workflow assumes."""
    return f"{app}-github-run-{env}"


def _identity(line: signers.Signer, key: Path, workflow: Mapping[str, str]) -> Identity:
    if line.is_workflow and not workflow:
        raise PreflightFailed(
            f"{line.name} is the key of workflows, and this is none.",
            expected="your own key, outside of a workflow's job",
            observed=f"{key.name}, and no OIDC token of GitHub's",
            next="set ssh_key in the settings, or DAYBOOK_SSH_KEY, to your own key; in a job, give "
            "it the permission id-token: write",
        )
    if workflow and not line.is_workflow:
        raise PreflightFailed(
            f"A workflow acts with the key of {line.name}.",
            expected=f"the workflows' own key, whose name ends in {signers.WORKFLOWS}",
            observed=line.name,
            next="daybook github key ENV, and take the person's key out of the workflow",
        )
    return Identity(line.name, key, workflow)


def _line_to_add(key: Path, root: Path, allowed: Signers) -> str:
    public = signing.public_key(key)
    if not public:
        return f"make a key ({key}): ssh-keygen -t ed25519, then run this step again"
    if allowed.of(signing.fingerprint(public)):
        return f"correct that line of {signers.FILE}, and have the change reviewed"
    email = provenance.operator(root)["email"] or "YOU@EXAMPLE.COM"
    line = f'{email} namespaces="{RECORD},{signers.APPROVAL}" {public}'
    return f"add this line to {signers.FILE} and have it reviewed: {line}"


def _workflow(environment: Environment) -> dict[str, str]:
    """Return the workflow that this is a job of, as AWS confirms it; {} outside of a job.

    GitHub's token says who runs; STS, which alone knows GitHub's keys, is asked to accept it for
    the very role that this job has. Variables alone prove nothing.
    """
    url, bearer = os.environ.get(TOKEN_URL, ""), os.environ.get(TOKEN, "")
    if not (url and bearer):
        return {}
    target = environment.target
    try:
        arn = aws.caller(target)["arn"]
    except aws.FAILURES as err:
        raise PreflightFailed(
            "AWS does not say whose credentials this job has.",
            observed=str(err),
            next="see that the job assumes its role before this step",
        ) from err
    assumed, wanted = (
        _ASSUMED.fullmatch(arn),
        workflow_role(environment.settings.app, environment.name),
    )
    if not assumed or assumed[1] != wanted:
        raise PreflightFailed(
            "This job has not assumed the role of the environment's workflow.",
            expected=f"a session of the role {wanted}",
            observed=arn,
            next=f"bootstrap, and use the workflow that names the environment {environment.name}",
        )
    token = _token(url, bearer, target)
    role = f"{arn.split(':')[0]}:{arn.split(':')[1]}:iam::{target.account}:role/{wanted}"
    try:
        answer = aws.client(target, "sts").assume_role_with_web_identity(
            RoleArn=role, RoleSessionName="daybook-identity", WebIdentityToken=token
        )
    except aws.FAILURES as err:
        raise PreflightFailed(
            "AWS does not accept this job's OIDC token.",
            expected=f"a token for {wanted}",
            observed=str(err),
            next="give the job the permission id-token: write, and its GitHub environment",
        ) from err
    claims = _claims(token)
    if claims["sub"] != answer.get("SubjectFromWebIdentityToken", claims["sub"]):
        raise PreflightFailed("AWS read another subject in this job's OIDC token.")
    _require_person(claims)
    return {"role": wanted, "subject": claims["sub"], "actor": claims["actor"]}


def _require_person(claims: Mapping[str, str]) -> None:
    """Raise PreflightFailed unless the token says which person has started this job.

    https://docs.github.com/en/actions/reference/security/oidc: there is no claim for who re-runs.
    """
    if is_app(claims["actor"]):
        raise PreflightFailed(
            "With approvals: 1, a workflow must be started by a person.",
            expected="an actor who is a person",
            observed=claims["actor"],
            next="a person starts the workflow: Run workflow, or gh workflow run",
        )
    if claims["run_attempt"] != _FIRST:
        raise PreflightFailed(
            "With approvals: 1, a workflow cannot be re-run: GitHub does not say who re-runs it.",
            expected="the first attempt of a run",
            observed=f"attempt {claims['run_attempt']} of a run that {claims['actor']} started",
            next="start a new run of the workflow: Run workflow, or gh workflow run",
        )


def _is_github(url: str, target: Target) -> bool:
    """Tell whether a URL is where GitHub gives tokens; in a rehearsal, where the sandbox does."""
    if not target.is_sandbox:
        return bool(_GITHUB.fullmatch(url))
    server = target.environ.get("GITHUB_SERVER_URL", "").rstrip("/")
    return bool(server) and url.startswith(f"{server}/")


def _token(url: str, bearer: str, target: Target) -> str:
    if not _is_github(url, target):
        raise PreflightFailed(
            "GitHub's address for OIDC tokens is not GitHub's.",
            expected="https:// and a host under actions.githubusercontent.com",
            next=f"unset {TOKEN_URL}, or run in a job on github.com",
        )
    headers = {"Authorization": f"Bearer {bearer}"}
    try:
        # Without trust in the environment, which may name a proxy and an authority of one's own.
        answer = httpx.get(
            f"{url}&audience={AUDIENCE}", headers=headers, timeout=TIMEOUT_S, trust_env=False
        )
        answer.raise_for_status()
        token = answer.json()["value"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as err:
        raise PreflightFailed(
            "GitHub gives this job no OIDC token.",
            observed=type(err).__name__,
            next="give the job the permission id-token: write",
        ) from err
    return str(token)[:MAX_TOKEN]


def _claims(token: str) -> dict[str, str]:
    """Return the claims of a token that AWS has accepted."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        found = {name: claims[name] for name in ("sub", "actor", "run_attempt")}
    except (IndexError, ValueError, KeyError, TypeError) as err:
        raise PreflightFailed("The job's OIDC token has no subject, actor and attempt.") from err
    if not all(isinstance(value, str) and _CLAIM.fullmatch(value) for value in found.values()):
        raise PreflightFailed("The job's OIDC token has no subject, actor and attempt.")
    return found
