"""Two runs are compared."""

from __future__ import annotations

from daybook.record import compare, seal


def test_only_differences_are_listed(closed_run, tmp_path):
    before = seal.load(closed_run("r1"))
    after = seal.load(closed_run("r2", parameters={"size": 2, "new": "x"}, versions={}))
    comparison = compare.compare(tmp_path, before, after)
    differences = {(d.section, d.name): (d.before, d.after) for d in comparison.differences}
    assert differences == {
        ("parameters", "size"): (1, 2),
        ("parameters", "new"): (None, "x"),
        ("versions", "python"): ("3.11", None),
    }
    assert [name for name, *_ in comparison.seconds] == ["plan", "all"]


def test_plans_are_compared_by_change(closed_run, tmp_path):
    before = seal.load(closed_run("r1"))
    after = seal.load(closed_run("r2")) | {"plan": {"digest": "d", "changes": ["destroy vpc.x"]}}
    comparison = compare.compare(tmp_path, before, after)
    differences = {d.name: (d.before, d.after) for d in comparison.differences}
    assert differences["vpc.this"] == ("create", None)
    assert differences["vpc.x"] == (None, "destroy")


def test_a_change_of_the_template_is_reported(closed_run, tmp_path):
    notebook = tmp_path / "demo.ipynb"
    notebook.write_text("{}")
    template = {"path": "demo.ipynb", "sha256": seal.digest(notebook)}
    first = seal.load(closed_run("r1", template=template))
    second = seal.load(closed_run("r2", template=template))
    assert compare.compare(tmp_path, first, second).template == "the same in both runs and now"
    notebook.write_text("{ }")
    assert compare.compare(tmp_path, first, second).template == "the same, changed since"
    third = seal.load(closed_run("r3", template=template | {"sha256": seal.digest(notebook)}))
    between = compare.compare(tmp_path, first, third).template
    assert between == "changed between the runs, the same"
