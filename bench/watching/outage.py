"""Whether predictions go on, and nothing is lost in silence, while the tables cannot be written.

    python bench/monitoring.py outage [--lock 60]      three minutes

A server with two workers under load: its database is locked for a minute; deleted, as by `rm kt.db*`; on a full disk (a
small tmpfs: root alone can mount it). Asked for: every answer 200, every answer in the tables or counted as given up. What
was in a deleted database is gone; the answers after it must be there. A clock set back an hour: tests/unit/predictor/test_writer.py.
"""

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from load import Measured, load, request, show

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import predictors

from kt.config import Settings
from kt.store import connect, traffic
from kt.store.streams import streams

FLUSH = 2.0
SECONDS = 20.0  # of load after a fault is over, or while it lasts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=float, default=60.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            outage(Path(folder) / "locked", lambda root: locked(root, options.lock)),
            outage(Path(folder) / "deleted", deleted),
        ]
        disk = Path(folder) / "full"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                rows.append(outage(disk, full))
            finally:
                subprocess.run(["umount", str(disk)], check=True)
    show(rows)
    if any(row["lost in silence"] or row["not 200"] for row in rows):
        sys.exit("lost")


def outage(root: Path, fault: Callable[[Path], AbstractContextManager[float]]) -> dict[str, Any]:
    """Load before, during and after a fault. Answers that were in the tables before it need not be there after."""
    made = predictors.make_three(root)
    made.settings(f"[predictor]\nflush = {FLUSH}\n")
    with predictors.serving(made, "--workers", "2") as running:

        def loaded(seconds: float) -> Measured:
            return load(running.port, asked(), seconds, pause=0.002)

        before = loaded(5.0)
        time.sleep(2 * FLUSH)
        there = served(root)
        with fault(root) as lasts:
            during = loaded(lasts)
            told = [running.health()["recording"] for _ in range(8)]
        after = loaded(5.0)
        time.sleep(2 * FLUSH + 6)  # a write may just be waiting
        health = [running.health()["recording"] for _ in range(8)]
        running.stop()
    answered = sum(len(one.latencies) for one in (before, during, after))
    statuses = Counter[int]()
    for one in (before, during, after):
        statuses.update(one.statuses)
    kept = there if fault is deleted else 0  # what a deleted database held
    given_up = sum({one["since"]: one["dropped"] for one in health}.values())
    return {
        "fault": root.name,
        "answered": answered,
        "not 200": answered - statuses[200],
        "p99 ms before": before.percentile(99),
        "during": during.percentile(99),
        "told": ", ".join(sorted({one["reason"] or one["state"] for one in told}))[:60],
        "in the tables": served(root) + kept,
        "given up": given_up,
        "lost in silence": max(0, answered - served(root) - kept - given_up),
    }


def asked() -> Iterator[bytes]:
    for n in range(10_000_000):
        yield request("/predict", orjson.dumps({"x": [0.25], "student_id": f"s-{n}"}))


def served(root: Path) -> int:
    store = connect.open(root, Settings())
    known = [one.id for one in streams(store)]
    return sum(one.served for one in traffic.total(store, known, 0, 2**31, ["counts"]).values())


# Faults: while they last, the seconds of load that go with them


@contextmanager
def locked(root: Path, seconds: float) -> Iterator[float]:
    held = sqlite3.connect(root / "kt.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    try:
        yield seconds
    finally:
        held.rollback()
        held.close()


@contextmanager
def deleted(root: Path) -> Iterator[float]:
    for path in root.glob("kt.db*"):
        path.unlink()
    yield SECONDS


@contextmanager
def full(root: Path) -> Iterator[float]:
    big = root / "big"
    with big.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    yield SECONDS
    big.unlink()


if __name__ == "__main__":
    main()
