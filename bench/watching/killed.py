"""Whether every answer is counted once, though a worker is killed under load.

    python bench/monitoring.py killed [--seconds 40]      a minute

Four workers, of which one gets SIGKILL; the rest is stopped in the ordinary way. What clients were answered is
compared with the tables. Asked for: no more, and no fewer but for the killed one's last ten seconds.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import orjson
from load import cpu, load, request, show

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import predictors

from kt.config import Settings
from kt.store import connect, traffic
from kt.store.streams import streams

FLUSH = 10.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = predictors.make_three(Path(folder))
        made.settings(f"[predictor]\nflush = {FLUSH}\n")
        answered: Counter[int] = Counter()  # by second, on the monotonic clock
        with predictors.serving(made, "--workers", "4") as running:
            asked = (
                request("/predict", orjson.dumps({"x": [0.25], "student_id": f"s-{n}"}))
                for n in range(10_000_000)
            )
            killed: list[float] = []

            def kill() -> None:
                time.sleep(options.seconds * 0.6)
                os.kill(max(running.workers(), key=cpu), signal.SIGKILL)  # the busiest
                killed.append(time.monotonic())

            threading.Thread(target=kill).start()
            measured = load(
                running.port,
                asked,
                options.seconds,
                each=lambda began, ended, status, body: answered.update([int(ended)]),
            )
            time.sleep(1.0)  # those that were on their way when the load ended
            running.stop()
        store = connect.open(made.root, Settings())
        known = [one.id for one in streams(store)]
        served = sum(
            one.served for one in traffic.total(store, known, 0, 2**31, ["counts"]).values()
        )
    given = len(measured.latencies)
    last = sum(n for second, n in answered.items() if killed[0] - FLUSH - 1 <= second <= killed[0])
    extra = len(measured.broke) + 16  # may have been answered, and nobody read it
    show(
        [
            {
                "answered": given,
                "in the tables": served,
                "missing": given - served,
                "answered by all in the killed one's last 10 s": last,
                "broken": measured.broken,
            }
        ]
    )
    if served > given + extra or given - served > last:
        sys.exit("counted twice, or lost")


if __name__ == "__main__":
    main()
