"""Ansible: run playbooks with ansible-runner, and report each task's result on each host."""

from daybook.ansible.events import OnEvent, PlayEvent, show_progress
from daybook.ansible.runner import PlayResult, Stats, play

__all__ = ["OnEvent", "PlayEvent", "PlayResult", "Stats", "play", "show_progress"]
