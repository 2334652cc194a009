"""Operators: a registered person, or a workflow that AWS confirms."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import httpx
import pytest
from moto.sts.responses import TokenResponse

from daybook import signers
from daybook.approval import identity
from daybook.checks import CheckResult
from daybook.environment import Environment
from daybook.errors import PreflightFailed
from daybook.record import signing
from daybook.settings import Settings
from daybook.target import Target
from daybook_sandbox import webidentity
from daybook_sandbox.api import REGION
from daybook_sandbox.github.messages import github
from daybook_sandbox.github.oidc import HOST, Issuer
from daybook_sandbox.github.runs import Run, RunJob, TriggerEvent
from daybook_sandbox.github.workflow import JobDefinition

ENV = "production"
ACCOUNT = "123456789012"
BOTH = 'namespaces="daybook-record,daybook-approval"'
ROLE = "hello-github-run-production"
SUBJECT = "repo:octo-org/operations:environment:production"


def settings_with(key) -> Settings:
    fields = {"app": "hello", "account": ACCOUNT, "dns_zone": "x.test", "domains": ["x.test"]}
    fields |= {
        "vpc_cidr": "10.0.0.0/16",
        "ssh_allowed_cidrs": [],
        "ssh_key": str(key),
        "approvals": 1,
        "require_git": "pushed",
    }
    return Settings.model_validate(fields)


def make_target(name="aws", **environ) -> Target:
    return Target(name, ACCOUNT, REGION, environ)


def environment(root, key, target=None) -> Environment:
    return Environment(ENV, root, settings_with(key), target or make_target())


def find(root, key, target=None) -> identity.Identity:
    return identity.find(environment(root, key, target), signers.load(root))


def check_operator(root, key) -> CheckResult:
    """Return the preflight check of the operator."""
    return identity.is_known(environment(root, key), partial(signers.load, root))("operator")


@pytest.fixture
def outside(monkeypatch):
    """Run outside GitHub's jobs, with only the key of the settings."""
    for name in (identity.TOKEN_URL, identity.TOKEN, "DAYBOOK_SSH_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def register(tmp_path, key):
    """Return a function that writes the signers file: register("ann@example.com {key}")."""
    (tmp_path / "environments").mkdir()

    def write(*lines: str):
        public = signing.public_key(key)
        text = "\n".join(line.format(both=BOTH, key=public) for line in lines)
        (tmp_path / signers.FILE).write_text(text)
        return tmp_path

    return write


@pytest.mark.usefixtures("outside")
def test_a_person_is_the_name_beside_their_key(register, key):
    root = register("ann@example.com {both} {key}")
    found = find(root, key)
    assert (found.name, found.title, found.workflow) == ("ann@example.com", "ann@example.com", {})
    check = check_operator(root, key)
    assert (check.is_ok, check.observed) == (True, "ann@example.com")


@pytest.mark.attack(
    "F3", "planning with no key, an unregistered one, or a line that does not count"
)
@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("line", "observed", "fix"),
    [
        ("", "is not in environments/signers", "add this line to environments/signers"),
        ("# {key}", "is not in environments/signers", "add this line to environments/signers"),
        ("ann@example.com {key}", "has no namespaces", "correct that line"),
        (
            'ann@example.com namespaces="daybook-approval" {key}',
            "do not include daybook-record",
            "",
        ),
        ('ann@example.com {both},valid-before="20260101" {key}', "not valid at this time", ""),
        (
            "*@example.com {both} {key}",
            "signers:1: a pattern instead of a name",
            "correct environments",
        ),
        ("hello-workflows {both} {key}", "no OIDC token", "set ssh_key in the settings"),
    ],
)
def test_an_unknown_person_cannot_plan(register, key, line, observed, fix):
    root = register(line)
    check = check_operator(root, key)
    assert check.is_ok is False
    assert observed in check.observed
    assert fix in check.fix
    if "add this line" in fix:
        assert check.fix.endswith(signing.public_key(key))


@pytest.mark.usefixtures("outside")
def test_a_missing_key_is_reported(register, tmp_path):
    root = register()
    check = check_operator(root, tmp_path / "none")
    assert (check.is_ok, "ssh-keygen -t ed25519" in check.fix) == (False, True)


