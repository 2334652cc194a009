"""The property of F7: what Compose would run gives no container anything of the host's."""

from __future__ import annotations

import json

import pytest
from compose_attacks import ATTACKS, GOOD, ORDINARY, attacked
from compose_strategies import APP, IMAGE, KEYS, SECRETS, filled_in, texts
from confinement import gains
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook_release import document, generate, names, rules, variables

TOP = ("name", "services", "volumes", "networks", "x-release", "include", "version")
MANY = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.attack("F7", "any compose file, made by chance, gives a container what is the host's")
@MANY
@given(texts())
def test_what_is_allowed_gains_nothing(text):
    made = filled_in(text)
    if made is not None:
        assert gains(made, app=APP, image=IMAGE) == []


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


WISHES = st.dictionaries(
    st.sampled_from(("web", "health", "version", "migrate", "drain")), LEAVES | TREES, max_size=5
)


@pytest.mark.attack("F9", "a compose file whose values are of other types ends in a traceback")
@MANY
@given(st.dictionaries(st.sampled_from(TOP), TREES, max_size=5), st.none() | WISHES)
def test_any_data_is_judged(tree, release_options):
    """Whatever its types: with a reason, and never with a traceback."""
    tree |= {"x-release": release_options} if release_options is not None else {}
    rules.release_options(tree)
    for problem in rules.problems(tree) + rules.unknown(tree, ()):
        assert problem.line(document.ComposeDocument(tree, {})).isprintable()
    rules.problems(tree, rules.RenderedValues("shop", "x:1", "web", 8000))


@pytest.mark.parametrize("text", [GOOD, *ORDINARY.values()])
def test_good_files_are_allowed_and_gain_nothing(text):
    made = filled_in(text)
    assert gains(made, app=APP, image=IMAGE) == []
    values = json.dumps(made)
    assert json.dumps(SECRETS["DATABASE_PASSWORD"].replace("$", "$$"))[1:-1] in values or (
        json.dumps(SECRETS["RAILS_MASTER_KEY"].replace("$", "$$"))[1:-1] in values
    )


def test_the_judge_would_see_the_attacks():
    """Or the property would hold for want of sight: most of the corpus, past the rules."""
    unseen = []
    for what, path, value in ATTACKS:
        model = attacked(path, value)
        try:
            made = generate.generated(
                model, app=APP, release="r1", slot="green", port=8001, names=names.OWN
            )
            # As it would be without the rules: what the file says, and nothing dropped.
            for name, service in model["services"].items():
                here = "web-green" if name == "web" else name
                made["services"][here] = {**service, **made["services"][here]}
                made["services"][here] |= {k: service[k] for k in service if k == path[-1]}
            made = {**model, **made}
            made.pop("x-release", None)
            if not gains(variables.render(made, dict.fromkeys(names.OWN, "x")), app=APP, image="x"):
                unseen.append(what)
        except Exception:  # The file cannot even be made into something to run.
            continue
    assert len(unseen) < len(ATTACKS) / 3, unseen


@pytest.mark.attack("F8", "a secret's value is filled in once more, by Compose")
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_value_arrives_as_it_is(value):
    tree = {"environment": {"A": "${SECRET}", "SECRET": None}}
    rendered = variables.render(tree, {"SECRET": value})["environment"]
    assert variables.fill(rendered["A"], {}) == variables.fill(rendered["SECRET"], {}) == value
