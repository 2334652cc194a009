"""Variables of a compose file, substituted without Compose."""

from __future__ import annotations

import pytest

from daybook_release import variables

VALUES = {"A": "one", "EMPTY": "", "COST": "$A ${A} $$"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A-${A}", "one-one"),
        ("${A:-x}", "one"),
        ("${NO:-x}${NO-y}", "xy"),
        ("[${EMPTY-x}][${EMPTY:-x}]", "[][x]"),
        ("${NO:-${A}}!", "one!"),
        ("${NO:-${NEITHER:-deep}}", "deep"),
        ("${A:+set}${NO:+set}${EMPTY:+set}${EMPTY+there}", "setthere"),
        ("${A?needed}${A:?needed}", "oneone"),
        ("$$A $$${A}", "$A $one"),
        ("${COST}", "$A ${A} $$"),
        ("${NO:-a:b-c}", "a:b-c"),
        ("${NO:-}", ""),
    ],
)
def test_variables_have_the_grammar_of_compose(text, expected):
    assert variables.fill(text, VALUES) == expected


@pytest.mark.parametrize("text", ["$", "${", "${A", "$1", "${1}", "${A!b}", "x$ y", "${A:-${B}"])
def test_a_malformed_variable_is_refused(text):
    with pytest.raises(ValueError, match="malformed"):
        variables.parse(text)


def test_required_variables_are_found():
    assert variables.required("$A ${B} ${C:-x} ${D?} ${E:-${F}} $$G ${H:+$I}") == set("ABDFI")


def test_a_rendered_model_has_no_variables():
    tree = {
        "services": {
            "web": {
                "environment": {"A": None, "B": "${COST}", "C": 3},
                "command": ["echo", "$$HOME"],
                "labels": {"environment": "$A"},
            },
            "old": {"environment": ["A", "B=$A"]},
        }
    }
    assert variables.render(tree, VALUES)["services"] == {
        "web": {
            "environment": {"A": "one", "B": "$$A $${A} $$$$", "C": 3},
            "command": ["echo", "$$HOME"],
            "labels": {"environment": "one"},
        },
        "old": {"environment": {"A": "one", "B": "one"}},
    }
