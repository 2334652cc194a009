"""An invalid image is refused before any program reads its files."""

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
    **{name: yaml.safe_dump(attacked(path, value)) for name, path, value in ATTACKS},
}


class RecordingSystem(System):
    """A system that records calls and returns prepared results."""

    def __init__(self, *ends: CommandResult) -> None:
        super().__init__()
        self.ends, self.calls, self.texts = list(ends), [], []

    def run(self, command, *, text=None, **how):
        self.calls.append(list(command))
        self.texts.append(text)
        return self.ends.pop(0)

    def engine(self, method, path, **how):
        self.calls.append([method, path])
        raise AssertionError(path)


@pytest.fixture
def context(tmp_path):
    system = RecordingSystem()
    return SimpleNamespace(
        system=system,
        store=ReleaseStore(tmp_path, tmp_path / "lock"),
        docker=Docker(system, "shop"),
        settings=SETTINGS,
        settings_text="{}",
        settings_of=lambda release: SETTINGS,
        slot_of=lambda release: "web-blue",
    )


def image(text: str) -> LocalImage:
    packed = base64.b64encode(gzip.compress(text.encode(errors="surrogatepass"))).decode()
    return LocalImage({prepare.COMPOSE: packed}, 1)


@pytest.mark.attack("F8", "a program of root reads a compose file before it is refused")
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_no_command_runs_for_a_refused_file(context, text):
    with pytest.raises(Refused) as refused:
        prepare.store_files(context, "1-a", image(text))
    assert refused.value.exit_code == 3
    assert refused.value.next
    assert context.system.calls == []
    assert not (context.store.folder("1-a") / "model.json").exists()


def test_a_valid_file_is_stored_as_data(context):
    prepare.store_files(context, "1-a", image(GOOD))
    stored = json.loads(context.store.text("1-a", "model.json"))
    assert stored == document.read(GOOD).tree
    assert context.system.calls == []


@pytest.mark.attack("F7", "Compose interprets an allowed file differently")
@pytest.mark.parametrize(
    "printed",
    [
        {"name": "shop", "services": {}},
        {"name": "shop", "services": {"web-blue": {"image": "x:1", "privileged": True}}},
        {"services": {"web-blue": {}, "more": {"image": "x:1"}}},
    ],
)
def test_the_output_of_compose_is_checked_before_a_start(context, printed):
    context.system.ends = [CommandResult(0, json.dumps(printed), "")]
    release = Release("1-a", "x@sha256:0f", "v1", "", "ann", "", "", "", slot="blue", port=8000)
    with pytest.raises(Refused, match="as Compose interprets it"):
        prepare.check_compose_output(context, release, {"services": {"web-blue": {}}})
    assert context.system.calls[0][-3:] == ["config", "--format", "json"]


@pytest.mark.attack("F8", "a secret has the name of a variable that programs of root read")
def test_a_secret_with_a_reserved_name_is_not_fetched(context):
    host_settings = settings.parse(
        json.dumps({**SETTINGS.__dict__, "secrets": ["TOKEN", "LD_PRELOAD", "DOCKER_HOST"]})
    )
    with pytest.raises(Refused, match=r"LD_PRELOAD.*DOCKER_HOST"):
        prepare.fetch_secrets(context, host_settings, {})
    assert context.system.calls == []


@pytest.mark.parametrize("value", ["a\0b", "half \ud83d"])
def test_an_invalid_value_is_refused_without_printing_it(context, value):
    answer = {"Name": "/shop/staging/TOKEN", "Value": value, "Version": 1}
    context.system.ends = [
        CommandResult(0, json.dumps({"Parameters": [answer], "InvalidParameters": []}), "")
    ]
    host_settings = settings.parse(json.dumps({**SETTINGS.__dict__, "secrets": ["TOKEN"]}))
    with pytest.raises(Refused, match="TOKEN") as refused:
        prepare.fetch_secrets(context, host_settings, {})
    assert value not in str(refused.value)