@pytest.mark.attack("F3", "another person's public key in place of one's own")
@pytest.mark.usefixtures("outside")
def test_a_public_key_alone_proves_nothing(register, key, tmp_path):
    root = register("bob@example.com {both} {key}")
    own = tmp_path / "own"
    own.with_name("own.pub").write_text(key.with_name("key.pub").read_text())
    for private in (None, "-----BEGIN OPENSSH PRIVATE KEY-----\n"):
        if private:
            own.write_text(private)
        check = check_operator(root, own)
        assert check.is_ok is False


@pytest.mark.usefixtures("outside")
def test_a_rehearsal_uses_the_operators_key_or_the_registered_key_of_the_sandbox(
    register, key, tmp_path, monkeypatch
):
    root = register("ann@example.com {both} {key}")
    sandbox = make_target("sandbox", DAYBOOK_SSH_KEY=str(key))
    assert find(root, tmp_path / "none", sandbox).key == key
    monkeypatch.setenv("DAYBOOK_SSH_KEY", str(key))
    other = make_target("sandbox", DAYBOOK_SSH_KEY=str(tmp_path / "none"))
    assert find(root, tmp_path / "none", other).key == key


def job(actor="ada", environment=ENV, attempt="1") -> RunJob:
    event = TriggerEvent(
        "workflow_dispatch", "octo-org/operations", "refs/heads/main", "a" * 40, actor
    )
    run = Run(1, 1, event, ".github/workflows/run.yml")
    run.github = github(run, "http://127.0.0.1") | {"run_attempt": attempt}
    return RunJob(1, run, JobDefinition("run", "run", (), ()), environment=environment)


@pytest.fixture
def serve(world, monkeypatch):
    """Return a function that makes this process a job with a token, and returns its target."""
    original = TokenResponse.assume_role_with_web_identity
    monkeypatch.setattr(TokenResponse, "assume_role_with_web_identity", original)
    issuer, tokens = Issuer(), {}
    webidentity.patch(issuer.claims)
    iam = world.client("iam")
    provider = iam.create_open_id_connect_provider(
        Url=f"https://{HOST}", ClientIDList=[identity.AUDIENCE], ThumbprintList=["0" * 40]
    )["OpenIDConnectProviderArn"]
    equal = {f"{HOST}:sub": [SUBJECT], f"{HOST}:aud": [identity.AUDIENCE]}
    trust = {"Effect": "Allow", "Principal": {"Federated": [provider]}}
    trust |= {"Action": webidentity.ACTION, "Condition": {"StringEquals": equal}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    for name in (ROLE, "hello-admin"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy)

    class Tokens(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path.endswith(f"&audience={identity.AUDIENCE}")
            assert self.headers["Authorization"] == "Bearer secret"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"value": tokens["now"]}).encode())

        def log_message(self, *_args):
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def become(token=None, role=ROLE, credentials=True) -> Target:
        good = issuer.token(job(), identity.AUDIENCE)
        github = {"GITHUB_SERVER_URL": f"http://127.0.0.1:{server.server_port}"}
        tokens["now"] = token or good
        monkeypatch.setenv(identity.TOKEN_URL, f"http://127.0.0.1:{server.server_port}/?x=1")
        monkeypatch.setenv(identity.TOKEN, "secret")
        if not credentials:
            return make_target("sandbox", **github)
        made = boto3.client("sts", region_name=REGION).assume_role_with_web_identity(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}",
            RoleSessionName="GitHubActions",
            WebIdentityToken=good,
        )["Credentials"]
        return make_target(
            "sandbox",
            AWS_ACCESS_KEY_ID=made["AccessKeyId"],
            AWS_SECRET_ACCESS_KEY=made["SecretAccessKey"],
            AWS_SESSION_TOKEN=made["SessionToken"],
            **github,
        )

    become.issuer = issuer
    yield become
    server.shutdown()


@pytest.mark.usefixtures("outside")
def test_a_workflow_has_the_subject_and_actor_that_aws_confirms(register, key, serve):
    root = register("hello-workflows {both} {key}")
    found = find(root, key, serve())
    assert found.name == "hello-workflows"
    assert found.title == f"workflow {SUBJECT} by ada"
    assert found.workflow == {"role": ROLE, "subject": SUBJECT, "actor": "ada"}
    assert found.party.actor == "ada"


