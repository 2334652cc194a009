"""What an image brings is refused before any program reads it."""

from __future__ import annotations

import base64
import gzip
import json
from types import SimpleNamespace

import pytest
import yaml
from compose_attacks import ATTACKS, GOOD, TEXTS, attacked

from daybook_release import document, prepare, settings
from daybook_release.docker import Docker, LocalImage
from daybook_release.errors import Refused
from daybook_release.store import Release, ReleaseStore
from daybook_release.system import CommandResult, System

REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop"
SETTINGS = settings.HostSettings(
    "shop", "staging", "shop-1", REPOSITORY, "us-east-1", ("shop.test",), 8000, "/shop/staging/"
)
CORPUS = {
    **TEXTS,
    **{what: yaml.safe_dump(attacked(path, value)) for what, path, value in ATTACKS},
}


class Counting(System):
    """A host on which nothing can be run, and which notes what was tried."""

    def __init__(self, *ends: CommandResult) -> None:
        super().__init__()
        self.ends, self.tried, self.texts = list(ends), [], []

    def run(self, command, *, text=None, **how):
        self.tried.append(list(command))
        self.texts.append(text)
        return self.ends.pop(0)

    def engine(self, method, path, **how):
        self.tried.append([method, path])
        raise AssertionError(path)


@pytest.fixture
def context(tmp_path):
    host = Counting()
    return SimpleNamespace(
        host=host,
        store=ReleaseStore(tmp_path, tmp_path / "lock"),
        docker=Docker(host, "shop"),
        settings=SETTINGS,
        settings_text="{}",
        settings_of=lambda release: SETTINGS,
        slot_of=lambda release: "web-blue",
    )


def image(text: str) -> LocalImage:
    packed = base64.b64encode(gzip.compress(text.encode(errors="surrogatepass"))).decode()
    return LocalImage({prepare.COMPOSE: packed}, 1)


@pytest.mark.attack("F8", "a compose file is read by a program of root's before it is refused")
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_nothing_is_run_for_a_file_that_is_refused(context, text):
    with pytest.raises(Refused) as refused:
        prepare.keep_files(context, "1-a", image(text))
    assert refused.value.exit_code == 3
    assert refused.value.next
    assert context.host.tried == []
    assert not (context.store.folder("1-a") / "model.json").exists()


def test_a_good_file_is_kept_as_data(context):
    prepare.keep_files(context, "1-a", image(GOOD))
    kept = json.loads(context.store.text("1-a", "model.json"))
    assert kept == document.read(GOOD).tree
    assert context.host.tried == []


@pytest.mark.attack("F7", "Compose makes something else of a file that was allowed")
@pytest.mark.parametrize(
    "printed",
    [
        {"name": "shop", "services": {}},
        {"name": "shop", "services": {"web-blue": {"image": "x:1", "privileged": True}}},
        {"services": {"web-blue": {}, "more": {"image": "x:1"}}},
    ],
)
def test_what_compose_prints_is_judged_before_anything_starts(context, printed):
    context.host.ends = [CommandResult(0, json.dumps(printed), "")]
    release = Release("1-a", "x@sha256:0f", "v1", "", "ann", "", "", "", slot="blue", port=8000)
    with pytest.raises(Refused, match="What Compose makes of"):
        prepare.check_as_compose_reads(context, release, {"services": {"web-blue": {}}})
    assert context.host.tried[0][-3:] == ["config", "--format", "json"]


@pytest.mark.attack("F8", "a secret's name is a variable that root's programs read")
def test_a_host_does_not_even_fetch_a_secret_with_such_a_name(context):
    its = settings.parse(
        json.dumps({**SETTINGS.__dict__, "secrets": ["TOKEN", "LD_PRELOAD", "DOCKER_HOST"]})
    )
    with pytest.raises(Refused, match=r"LD_PRELOAD.*DOCKER_HOST"):
        prepare.fetch_secrets(context, its, {})
    assert context.host.tried == []


@pytest.mark.parametrize("value", ["a\0b", "half \ud83d"])
def test_a_value_that_no_variable_can_hold_is_refused_without_being_told(context, value):
    answer = {"Name": "/shop/staging/TOKEN", "Value": value, "Version": 1}
    context.host.ends = [
        CommandResult(0, json.dumps({"Parameters": [answer], "InvalidParameters": []}), "")
    ]
    its = settings.parse(json.dumps({**SETTINGS.__dict__, "secrets": ["TOKEN"]}))
    with pytest.raises(Refused, match="TOKEN") as refused:
        prepare.fetch_secrets(context, its, {})
    assert value not in str(refused.value)
