"""Durations, ages, times and persons are formatted the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daybook.ui import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (0.96, "1 s"),
        (12.4, "12 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("since", "text"),
    [
        (timedelta(seconds=12), "12 s"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=40), "40 days"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_ages(since, text):
    assert formats.age(datetime.now(UTC) - since) == text


def test_timestamps():
    assert formats.timestamp("2026-11-23T18:45:00.123Z") == "2026-11-23 18:45:00 UTC"
    assert formats.timestamp("") == "-"


@pytest.mark.parametrize(
    ("operator", "person", "name"),
    [
        ({"user": "ann", "name": "Ann Lee", "email": "a@x"}, "Ann Lee <a@x>", "Ann Lee"),
        ({"user": "ann", "name": "Ann Lee", "email": ""}, "Ann Lee", "Ann Lee"),
        ({"user": "ann", "name": "", "email": "a@x"}, "ann <a@x>", "ann"),
        ({"user": "ann", "name": None}, "ann", "ann"),
        ({}, "", ""),
    ],
)
def test_persons(operator, person, name):
    assert formats.person(operator) == person
    assert formats.name_of(person) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ([], "-"), (0, "0"), (False, "False"), ({"a": [1]}, '{"a": [1]}')],
)
def test_values(value, text):
    assert formats.value(value) == text
