"""Terraform: save a plan, show it, apply exactly that plan, and report progress as events."""

from daybook.terraform import state_lock
from daybook.terraform.events import Diagnostic, TerraformEvent, show_progress
from daybook.terraform.plan import ApplyResult, SavedPlan
from daybook.terraform.runner import (
    GRACE_S,
    Outputs,
    Terraform,
    init_command,
    mirror_config,
    outputs_in,
    unsaved_state,
    variables_environment,
)
from daybook.terraform.state_lock import StateLock

__all__ = [
    "GRACE_S",
    "ApplyResult",
    "Diagnostic",
    "Outputs",
    "SavedPlan",
    "StateLock",
    "Terraform",
    "TerraformEvent",
    "init_command",
    "mirror_config",
    "outputs_in",
    "show_progress",
    "state_lock",
    "unsaved_state",
    "variables_environment",
]