@pytest.mark.attack("F3", "a laptop passes itself off as the workflow, or a job as another one")
@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("name", ["variables", "role", "forged", "staging", "person", "http"])
def test_environment_variables_alone_are_not_a_workflow(register, key, serve, name):
    root = register(
        "ann@example.com {both} {key}" if name == "person" else "hello-workflows {both} {key}"
    )
    forged = Issuer().token(job(), identity.AUDIENCE)
    staging = serve.issuer.token(job(environment="staging"), identity.AUDIENCE)
    target = {
        "variables": lambda: serve(credentials=False),
        "role": lambda: serve(role="hello-admin"),
        "forged": lambda: serve(forged),
        "staging": lambda: serve(staging),
        "person": serve,
        "http": lambda: Target("aws", ACCOUNT, REGION, serve().environ),
    }[name]()
    expected = {
        "variables": "has not assumed the role",
        "role": "has not assumed the role",
        "forged": "AWS does not accept this job's OIDC token",
        "staging": "AWS does not accept this job's OIDC token",
        "person": "A workflow uses the key of ann@example.com",
        "http": "is not an address of GitHub",
    }[name]
    with pytest.raises(PreflightFailed, match=expected):
        find(root, key, target)


@pytest.mark.attack("F3", "a workflow that an app started, or another person's run that is re-run")
@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"actor": "renovate[bot]"}, "must be started by a person"),
        ({"actor": "Renovate[BOT]"}, "must be started by a person"),
        ({"attempt": "2"}, "does not name the person"),
        ({"attempt": ""}, "no subject, actor and attempt"),
    ],
)
def test_a_workflow_must_be_started_by_a_person(register, key, serve, facts, expected):
    root = register("hello-workflows {both} {key}")
    target = serve(serve.issuer.token(job(**facts), identity.AUDIENCE))
    with pytest.raises(PreflightFailed, match=expected):
        find(root, key, target)


@pytest.mark.attack("F3", "a server of one's own that gives tokens")
@pytest.mark.parametrize(
    ("url", "is_github"),
    [
        ("https://pipelines.actions.githubusercontent.com/a/b?api-version=2.0", True),
        ("https://run-actions-1-azure-eastus.actions.githubusercontent.com/137//idtoken/1", True),
        ("http://pipelines.actions.githubusercontent.com/a?b", False),
        ("https://localhost:8443/?a=b", False),
        ("https://actions.githubusercontent.com.evil.test/a?b", False),
        ("https://evilactions.githubusercontent.com/a?b", False),
        ("https://evil.test/.actions.githubusercontent.com/", False),
        ("https://evil.test#x.actions.githubusercontent.com/", False),
        ("https://evil.test?x.actions.githubusercontent.com/", False),
        ("https://u@x.actions.githubusercontent.com/", False),
        ("https://x.actions.githubusercontent.com@evil.test/", False),
        ("https://x.actions.githubusercontent.com:8443/", False),
        ("https://evil.test\\.actions.githubusercontent.com/", False),
        ("https://x.actions.githubusercontent.com/a\nb", False),
        ("", False),
    ],
)
def test_a_token_is_requested_only_from_github(url, is_github):
    assert identity._is_github(url, make_target()) is is_github
    sandbox = make_target("sandbox", GITHUB_SERVER_URL="http://10.0.0.1:80")
    assert not identity._is_github(url, sandbox)
    assert not identity._is_github("http://10.0.0.1:8080/x", sandbox)
    assert identity._is_github("http://10.0.0.1:80/_actions/oidc?job=1", sandbox)


@pytest.mark.attack("F3", "a proxy and an authority of one's own between Daybook and GitHub")
def test_environment_variables_do_not_affect_the_token_request(monkeypatch):
    asked = {}

    def get(url, **options):
        asked.update(options, url=url)
        raise httpx.ConnectError("no network")

    monkeypatch.setattr(httpx, "get", get)
    with pytest.raises(PreflightFailed, match="did not issue an OIDC token to this job"):
        identity._token("https://x.actions.githubusercontent.com/?a=b", "t", make_target())
    assert (asked["trust_env"], "verify" in asked) == (False, False)
