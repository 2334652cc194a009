"""The images: what names them, what goes into them, what a failed build says."""

import tarfile

import pytest

from daybook.errors import CommandFailed
from daybook_sandbox import image


class FakeEngine:
    """An engine whose build prints what it is told to."""

    def __init__(self, *lines):
        self.lines = lines
        self.api = self

    def build(self, **wishes):
        self.wishes = wishes
        return iter(self.lines)


def test_both_names_follow_the_sources(monkeypatch):
    before = image.machine(), image.tools()
    monkeypatch.setattr(image, "_sources", lambda: [("Dockerfile", b"FROM other")])
    assert image.machine() not in before
    assert image.machine().partition(":")[2] == image.tools().partition(":")[2]


def test_the_context_holds_what_the_dockerfile_copies():
    with tarfile.open(fileobj=image._context()) as tar:
        names = set(tar.getnames())
        dockerfile = tar.extractfile("Dockerfile").read().decode()
    copied = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY")}
    assert copied
    assert copied <= names


@pytest.mark.parametrize(("name", "stage"), [("machine", "machine"), ("tools", "tools")])
def test_an_image_is_one_stage_of_the_dockerfile(name, stage):
    engine = FakeEngine({"stream": "Step 1/1 : FROM x\n"})
    shown = []
    image._build(engine, getattr(image, name)(), shown.append)
    assert engine.wishes["target"] == stage
    assert shown == ["  Step 1/1 : FROM x"]


def test_a_failed_build_says_what_came_last():
    engine = FakeEngine({"stream": "Step 1\n"}, {"stream": "E: no space\n"}, {"error": "code 100"})
    with pytest.raises(CommandFailed, match="code 100") as caught:
        image._build(engine, image.machine(), lambda line: None)
    assert caught.value.details == ("Step 1", "E: no space")
