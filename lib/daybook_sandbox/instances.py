"""Two instance attributes that moto does not maintain: termination protection and launch time."""

from __future__ import annotations

import functools

from moto.core.utils import utcnow
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse


def patch() -> None:
    """Apply DisableApiTermination at launch, and update the launch time on each start."""
    if hasattr(InstanceResponse.run_instances, "__wrapped__"):
        return
    run, start = InstanceResponse.run_instances, Instance.start

    @functools.wraps(run)
    def run_instances(self):
        launched = run(self)
        if self._get_param("DisableApiTermination"):
            for instance in launched.result.instances:
                instance.disable_api_termination = True
        return launched

    @functools.wraps(start)
    def start_now(self):
        self.launch_time = utcnow()
        return start(self)

    InstanceResponse.run_instances, Instance.start = run_instances, start_now
