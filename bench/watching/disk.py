"""What the tables take on the disk after a month, and after a year, of two variants at little and at much traffic.

    python bench/monitoring.py disk [--days 30]      a minute for each 30 days

With eight features, 30 % of the answers labelled, a roll-up a day, and as many units as an experiment keeps.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

from filled import fill

from kt.config import Settings
from kt.store import connect, units
from kt.store.batch import Stream
from kt.store.health import health

TRAFFIC = (1_000_000, 100_000_000, 10_000_000_000)  # answers in 30 days
END = 20_400 * 1440
STREAMS = [
    Stream("m", "v1", "control", "x", 1, 2, 50.0, "probability"),
    Stream("m", "v2", "treatment", "x", 1, 2, 50.0, "probability"),
]
UNITS = 50_000  # of each variant


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=30)
    days = parser.parse_args().days
    for total in TRAFFIC:
        with tempfile.TemporaryDirectory() as folder:
            store = connect.open(Path(folder), Settings())
            fill(store, STREAMS, total * days // 30, END, days)
            with store.write() as connection:
                units.add(connection, {one.id: hashes(one.version) for one in STREAMS})
            store.shrink()
            size = health(store, END).size or 0
            each = size / len(STREAMS) / days * 30 / 1e6
            print(
                f"{total:>14,} answers in 30 days: {size / 1e6:6.1f} MB, {each:.1f} a variant and month"
            )


def hashes(name: str) -> set[bytes]:
    return {hashlib.sha256(f"{name}/{number}".encode()).digest()[:8] for number in range(UNITS)}


if __name__ == "__main__":
    main()
