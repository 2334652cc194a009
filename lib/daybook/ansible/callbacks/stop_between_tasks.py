"""Stop a play on request, but only between two tasks.

On SIGINT, Ansible itself kills the running task: for example apt during an upgrade.
"""

import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: stop_between_tasks
    type: aggregate
    short_description: Stops a play between two tasks
    description: Stops a play before its next task if the file named by DAYBOOK_STOP exists.
"""


class CallbackModule(CallbackBase):
    """Raises KeyboardInterrupt: Ansible closes its connections and exits with code 99."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stop_between_tasks"

    def v2_playbook_on_play_start(self, play):
        self._stop_if_requested()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._stop_if_requested()

    def v2_playbook_on_handler_task_start(self, task):
        self._stop_if_requested()

    def _stop_if_requested(self):
        if os.path.exists(os.environ.get("DAYBOOK_STOP", "")):
            raise KeyboardInterrupt
