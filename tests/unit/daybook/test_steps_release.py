"""What deploy and roll back would do, and what becomes of several hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook import ui
from daybook.environment import Environment
from daybook.errors import ApplyFailed, Interrupted, PreflightFailed, VerifyFailed
from daybook.hosts.client import HostStatus, Release
from daybook.hosts.states import HostState
from daybook.settings import Settings
from daybook.steps import rollback
from daybook.steps.first_deploy import FirstDeploy
from daybook.steps.release_step import HostChange, ImageRef, ReleaseStep
from daybook.target import Target

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
SETTINGS = "sha256:aa"
OF_STAGING = Settings(
    app="hello",
    account="sandbox",
    dns_zone="shop.test",
    domains=("shop.test",),
    vpc_cidr="10.20.0.0/16",
    ssh_allowed_cidrs=(),
)
TARGET = Target("sandbox", "123456789012", "us-east-1", {})
OLD = Release("20261123T100000Z-1", f"r@{ONE}", "1", "replaced", run="r1", secrets={"KEY": 1})
NEW = Release("20261123T110000Z-2", f"r@{TWO}", "2", "serving", run="r2", secrets={"KEY": 2})
FAILED = ApplyFailed("web-2: it is not healthy", changed="web-2: 1 serves.")
STOPPED = Interrupted("stopped", changed="It ended.")


class Host:
    """A host that records what it is asked for, and can fail on request."""

    def __init__(self, name: str, fails: Exception | None = None, serves: str = "") -> None:
        self.name, self.fails, self.serves, self.did = name, fails, serves, []
        self.address = "192.0.2.1"

    def deploy(self, image, **_facts):
        self.did.append(image)
        if self.fails:
            raise self.fails
        self.serves = NEW.id
        return NEW

    def status(self):
        return HostStatus(self.serves)

    def roll_back(self, id, **_facts):
        self.did.append(id)
        return OLD

    def show(self, id):
        return {"compose": f"services:\n  web: {id}\n"}


def serving(host, *releases: Release, settings: str = SETTINGS, healthy: bool = True) -> HostState:
    known = tuple(replace(each, settings=SETTINGS) for each in releases)
    current = next((each.id for each in known if each.result == "serving"), None)
    return HostState(host, HostStatus(current, healthy=healthy, settings=settings), known)


@pytest.fixture
def step():
    """Return a step that looks at nothing real."""
    it = object.__new__(Step)
    it._environment = Environment("staging", Path(), OF_STAGING, TARGET)
    it.run = SimpleNamespace(title="deploy staging", id="r3", environment=it._environment)
    it.run.changed = lambda **_facts: None
    return it


class Step(ReleaseStep):
    name, next = "deploy", ""

    def by(self):
        return "Ann"

    def make_plan(self): ...

    def apply_plan(self, plan): ...


def plan(step, *found: HostState, digest: str = TWO, secret: int = 2):
    return step.plan_release(ImageRef(digest, "2", "a tag"), found, {"KEY": secret})


def test_a_host_that_serves_all_of_it_is_left_alone(step):
    both = serving(Host("web-1"), OLD, NEW), serving(Host("web-2"), replace(OLD, result="serving"))
    assert [change.address for change in plan(step, *both).changes] == ["web-2"]
    assert plan(step, both[0]).is_empty


@pytest.mark.parametrize(
    "found",
    [
        serving(Host("web-1"), replace(NEW, secrets={"KEY": 1})),
        serving(Host("web-1"), NEW, settings="sha256:bb"),
        serving(Host("web-1"), NEW, healthy=False),
        serving(Host("web-1"), replace(NEW, image=f"r@{ONE}")),
        serving(Host("web-1")),
    ],
    ids=["another secret", "other settings", "not healthy", "another image", "nothing"],
)
def test_whatever_differs_is_released_and_said(step, found):
    made = plan(step, found)
    assert [change.action for change in made.changes] == ["release"]
    assert bool(made.differences) is found.status.healthy


def test_the_digest_covers_image_secrets_settings_and_what_serves(step):
    first = plan(step, serving(Host("web-1"), OLD)).digest
    others = [
        plan(step, serving(Host("web-1"), OLD), digest=ONE),
        plan(step, serving(Host("web-1"), OLD, settings="sha256:bb")),
        plan(step, serving(Host("web-1"), replace(OLD, result="serving"))),
        plan(step, serving(Host("web-1"), OLD), secret=3),
    ]
    assert len({first, *(each.digest for each in others)}) == 5


def test_what_differs_stands_above_what_is_to_be_done(step):
    said = ui.text(plan(step, serving(Host("web-1"), replace(OLD, result="serving"))))
    assert "web-1: KEY" in said
    assert said.index("version 1") < said.index("version 2") < said.index("in place of 1")


def test_at_the_first_failure_the_hosts_before_it_are_brought_back(step):
    hosts = [Host("web-1"), Host("web-2", FAILED), Host("web-3")]
    changes = [
        HostChange(
            serving(host, replace(OLD, result="serving")), lambda tell, h=host: h.deploy("new")
        )
        for host in hosts
    ]
    with pytest.raises(ApplyFailed) as caught:
        step.roll_out(changes)
    assert [host.did for host in hosts] == [["new", OLD.id], ["new"], []]
    assert caught.value.changed == "web-2: 1 serves. web-1 serves 1 again."


@pytest.mark.parametrize(
    ("serves", "did", "said"),
    [(NEW.id, ["new", OLD.id], "serves 1 again"), (OLD.id, ["new"], "serves 1, as before")],
)
def test_what_was_interrupted_is_brought_back_if_it_came_about(step, serves, did, said):
    host = Host("web-1", STOPPED, serves)
    before = serving(host, replace(OLD, result="serving"))
    with pytest.raises(Interrupted) as caught:
        step.roll_out([HostChange(before, lambda tell: host.deploy("new"))])
    assert host.did == did
    assert said in caught.value.changed


def test_a_first_release_has_none_to_go_back_to(step):
    hosts = [Host("web-1"), Host("web-2", FAILED)]
    changes = [HostChange(serving(host), lambda tell, h=host: h.deploy("new")) for host in hosts]
    with pytest.raises(ApplyFailed, match="web-1 serves its first release"):
        step.roll_out(changes)
    assert hosts[0].did == ["new"]


@pytest.mark.parametrize(
    ("found", "seen", "observed"),
    [
        (serving(Host("web-1"), OLD), "2", "nothing"),
        (serving(Host("web-1"), NEW, healthy=False), "2", "not healthy"),
        (serving(Host("web-1"), NEW), "1", "the page answers 1"),
        (serving(Host("web-1"), replace(OLD, result="serving")), "1", OLD.id),
    ],
    ids=["nothing", "not healthy", "another from outside", "gone back by itself"],
)
def test_verify_refuses_what_is_not_what_was_released(step, monkeypatch, found, seen, observed):
    step._released = {"web-1": NEW.id}
    monkeypatch.setattr(step, "host_states", lambda: [found], raising=False)
    monkeypatch.setattr(step, "_version_from_outside", lambda serving: ("the page", seen))
    with pytest.raises(VerifyFailed) as caught:
        step.look()
    assert caught.value.observed == observed


def test_verify_shows_what_answers(step, monkeypatch):
    monkeypatch.setattr(step, "host_states", lambda: [serving(Host("web-1"), NEW)])
    monkeypatch.setattr(step, "_version_from_outside", lambda serving: ("https://shop.test/", "2"))
    shown = ui.text(step.look(), width=200)
    assert "By hand: curl -i --resolve shop.test:443:192.0.2.1 https://shop.test/" in shown


def test_before_is_what_was_replaced_last_and_not_what_failed_or_was_rolled_back():
    failed = replace(OLD, id="20261123T105000Z-3", result="failed")
    newer = replace(OLD, id="20261123T120000Z-4", result="replaced")
    found = serving(Host("web-1"), newer, NEW, failed, OLD)
    assert [each.id for each in rollback.before(found)] == [OLD.id]


def test_without_a_name_it_goes_back_past_what_was_rolled_back_itself():
    """A bad version, rolled back and released once more: it must not be what comes back again."""
    again = replace(NEW, id="20261123T120000Z-4", result="rolled back")
    current = replace(NEW, id="20261123T130000Z-5")
    found = serving(Host("web-1"), current, again, OLD)
    step = SimpleNamespace(env="staging", _require_image=lambda *_: None)
    assert rollback.Rollback._release(step, "", [found]).id == OLD.id
    assert rollback.Rollback._release(step, again.id, [found]).id == again.id
    assert rollback.Rollback._release(step, current.id, [found]).id == current.id
    with pytest.raises(PreflightFailed, match="no release before this one"):
        rollback.Rollback._release(step, "", [serving(Host("web-1"), current, again)])


def test_a_host_goes_back_to_its_own_release_of_the_same_run():
    own = replace(OLD, id="20261123T100007Z-1")
    later = replace(OLD, id="20261123T103000Z-1", run="r9")
    found = serving(Host("web-2"), NEW, later, own)
    assert rollback.counterpart(found, OLD).id == own.id
    other = replace(OLD, secrets={"KEY": 7})
    with pytest.raises(PreflightFailed, match="web-2 never served 1"):
        rollback.counterpart(found, other)


def test_the_difference_has_image_secrets_and_the_compose_files_lines():
    rows = rollback.differences(Host("web-1"), NEW, OLD)
    assert ("KEY", "version 2", "version 1") in rows
    assert ("image", TWO[:19], ONE[:19]) in rows
    assert ("compose.yaml", f"web: {NEW.id}", "") in rows
    assert ("compose.yaml", "", f"web: {OLD.id}") in rows


@pytest.mark.parametrize(
    ("text", "is_ok", "observed"),
    [
        (None, True, "Daybook's own"),
        (b"{$NAMES} {\n\treverse_proxy {$UPSTREAM}\n}\n", True, "can be"),
        (b"{$NAMES} {\n\treverse_proxy 10.0.0.1\n}\n", False, "Caddyfile line 2: "),
        (b"\xff\xfe", False, "another encoding"),
    ],
)
def test_a_caddyfile_is_checked_before_an_image_is_built(tmp_path, text, is_ok, observed):
    (tmp_path / "app").mkdir()
    if text is not None:
        (tmp_path / "app/Caddyfile").write_bytes(text)
    step = object.__new__(FirstDeploy)
    step._environment = Environment("staging", tmp_path, OF_STAGING, TARGET)
    step.run = SimpleNamespace(environment=step._environment)
    check = step._caddyfile_can_be_released("Caddyfile")
    assert (check.is_ok, observed in check.observed) == (is_ok, True)
