#!/bin/bash
# GitHub's runner asks this before a job's first step; anything but 0 ends the job there.
exec /usr/bin/python3 -I /usr/local/lib/daybook/job_started.py
