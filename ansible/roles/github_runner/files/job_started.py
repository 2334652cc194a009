"""Refuse all jobs except those of this environment's branch, workflow and repository.

GitHub assigns a repository's runner to any job that requests its labels: also to jobs of other
branches, other workflows and pull requests. Those jobs end here, before their first step.
https://docs.github.com/en/actions/how-tos/manage-runners/self-hosted-runners/run-scripts
"""

import json
import os
import sys

SETTINGS = "/etc/daybook/runner.json"
EVENTS = ("push", "workflow_dispatch")
"""Events of a branch itself; a pull request's branch may have the same name."""


def problems(job, settings):
    """Return the differences from a permitted job: ["GITHUB_REF is …, not refs/heads/main"]."""
    repository, ref = settings["repository"], settings["ref"]
    expected = {
        "GITHUB_REPOSITORY": (repository,),
        "GITHUB_REF": (ref,),
        "GITHUB_WORKFLOW_REF": (f"{repository}/{settings['workflow']}@{ref}",),
        "GITHUB_EVENT_NAME": EVENTS,
    }
    return [
        f"{name} is {job.get(name) or 'not set'}, not {' or '.join(allowed)}"
        for name, allowed in expected.items()
        if job.get(name) not in allowed
    ]


def main():
    """Return 0 for a permitted job, 1 for any other."""
    with open(SETTINGS, encoding="utf-8") as file:
        settings = json.load(file)
    differences = problems(os.environ, settings)
    if not differences:
        return 0
    print(f"::error::This runner releases {settings['environment']} and refuses this job.")
    for difference in differences:
        print(f"  {difference}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
