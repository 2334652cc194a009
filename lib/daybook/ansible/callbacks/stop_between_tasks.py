"""End a play before its next task once somebody asks: no task is cut in half.

Ansible's own answer to SIGINT kills the task that runs: apt in mid-upgrade, for example.
"""

import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: stop_between_tasks
    type: aggregate
    short_description: Ends a play between two tasks
    description: Ends a play before its next task once the file named by DAYBOOK_STOP exists.
"""


class CallbackModule(CallbackBase):
    """Raises what Ctrl-C raises: Ansible closes its connections and exits with code 99."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stop_between_tasks"

    def v2_playbook_on_play_start(self, play):
        self._stop_if_asked()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._stop_if_asked()

    def v2_playbook_on_handler_task_start(self, task):
        self._stop_if_asked()

    def _stop_if_asked(self):
        if os.path.exists(os.environ.get("DAYBOOK_STOP", "")):
            raise KeyboardInterrupt
