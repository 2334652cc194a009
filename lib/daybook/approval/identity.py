"""The operator of a run: a person of environments/signers, or a workflow that AWS confirms."""

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
from daybook.checks import AGAIN, Check, CheckResult
from daybook.environment import Environment
from daybook.errors import DaybookError, PreflightFailed
from daybook.record import provenance, signing
from daybook.record.statement import Party, is_app
from daybook.signers import RECORD, Signers
from daybook.target import Target

TOKEN_URL, TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
"""Set by GitHub in a job that may request an OIDC token."""
AUDIENCE = "sts.amazonaws.com"
TIMEOUT_S = 20
MAX_TOKEN = 16_000
_ASSUMED = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/([\w+=,.@-]+)/[\w+=,.@-]+")
_CLAIM = re.compile(r"[\x21-\x7e]{1,300}")
_GITHUB = re.compile(r"https://([a-z0-9-]+\.)+actions\.githubusercontent\.com(:443)?/[\x21-\x7e]*")
"""Where GitHub issues tokens to its jobs: only GitHub has a certificate for these names."""
_FIRST = "1"
"""The attempt that the actor started; a re-run by another person keeps the actor."""
_TOKEN_FIX = "give the job the permission id-token: write"
_START_FIX = "start a new run of the workflow: Run workflow, or gh workflow run"


@dataclass(frozen=True)
class Identity:
    """An operator. name: in environments/signers. workflow: `{"subject": …, "actor": …}`, or {}."""

    name: str
    key: Path
    workflow: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the name for records and checks."""
        if not self.workflow:
            return self.name
        return f"workflow {self.workflow['subject']} by {self.workflow['actor']}"

    @property
    def party(self) -> Party:
        """Return the operator as a party to a change."""
        return Party(self.name, actor=self.workflow.get("actor", "").casefold())


def find(environment: Environment, allowed: Signers) -> Identity:
    """Return the operator; PreflightFailed names the missing line of environments/signers."""
    workflow = _workflow(environment)
    prints = {
        key: signing.fingerprint(signing.public_key(key)) for key in candidate_keys(environment)
    }
    for key, fingerprint in prints.items():
        if line := allowed.allowed(fingerprint, RECORD):
            return _identity(line, key, workflow)
    # Report a key that has a line, or else one that exists.
    key = min(prints, key=lambda key: (not allowed.of(prints[key]), not prints[key]))
    raise PreflightFailed(
        f"With approvals: 1, a run needs a key that is registered in {signers.FILE}.",
        expected=f"a key that {signers.FILE} allows to sign as {RECORD}",
        observed=allowed.refusal(prints[key], RECORD),
        next=_line_to_add(key, environment.root, allowed),
    )


def is_known(environment: Environment, load: Callable[[], Signers]) -> Check:
    """Check that the operator is known and has the private key. load: reads the signers."""

    def check(name: str) -> CheckResult:
        expected = f"a key of {signers.FILE} for {RECORD}"
        try:
            allowed = load()
            operator = find(environment, allowed)
        except DaybookError as err:
            observed = "; ".join((err.observed or err.message, *err.details))
            return CheckResult(name, expected, observed, is_ok=False, fix=err.next or AGAIN)
        challenge = os.urandom(16)
        signature, problem = signing.sign(challenge, operator.key, RECORD)
        signer = signing.check(challenge, signature, allowed, RECORD)
        if signer.is_good and signer.name == operator.name:
            return CheckResult(name, expected, operator.title, is_ok=True)
        key = operator.key.name
        observed = problem or f"{key} does not match the public key of {operator.name}"
        fix = "unlock the key (ssh-add), or correct ssh_key in the settings"
        return CheckResult(name, expected, observed, is_ok=False, fix=fix)

    return check


def signers_are_usable(root: Path) -> Check:
    """Check that every line of environments/signers is valid."""

    def check(name: str) -> CheckResult:
        expected = "every line is valid"
        try:
            count = len(signers.load(root).lines)
        except DaybookError as err:
            observed = "; ".join(err.details) or err.observed or err.message
            return CheckResult(name, expected, observed, is_ok=False, fix=err.next or AGAIN)
        return CheckResult(name, expected, f"{count} lines", is_ok=True)

    return check


def candidate_keys(environment: Environment) -> tuple[Path, ...]:
    """Return the private keys that may identify the operator, the operator's own key first.

    A rehearsal logs in to its hosts with the sandbox's key, which identifies no one until it is
    registered.
    """
    own = Path(os.environ.get("DAYBOOK_SSH_KEY") or environment.settings.ssh_key).expanduser()
    return tuple(dict.fromkeys((own, environment.ssh_key)))


def workflow_role(app: str, env: str) -> str:
    """Return the name of the role that an environment's workflow assumes."""
    return f"{app}-github-run-{env}"


def _identity(line: signers.Signer, key: Path, workflow: Mapping[str, str]) -> Identity:
    if line.is_workflow and not workflow:
        raise PreflightFailed(
            f"{line.name} is a workflow key, and this run is not in a workflow.",
            expected="your own key outside a workflow's job",
            observed=f"{key.name}, and no OIDC token from GitHub",
            next="set ssh_key in the settings, or DAYBOOK_SSH_KEY, to your own key; in a workflow, "
            f"{_TOKEN_FIX}",
        )
    if workflow and not line.is_workflow:
        raise PreflightFailed(
            f"A workflow uses the key of {line.name}.",
            expected=f"a workflow key: its name ends in {signers.WORKFLOWS}",
            observed=line.name,
            next="daybook github key ENV, then remove the person's key from the workflow",
        )
    return Identity(line.name, key, workflow)


