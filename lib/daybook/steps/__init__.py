"""The steps that the notebooks in notebooks/ and runbooks/ call, one module each."""

from daybook.steps.ami import Ami
from daybook.steps.bootstrap import Bootstrap
from daybook.steps.configure import Configure
from daybook.steps.deploy import Deploy
from daybook.steps.diagnose import Diagnose
from daybook.steps.drift import Drift
from daybook.steps.first_deploy import FirstDeploy
from daybook.steps.patch import Patch
from daybook.steps.provision import Provision
from daybook.steps.rollback import Rollback
from daybook.steps.rotate_secret import RotateSecret
from daybook.steps.teardown import Teardown

__all__ = [
    "Ami",
    "Bootstrap",
    "Configure",
    "Deploy",
    "Diagnose",
    "Drift",
    "FirstDeploy",
    "Patch",
    "Provision",
    "Rollback",
    "RotateSecret",
    "Teardown",
]
