"""The images: their names, build context and build errors."""

import tarfile

import pytest

from daybook.errors import CommandFailed
from daybook_sandbox import image


class FakeEngine:
    """An engine with a build that prints the given lines."""

    def __init__(self, *lines):
        self.lines = lines
        self.api = self

    def build(self, **options):
        self.options = options
        return iter(self.lines)


def test_both_names_depend_on_the_sources(monkeypatch):
    before = image.machine(), image.tools()
    monkeypatch.setattr(image, "_sources", lambda: [("Dockerfile", b"FROM other")])
    assert image.machine() not in before
    assert image.machine().partition(":")[2] == image.tools().partition(":")[2]


def test_the_context_contains_all_copied_files():
    with tarfile.open(fileobj=image._context()) as tar:
        names = set(tar.getnames())
        dockerfile = tar.extractfile("Dockerfile").read().decode()
    copied = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY")}
    assert copied
    assert copied <= names


@pytest.mark.parametrize(("name", "stage"), [("machine", "machine"), ("tools", "tools")])
def test_each_image_is_one_stage_of_the_dockerfile(name, stage):
    engine = FakeEngine({"stream": "Step 1/1 : FROM x\n"})
    lines = []
    image._build(engine, getattr(image, name)(), lines.append)
    assert engine.options["target"] == stage
    assert lines == ["  Step 1/1 : FROM x"]


def test_a_failed_build_shows_the_last_lines():
    engine = FakeEngine({"stream": "Step 1\n"}, {"stream": "E: no space\n"}, {"error": "code 100"})
    with pytest.raises(CommandFailed, match="code 100") as caught:
        image._build(engine, image.machine(), lambda line: None)
    assert caught.value.details == ("Step 1", "E: no space")
