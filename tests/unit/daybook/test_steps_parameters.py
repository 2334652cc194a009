"""The parameters of steps are typed, and mistakes are one error that names the fix."""

from __future__ import annotations

import pytest

from daybook.errors import SettingsError
from daybook.steps.deploy import Deploy
from daybook.steps.parameters import given_parameters
from daybook.steps.patch import Patch
from daybook.steps.teardown import Teardown


def test_an_unknown_parameter_fails_with_the_nearest_name():
    with pytest.raises(SettingsError) as caught:
        Deploy("staging", imgae="3f2a91c04d77")
    assert "imgae: no such parameter" in str(caught.value)
    assert "image" in caught.value.details[0].partition(";")[2]
    assert "image (str)" in caught.value.next


@pytest.mark.parametrize(
    ("kind", "given", "field", "value"),
    [
        (Patch.Parameters, {"reboot": "false"}, "reboot", False),
        (Patch.Parameters, {"reboot": True}, "reboot", True),
        (Teardown.Parameters, {"skip_snapshots": "all"}, "skip_snapshots", "all"),
        (Deploy.Parameters, {}, "image", ""),
    ],
)
def test_values_get_the_types_of_their_fields(kind, given, field, value):
    assert getattr(given_parameters("step", kind, given), field) is value


def test_every_mistake_is_listed_at_once():
    with pytest.raises(SettingsError) as caught:
        given_parameters("patch", Patch.Parameters, {"reboot": "perhaps", "aprove": "auto"})
    assert len(caught.value.details) == 2
    assert caught.value.exit_code == 2
