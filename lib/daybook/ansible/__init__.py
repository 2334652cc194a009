"""Ansible: run playbooks with ansible-runner, and report each task's result on each host."""

from daybook.ansible.events import Event, OnEvent, show_progress
from daybook.ansible.runner import PlayResult, Stats, play

__all__ = ["Event", "OnEvent", "PlayResult", "Stats", "play", "show_progress"]
