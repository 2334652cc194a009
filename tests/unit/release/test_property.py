"""The property of F7: no model that Compose runs gives a container access to the host."""

from __future__ import annotations

import json

import pytest
from compose_attacks import ATTACKS, GOOD, ORDINARY, attacked
from compose_strategies import APP, IMAGE, KEYS, SECRETS, render, texts
from confinement import gains
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook_release import document, generate, names, rules, variables

TOP = ("name", "services", "volumes", "networks", "x-release", "include", "version")
MANY = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.attack("F7", "a random compose file gives a container access to the host")
@MANY
@given(texts())
def test_an_allowed_file_gains_nothing(text):
    rendered = render(text)
    if rendered is not None:
        assert gains(rendered, app=APP, image=IMAGE) == []


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
TREES = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), below, max_size=4)
    ),
    max_leaves=25,
)


OPTIONS = st.dictionaries(
    st.sampled_from(("web", "health", "version", "migrate", "drain")), LEAVES | TREES, max_size=5
)


@pytest.mark.attack("F9", "a compose file with values of other types causes a traceback")
@MANY
@given(st.dictionaries(st.sampled_from(TOP), TREES, max_size=5), st.none() | OPTIONS)
def test_any_data_is_checked(tree, release_options):
    """Data of any type yields a list of reasons, never a traceback."""
    tree |= {"x-release": release_options} if release_options is not None else {}
    rules.release_options(tree)
    for problem in rules.problems(tree) + rules.unknown(tree, ()):
        assert problem.line(document.ComposeDocument(tree, {})).isprintable()
    rules.problems(tree, rules.RenderedValues("shop", "x:1", "web", 8000))


@pytest.mark.parametrize("text", [GOOD, *ORDINARY.values()])
def test_good_files_are_allowed_and_gain_nothing(text):
    rendered = render(text)
    assert gains(rendered, app=APP, image=IMAGE) == []
    values = json.dumps(rendered)
    assert json.dumps(SECRETS["DATABASE_PASSWORD"].replace("$", "$$"))[1:-1] in values or (
        json.dumps(SECRETS["RAILS_MASTER_KEY"].replace("$", "$$"))[1:-1] in values
    )


def test_gains_detects_the_attacks():
    """Without this, the property could hold because `gains` detects nothing.

    Most of the attacks must be detected when the rules are bypassed.
    """
    undetected = []
    for attack, path, value in ATTACKS:
        model = attacked(path, value)
        try:
            generated = generate.generate(
                model, app=APP, release="r1", slot="green", port=8001, names=names.OWN
            )
            # The model without the rules: all keys of the file are kept.
            for name, service in model["services"].items():
                slot_name = "web-green" if name == "web" else name
                generated["services"][slot_name] = {**service, **generated["services"][slot_name]}
                generated["services"][slot_name] |= {
                    k: service[k] for k in service if k == path[-1]
                }
            generated = {**model, **generated}
            generated.pop("x-release", None)
            if not gains(
                variables.render(generated, dict.fromkeys(names.OWN, "x")), app=APP, image="x"
            ):
                undetected.append(attack)
        except Exception:  # No model can be generated from this file.
            continue
    assert len(undetected) < len(ATTACKS) / 3, undetected


@pytest.mark.attack("F8", "Compose substitutes variables in the value of a secret")
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_value_is_passed_unchanged(value):
    tree = {"environment": {"A": "${SECRET}", "SECRET": None}}
    rendered = variables.render(tree, {"SECRET": value})["environment"]
    assert variables.fill(rendered["A"], {}) == variables.fill(rendered["SECRET"], {}) == value
