"""Terraform: plan, show, apply exactly that plan, tell what happened on the way."""

from daybook.terraform.events import Diagnostic, Event, show_progress
from daybook.terraform.plan import TASKS, Applied, Change, Plan
from daybook.terraform.runner import Outputs, Terraform, mirror_config, variables_environment

__all__ = [
    "TASKS",
    "Applied",
    "Change",
    "Diagnostic",
    "Event",
    "Outputs",
    "Plan",
    "Terraform",
    "mirror_config",
    "show_progress",
    "variables_environment",
]
