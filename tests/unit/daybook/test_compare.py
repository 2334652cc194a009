"""Two runs side by side."""

from __future__ import annotations

from daybook.record import compare, seal


def test_only_what_differs_is_told(closed_run, tmp_path):
    one = seal.load(closed_run("r1"))
    two = seal.load(closed_run("r2", parameters={"size": 2, "new": "x"}, versions={}))
    both = compare.compare(tmp_path, one, two)
    told = {(d.section, d.name): (d.before, d.after) for d in both.differences}
    assert told == {
        ("parameters", "size"): (1, 2),
        ("parameters", "new"): (None, "x"),
        ("versions", "python"): ("3.11", None),
    }
    assert [name for name, *_ in both.seconds] == ["plan", "all"]


def test_plans_are_compared_change_by_change(closed_run, tmp_path):
    one = seal.load(closed_run("r1"))
    two = seal.load(closed_run("r2")) | {"plan": {"digest": "d", "changes": ["destroy vpc.x"]}}
    told = {d.name: (d.before, d.after) for d in compare.compare(tmp_path, one, two).differences}
    assert told["vpc.this"] == ("create", None)
    assert told["vpc.x"] == (None, "destroy")


def test_whether_the_template_has_changed(closed_run, tmp_path):
    notebook = tmp_path / "demo.ipynb"
    notebook.write_text("{}")
    template = {"path": "demo.ipynb", "sha256": seal.digest(notebook)}
    one = seal.load(closed_run("r1", template=template))
    two = seal.load(closed_run("r2", template=template))
    assert compare.compare(tmp_path, one, two).template == "the same in both runs and now"
    notebook.write_text("{ }")
    assert compare.compare(tmp_path, one, two).template == "the same, changed since"
    three = seal.load(closed_run("r3", template=template | {"sha256": seal.digest(notebook)}))
    between = compare.compare(tmp_path, one, three).template
    assert between == "changed between the runs, the same"
