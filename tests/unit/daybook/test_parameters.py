from __future__ import annotations

import re

import nbformat
import pytest

from daybook.errors import SettingsError
from daybook.headless import parameters

SOURCE = """env: str = "staging"  # the environment
count: int = 1  # how many
rehearse: bool = False  # in the sandbox"""


@pytest.fixture
def notebook(tmp_path):
    cell = nbformat.v4.new_code_cell(SOURCE, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    path = tmp_path / "notebooks" / "step.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)
    return path


def test_converts_to_the_declared_types(notebook):
    texts = [("env", "1.10"), ("count", "3"), ("rehearse", "false")]
    found = parameters.check(notebook, texts, [])
    assert found == {"env": "1.10", "count": 3, "rehearse": False}


def test_lists_every_mistake_and_the_nearest_name(notebook):
    with pytest.raises(SettingsError) as caught:
        parameters.check(notebook, [("evn", "x"), ("count", "1.5"), ("rehearse", "maybe")], [])
    assert caught.value.details == (
        "evn: no such parameter; did you mean env?",
        "count: expected a whole number, got '1.5'",
        "rehearse: expected true or false, got 'maybe'",
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", [1.5, True, None, [1]])
def test_yaml_of_another_type_is_refused(notebook, value):
    with pytest.raises(SettingsError):
        parameters.check(notebook, [], [("count", value)])


def test_finds_a_notebook_by_name_or_path(notebook, tmp_path):
    assert parameters.find_notebook(tmp_path, "step") == notebook
    assert parameters.find_notebook(tmp_path, str(notebook)) == notebook
    with pytest.raises(SettingsError, match="did you mean step"):
        parameters.find_notebook(tmp_path, "stpe")


def test_reads_files_and_yaml(tmp_path):
    (tmp_path / "p.yml").write_text("env: staging\n")
    found = parameters.read_files([str(tmp_path / "p.yml")], ["count: 3"])
    assert found == [("env", "staging"), ("count", 3)]


TWICE = {
    "-p -p": {"texts": [("env", "staging"), ("env", "production")]},
    "-p -y": {"texts": [("env", "staging")], "yamls": ["env: production"]},
    "-p -f": {"texts": [("env", "staging")], "file": "env: production"},
    "-f -y": {"file": "env: staging", "yamls": ["env: production"]},
    "-y -y": {"yamls": ["env: staging", "env: production"]},
    "one -y": {"yamls": ["{env: staging, env: production}"]},
    "one -y, quoted": {"yamls": ["{env: staging, 'env': production}"]},
    "one -y, tagged": {"yamls": ["{env: staging, !!str env: production}"]},
    "one -y, escaped": {"yamls": ['{env: staging, "\\x65nv": production}']},
    "one -f": {"file": "env: staging\ncount: 1\nenv: production\n"},
    "the same value": {"texts": [("env", "staging"), ("env", "staging")]},
}


@pytest.mark.attack("F6", "a parameter given twice hides which environment is meant")
@pytest.mark.parametrize("given", TWICE.values(), ids=TWICE)
def test_a_parameter_given_twice_is_refused(notebook, tmp_path, given):
    files = []
    if "file" in given:
        (tmp_path / "p.yml").write_text(given["file"])
        files = [str(tmp_path / "p.yml")]

    def read() -> None:
        values = parameters.read_files(files, given.get("yamls", []))
        parameters.check(notebook, given.get("texts", []), values)

    with pytest.raises(SettingsError) as caught:
        read()
    [detail] = caught.value.details
    assert re.search(r"env(: this key)? is (given|set) twice", detail) or "tags" in detail


@pytest.mark.attack("F6", "YAML that means more than it shows")
@pytest.mark.parametrize(
    "text",
    [
        "{<<: {env: production}, env: staging}",
        "a: &a {env: production}\n<<: *a",
        "a: &a [1]\nb: [*a, *a]",
        "{1: x}",
        "{[a]: x}",
        "env: staging\n---\nenv: production",
        "env: !!python/name:os.system x",
        "a: " + "[" * 5000,
        "a: " + "x" * 100_000,
    ],
)
def test_yaml_has_one_meaning(text):
    with pytest.raises(SettingsError):
        parameters.read_files([], [text])


def test_an_endless_parameter_file_is_not_read_to_its_end():
    with pytest.raises(SettingsError):
        parameters.read_files(["/dev/zero"], [])


@pytest.mark.parametrize("text", ["- a", "a: [", "text"])
def test_yaml_that_is_not_a_mapping_is_refused(text):
    with pytest.raises(SettingsError):
        parameters.read_files([], [text])


def test_a_missing_file_is_one_error():
    with pytest.raises(SettingsError, match="cannot be read"):
        parameters.read_files(["/nowhere.yml"], [])


@pytest.mark.attack("F12", "a parameter of another type, or with a misleading look")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("count", text) for text in ("\u0661", "1_0", " 1", "0x1", "1e3", "", "9" * 5_000)),
        *(("rehearse", text) for text in ("1", "on", "", "tr\u00fce")),
        *(("env", text) for text in ("x" * 5_000, "a\x1b[2J", "a\rb", "a\u202eb", "a\udcff")),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_a_value_is_used_unchanged_or_refused(notebook, name, value):
    with pytest.raises(SettingsError) as caught:
        parameters.check(notebook, [(name, value)], [])
    assert len(str(caught.value)) < 500
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
