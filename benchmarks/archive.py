"""Measure the archive: indexing, list, search and verify, in one run.

.venv/bin/python benchmarks/archive.py [--records 100000] [--sealed 300]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from daybook import signers
from daybook.record import journal, seal, signing, summary, verification
from daybook.record.journal import Journal
from daybook.record.search import Archive, Filters

STEPS = ("provision", "configure", "first-deploy", "deploy", "rollback", "patch", "teardown")
WORDS = ("vpc", "subnet", "instance", "caddy", "docker", "image", "release", "drift", "backup")
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def write_run(root: Path, number: int, chance: random.Random) -> Journal:
    """Write the journal of a run with about 40 lines, like a small real one."""
    step, environment = chance.choice(STEPS), chance.choice(("staging", "production"))
    started = FIRST_DAY + timedelta(minutes=13 * number)
    run = f"{started:%Y%m%dT%H%M%SZ}-{step}-{number:06x}"
    header = {"run": run, "step": step, "environment": environment, "target": "aws"}
    header |= {"account": "123456789012", "region": "us-east-1", "parameters": {"env": environment}}
    header |= {"operator": {"user": "ann", "name": "Ann Example", "email": "ann@example.com"}}
    header |= {"host": {"name": "here", "system": "Linux"}, "versions": {"python": "3.13"}}
    header |= {"git": {"commit": f"{number:040x}", "branch": "main", "dirty": []}}
    writer = Journal.create(root / "runs" / environment / run, header)
    for cell in range(1, 7):
        source = f"step.{chance.choice(WORDS)}()"
        writer.write("cell_start", cell=cell, source=source, sha256=f"{cell:064x}")
        for _ in range(3):
            text = " ".join(chance.choices(WORDS, k=12)) + f" host-{number}\n"
            writer.write("output", cell=cell, type="stream", name="stdout", text=text)
        writer.write("cell_end", cell=cell, status="ok", seconds=0.5)
    return writer


def generate(root: Path, count: int) -> None:
    """Write closed records for indexing, without the fsyncs and reports of real ones."""
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as scratch:
        writer = write_run(Path(scratch), 0, chance)
        writer.close("succeeded")
        model = journal.read(writer.path).lines
    for number in range(count):
        run, lines = forge(root, number, chance, model)
        run.mkdir(parents=True)
        (run / journal.NAME).write_bytes(b"\n".join(map(journal.encode, lines)) + b"\n")
        (run / seal.NAME).write_text(json.dumps(summary_of(lines)))


def forge(
    root: Path, number: int, chance: random.Random, model: Sequence[dict]
) -> tuple[Path, list[dict]]:
    """Return the folder and lines of a record, based on a real journal."""
    started = FIRST_DAY + timedelta(minutes=13 * number)
    step, environment = chance.choice(STEPS), chance.choice(("staging", "production"))
    name = f"{started:%Y%m%dT%H%M%SZ}-{step}-{number:06x}"
    time_of = started.isoformat().replace("+00:00", "Z")
    lines = [line | {"time": time_of} for line in model]
    lines[0] |= {"run": name, "step": step, "environment": environment}
    for line in lines:
        if line["kind"] == "output":
            line["text"] = " ".join(chance.choices(WORDS, k=12)) + f" host-{number}\n"
    lines[-1]["status"] = chance.choice(("succeeded", "succeeded", "failed", "interrupted"))
    return root / "runs" / environment / name, lines


def summary_of(lines: list[dict]) -> dict:
    return summary.summarise(journal.Entries(tuple(lines))) | {"files": {}, "previous": None}


def milliseconds(call: Callable[[], object], rounds: int = 9) -> float:
    """Return the median time of a call."""
    durations = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        durations.append((time.perf_counter() - started) * 1000)
    return statistics.median(durations)


def seal_records(root: Path, count: int) -> None:
    """Seal real records with a real key."""
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "key"]
    subprocess.run(keygen, check=True)
    (root / "environments").mkdir()
    public = signing.public_key(root / "key")
    signer = f'ann@example.com namespaces="{signers.RECORD}" {public}\n'
    (root / signers.FILE).write_text(signer)
    chance = random.Random(7)
    for number in range(count):
        writer = write_run(root, number, chance)
        seal.close(writer.path.parent, "succeeded", open_journal=writer, key=root / "key")


def main() -> None:
    """Measure and print a table with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--sealed", type=int, default=300)
    arguments = parser.parse_args()
    table = Table("operation", "measured", "target")
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name:
        root = Path(name)
        generate(root, arguments.records)
        started = time.perf_counter()
        index = Archive(root)
        index.refresh()
        rate = arguments.records / (time.perf_counter() - started)
        table.add_row(f"indexing {arguments.records:,}", f"{rate:,.0f}/s", "2,000/s")
        queries = {
            "list": lambda: index.list(),
            "list, filtered": lambda: index.list(Filters(step="deploy", status="failed")),
            "search, rare word": lambda: index.search(f"host-{arguments.records // 2}"),
            "search, common words": lambda: index.search("caddy docker"),
            "search, filtered": lambda: index.search("drift", Filters(environment="staging")),
        }
        for title, query in queries.items():
            table.add_row(title, f"{milliseconds(query):.1f} ms", "100 ms")
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name:
        root = Path(name)
        seal_records(root, arguments.sealed)
        started = time.perf_counter()
        states = {verdict.state for verdict in verification.verify_all(root)}
        rate = arguments.sealed / (time.perf_counter() - started)
        assert states == {verification.INTACT}, states
        table.add_row(f"verify {arguments.sealed:,} signed", f"{rate:,.0f}/s", "200/s")
    Console().print(table)


if __name__ == "__main__":
    main()
