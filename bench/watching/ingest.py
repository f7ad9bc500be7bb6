"""How fast outcomes that come late are counted, and that it does not matter how often they are told.

    python bench/monitoring.py ingest [--n 100000] [--days 7]      a minute

Outcomes of predictions of a week, in any order, told for the first time, again, and a tenth of them the other
way round (asked for: 100,000 in less than 10 s; what is told again changes nothing; what is corrected counts
as if it had been right at first).
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from load import show

from kt import clock
from kt.config import Settings
from kt.stats.scored import Scores
from kt.store import answered, connect, labels, outcomes, secret
from kt.store.batch import Stream
from kt.store.ids import Ids
from kt.store.labels import Labels
from kt.store.streams import remember

NAMES = ("control", "treatment")
STREAMS = [Stream("m", name, name, "x", 1, 2, 50.0, "probability") for name in NAMES]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--days", type=float, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = connect.open(root, Settings())
        ids = Ids(secret.ensure(root, clock.now()))
        with store.write() as connection:
            remember(connection, STREAMS)
        rng = random.Random(0)
        now = clock.now()
        minute = int(now.timestamp()) // 60
        back = int(options.days * 1_440)
        truth: list[dict[str, Any]] = []
        first: list[dict[str, Any]] = []
        for number in range(options.n):
            when, bucket = minute - rng.randrange(back), rng.randrange(128)
            stream = STREAMS[number % 2].id
            name = ids.make(stream, when, bucket, Scores("probability", [rng.random()]))
            value = rng.getrandbits(1)
            truth.append({"prediction_id": name, "outcome": value})
            first.append(truth[-1] | {"outcome": 1 - value if number % 10 == 0 else value})

        def told(what: str, entries: list[dict[str, Any]]) -> tuple[dict[str, object], Labels]:
            wall, cpu = time.perf_counter(), time.process_time()
            found = [one for entry in entries for one in outcomes.read(ids, entry)]
            counted = answered.ingest(store, found, now, answered.rules(Settings()))
            row = {
                "what": what,
                "wall s": round(time.perf_counter() - wall, 1),
                "cpu s": round(time.process_time() - cpu, 1),
                "accepted": counted.accepted,
                "corrected": counted.corrected,
                "duplicate": counted.duplicate,
            }
            sums = Labels()
            ends = 0, minute + 60
            for one in labels.total(store, [each.id for each in STREAMS], *ends).values():
                sums.merge(one)
            return row, sums

        rows = [told("first", first), told("again", first), told("corrected", truth)]
        show([row for row, _ in rows])
        assert rows[0][1] == rows[1][1], "what was told again has changed something"
        wanted = [entry["outcome"] for entry in truth]
        last = rows[-1][1]
        assert (last.n, last.positives.count) == (options.n, sum(wanted))
        print(f"{(root / 'kt.db').stat().st_size / options.n:.0f} bytes an outcome")


if __name__ == "__main__":
    main()
