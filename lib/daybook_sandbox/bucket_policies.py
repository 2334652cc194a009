"""Bucket policies that speak of TLS: moto denies by a statement whose condition does not hold."""

from __future__ import annotations

import functools

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

PLAIN_HTTP = {"Bool": {"aws:SecureTransport": "false"}}
"""A condition that holds for nobody here: the API's loopback counts as TLS."""


def patch() -> None:
    """Let a statement about plain HTTP alone concern nobody; a second call changes nothing."""
    original = IAMPolicyStatement.is_action_permitted
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def is_action_permitted(self, *args, **kwargs):
        if self._statement.get("Condition") == PLAIN_HTTP:
            return PermissionResult.NEUTRAL
        return original(self, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = is_action_permitted
