"""Bucket policies that require TLS: moto applies a Deny even if its condition is not met."""

from __future__ import annotations

import functools

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

PLAIN_HTTP = {"Bool": {"aws:SecureTransport": "false"}}
"""A condition that no call meets: calls to the API on loopback count as TLS."""


def patch() -> None:
    """Ignore statements that apply only to plain HTTP; a second call changes nothing."""
    original = IAMPolicyStatement.is_action_permitted
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def is_action_permitted(self, *args, **kwargs):
        if self._statement.get("Condition") == PLAIN_HTTP:
            return PermissionResult.NEUTRAL
        return original(self, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = is_action_permitted
