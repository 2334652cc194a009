"""Refuse every job that is not a push's to this environment's branch, by its own workflow.

GitHub gives a repository's runner to whatever job asks for its labels: one of another branch, of
another workflow, of a pull request. This is where such a job ends, before its first step.
https://docs.github.com/en/actions/how-tos/manage-runners/self-hosted-runners/run-scripts
"""

import json
import os
import sys

SETTINGS = "/etc/daybook/runner.json"
EVENTS = ("push", "workflow_dispatch")
"""What begins a job of the branch itself. A pull request's is not, whatever it calls its branch."""


def problems(job, settings):
    """Return how a job differs from this environment's own: ["GITHUB_REF is …, not …"]."""
    repository, ref = settings["repository"], settings["ref"]
    expected = {
        "GITHUB_REPOSITORY": (repository,),
        "GITHUB_REF": (ref,),
        "GITHUB_WORKFLOW_REF": (f"{repository}/{settings['workflow']}@{ref}",),
        "GITHUB_EVENT_NAME": EVENTS,
    }
    return [
        f"{name} is {job.get(name) or 'not there'}, not {' or '.join(allowed)}"
        for name, allowed in expected.items()
        if job.get(name) not in allowed
    ]


def main():
    """Return 0 for a job of this environment's own, 1 for any other."""
    with open(SETTINGS, encoding="utf-8") as file:
        settings = json.load(file)
    found = problems(os.environ, settings)
    if not found:
        return 0
    print(f"::error::This runner releases {settings['environment']} and refuses this job.")
    for problem in found:
        print(f"  {problem}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
