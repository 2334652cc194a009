"""Parsing workflows: expressions, triggers, and refusals with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook_sandbox.github import workflow
from daybook_sandbox.github.expressions import ExpressionError, Scope, check
from daybook_sandbox.github.triggers import Triggers
from daybook_sandbox.github.yamlread import UnsupportedWorkflow

APP = Path(__file__).parents[3] / "app/.github/workflows/deploy.yml"
CONTEXTS = {
    "github": {"ref_name": "main", "ref": "refs/heads/main"},
    "needs": {"build": {"result": "success", "outputs": {"via": "runner"}}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("v-${{ github.ref_name }}-x", "v-main-x"),
        ("${{ github.ref_name == 'MAIN' }}", "true"),
        ("${{ github.ref_name != 'main' && 'a' || 'b' }}", "b"),
        ("${{ !startsWith(github.ref, 'refs/tags/') }}", "true"),
        ("${{ github['ref'] }}${{ github.nothing }}", "refs/heads/main"),
        ("${{ needs.build.outputs.via || 'none' }}", "runner"),
        ("${{ format('{0}-{1}', 'it''s', 3) }}", "it's-3"),
        ("${{ contains(fromJSON('[\"a\", \"b\"]'), 'B') }}", "true"),
        ("${{ 1 < 2 && 2 <= 2.5 }}", "true"),
        ("${{ null == 0 }}", "true"),
    ],
)
def test_an_expression_is_evaluated(template, text):
    assert Scope(CONTEXTS).text(template) == text


@pytest.mark.parametrize(
    ("condition", "status", "holds"),
    [
        ("", "success", True),
        ("", "failure", False),
        ("always()", "failure", True),
        ("failure()", "failure", True),
        ("failure()", "success", False),
        ("github.ref_name == 'main'", "failure", False),
        ("${{ !cancelled() && github.ref_name == 'main' }}", "failure", True),
    ],
)
def test_a_condition_implies_success_unless_it_calls_a_status_function(condition, status, holds):
    assert Scope(CONTEXTS, status).holds(condition) is holds


@pytest.mark.parametrize(
    "text",
    ["${{ matrix.x }}", "${{ hashFiles('x') }}", "${{ a b }}", "${{ (1 }}", "${{ always() }}"],
)
def test_an_unsupported_expression_is_refused(text):
    with pytest.raises(ExpressionError):
        check(text, ("github", "a"))


@pytest.mark.parametrize(
    ("triggers", "started"),
    [
        (Triggers(on_push=True), {"heads/main", "heads/a/b", "tags/v1"}),
        (Triggers(on_push=True, branches=("main", "a/**")), {"heads/main", "heads/a/b"}),
        (Triggers(on_push=True, branches=("**", "!main")), {"heads/a/b"}),
        (Triggers(on_push=True, branches=("*",)), {"heads/main"}),
        (Triggers(on_push=True, branches_ignore=("main",)), {"heads/a/b"}),
        (Triggers(on_push=True, tags=("v*",)), {"tags/v1"}),
        (Triggers(), set()),
    ],
)
def test_a_push_matches_the_triggers_filters(triggers, started):
    refs = {"heads/main", "heads/a/b", "tags/v1"}
    assert {ref for ref in refs if triggers.wants_push(f"refs/{ref}")} == started


def test_the_applications_workflow_is_supported():
    parsed = workflow.parse(".github/workflows/deploy.yml", APP.read_text())
    assert parsed.triggers.branches == ("main", "staging")
    assert not parsed.concurrency.cancels
    assert parsed.jobs["release"].runs_on[0] == "self-hosted"
    assert parsed.jobs["release"].permissions == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    timeout-minutes: 30\n", "    container: debian\n"),
        ("    needs: build\n", "    needs: built\n"),
        ("runs-on: ubuntu-24.04", "runs-on: windows-latest"),
        ("github.ref_name", "matrix.os"),
        ("  push:\n", "  release:\n"),
        ("id: settings\n", "if-no: settings\n"),
    ],
)
def test_unsupported_parts_are_refused_with_their_line(before, after):
    text = APP.read_text()
    assert before in text
    line = text[: text.index(before)].count("\n") + 1
    with pytest.raises(UnsupportedWorkflow, match=rf"^deploy\.yml:{line}: "):
        workflow.parse("deploy.yml", text.replace(before, after))


def test_an_action_must_be_pinned_by_a_commit():
    text = APP.read_text()
    pinned = text[text.index("actions/checkout@") :].split()[0]
    with pytest.raises(UnsupportedWorkflow, match="by a commit"):
        workflow.parse("deploy.yml", text.replace(pinned, "actions/checkout@v6"))