def _line_to_add(key: Path, root: Path, allowed: Signers) -> str:
    public = signing.public_key(key)
    if not public:
        return f"create the key {key}: ssh-keygen -t ed25519, then run this step again"
    if allowed.of(signing.fingerprint(public)):
        return f"correct that line of {signers.FILE} and have the change reviewed"
    email = provenance.operator(root)["email"] or "YOU@EXAMPLE.COM"
    line = f'{email} namespaces="{RECORD},{signers.APPROVAL}" {public}'
    return f"add this line to {signers.FILE} and have it reviewed: {line}"


def _workflow(environment: Environment) -> dict[str, str]:
    """Return the workflow of this job, as AWS confirms it; {} outside a job.

    GitHub's token names the workflow and the actor. STS, which knows GitHub's keys, must accept
    the token for the role that this job has. Environment variables alone prove nothing.
    """
    url, bearer = os.environ.get(TOKEN_URL, ""), os.environ.get(TOKEN, "")
    if not (url and bearer):
        return {}
    target = environment.target
    try:
        arn = aws.caller(target)["arn"]
    except aws.FAILURES as err:
        raise PreflightFailed(
            "AWS did not return the identity of this job's credentials.",
            observed=str(err),
            next="make sure that the job assumes its role before this step",
        ) from err
    assumed, role = (
        _ASSUMED.fullmatch(arn),
        workflow_role(environment.settings.app, environment.name),
    )
    if not assumed or assumed[1] != role:
        raise PreflightFailed(
            "This job has not assumed the role of the environment's workflow.",
            expected=f"a session of the role {role}",
            observed=arn,
            next="run bootstrap, and use the workflow that names the environment "
            f"{environment.name}",
        )
    token = _token(url, bearer, target)
    role_arn = f"{arn.split(':')[0]}:{arn.split(':')[1]}:iam::{target.account}:role/{role}"
    try:
        answer = aws.client(target, "sts").assume_role_with_web_identity(
            RoleArn=role_arn, RoleSessionName="daybook-identity", WebIdentityToken=token
        )
    except aws.FAILURES as err:
        raise PreflightFailed(
            "AWS does not accept this job's OIDC token.",
            expected=f"a token for {role}",
            observed=str(err),
            next=f"{_TOKEN_FIX}, and its GitHub environment",
        ) from err
    claims = _claims(token)
    subject = answer.get("SubjectFromWebIdentityToken", claims["sub"])
    if claims["sub"] != subject:
        raise PreflightFailed(
            "AWS reads another subject in this job's OIDC token.",
            expected=claims["sub"],
            observed=subject,
            next=_START_FIX,
        )
    _require_person(claims)
    return {"role": role, "subject": claims["sub"], "actor": claims["actor"]}


def _require_person(claims: Mapping[str, str]) -> None:
    """Raise PreflightFailed unless the token names the person who started this job.

    No claim names the person who re-runs a job:
    https://docs.github.com/en/actions/reference/security/oidc
    """
    if is_app(claims["actor"]):
        raise PreflightFailed(
            "With approvals: 1, a workflow must be started by a person.",
            expected="a person as the actor",
            observed=claims["actor"],
            next=_START_FIX,
        )
    if claims["run_attempt"] != _FIRST:
        raise PreflightFailed(
            "With approvals: 1, a workflow cannot be re-run: GitHub does not name the person.",
            expected="the first attempt of a run",
            observed=f"attempt {claims['run_attempt']} of a run that {claims['actor']} started",
            next=_START_FIX,
        )


def _is_github(url: str, target: Target) -> bool:
    """Tell whether a URL issues GitHub's tokens, or in a rehearsal the sandbox's."""
    if not target.is_sandbox:
        return bool(_GITHUB.fullmatch(url))
    server = target.environ.get("GITHUB_SERVER_URL", "").rstrip("/")
    return bool(server) and url.startswith(f"{server}/")


def _token(url: str, bearer: str, target: Target) -> str:
    if not _is_github(url, target):
        raise PreflightFailed(
            f"{TOKEN_URL} is not an address of GitHub.",
            expected="https:// and a host under actions.githubusercontent.com",
            next=f"unset {TOKEN_URL}, or run in a job on github.com",
        )
    headers = {"Authorization": f"Bearer {bearer}"}
    try:
        # Ignore proxies and certificate authorities that the environment variables name.
        answer = httpx.get(
            f"{url}&audience={AUDIENCE}", headers=headers, timeout=TIMEOUT_S, trust_env=False
        )
        answer.raise_for_status()
        token = answer.json()["value"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as err:
        raise PreflightFailed(
            "GitHub did not issue an OIDC token to this job.",
            observed=type(err).__name__,
            next=_TOKEN_FIX,
        ) from err
    return str(token)[:MAX_TOKEN]


def _claims(token: str) -> dict[str, str]:
    """Return the claims of a token that AWS has accepted."""
    unusable = PreflightFailed(
        "The job's OIDC token has no subject, actor and attempt.",
        expected="the claims sub, actor and run_attempt",
        next=f"{_TOKEN_FIX}, and {_START_FIX}",
    )
    try:
        payload = token.split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        claims = {name: content[name] for name in ("sub", "actor", "run_attempt")}
    except (IndexError, ValueError, KeyError, TypeError) as err:
        raise unusable from err
    if not all(isinstance(value, str) and _CLAIM.fullmatch(value) for value in claims.values()):
        raise unusable
    return claims
