"""Upper limits of everything that an image can request; docs/releases.md shows this table."""

from __future__ import annotations

FILE_BYTES = 64 * 1024
DEPTH = 20
NODES = 5000
"""Values in the file; an alias counts as all the values that it refers to."""
ALIASES = 100
SERVICES = 20
COPIES = 10
PORTS = 10
HEALTH_S = 600
DRAIN_S = 300
STOP_S = 120
LOG_MB = 100
LOG_FILES = 10
LOG_BUFFER_MB = 16
"""This buffer is in the memory of Docker's engine."""
CPU_SHARES = 1024
PROCESSES, USUAL_PROCESSES = 4096, 1024
"""Processes and threads of a container: the maximum, and the default."""
LEAST_INTERVAL_S, LEAST_START_INTERVAL_S = 1.0, 0.2
PULL_S = 1200
MIGRATE_S = 1800
RELEASE_S = 2700
LOCK_S = 3540
"""Less than an hour, so that processes still running then can be killed within the hour."""

TABLE = (
    ("size of `compose.yaml`", FILE_BYTES, "bytes"),
    ("nesting of `compose.yaml`", DEPTH, "levels"),
    ("values in `compose.yaml`, aliases expanded", NODES, "values"),
    ("aliases in `compose.yaml`", ALIASES, "aliases"),
    ("services, networks and volumes, of each", SERVICES, "entries"),
    ("`scale` or `deploy.replicas` of a worker or an accessory", COPIES, "containers"),
    ("containers of all services together", SERVICES, "containers"),
    ("`ports` of a service", PORTS, "entries"),
    ("`start_period` + `retries` * (`interval` + `timeout`)", HEALTH_S, "seconds"),
    ("`max-size` of a log", LOG_MB, "MB"),
    ("`max-file` of a log", LOG_FILES, "files"),
    ("`max-buffer-size` of a log", LOG_BUFFER_MB, "MB"),
    ("`pids_limit`; 1,024 unless the file sets it", PROCESSES, "processes and threads"),
    ("`cpu_shares`", CPU_SHARES, "shares"),
    ("`x-release.drain`", DRAIN_S, "seconds"),
    ("`stop_grace_period`", STOP_S, "seconds"),
    ("pulling one image", PULL_S, "seconds"),
    ("`x-release.migrate`", MIGRATE_S, "seconds"),
    ("a release before it is committed; then it is undone", RELEASE_S, "seconds"),
    ("any command that holds the lock; then it is ended", LOCK_S, "seconds"),
)


def table() -> list[str]:
    """Return the limits as the lines of a Markdown table."""
    rows = [f"| {name} | {value:,} {unit} |" for name, value, unit in TABLE]
    return ["| limit | maximum |", "|---|---|", *rows]
