#!/bin/bash
# GitHub's runner runs this before a job's first step. Any exit code but 0 ends the job.
exec /usr/bin/python3 -I /usr/local/lib/daybook/job_started.py
