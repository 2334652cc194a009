"""Ansible: play a playbook through ansible-runner, tell what each task did on each host."""

from daybook.ansible.events import Event, OnEvent, show_progress
from daybook.ansible.runner import PlayResult, Stats, play

__all__ = ["Event", "OnEvent", "PlayResult", "Stats", "play", "show_progress"]
