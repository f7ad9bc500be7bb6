"""What a dashboard over a month costs: two variants, eight features, whatever the traffic.

    python bench/monitoring.py dashboard [--answers 1000000]      two minutes

CPU seconds of this process: to read the facts, and to draw the page.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import forge
from filled import fill

from kt import clock
from kt.cli.app import main as kt
from kt.deployments import audit
from kt.monitors.dashboard import page
from kt.monitors.dashboard.facts import WINDOWS
from kt.monitors.dashboard.gather import gather
from kt.monitors.live import live
from kt.store import connect


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = forge.workspace(Path(folder) / "w")
        for name in ("v1", "v2"):
            forge.version(place, "m", name)
        for words in (["deploy", "m@v1"], ["deploy", "m@v2", "--traffic", "50", "--ab-test", "x"]):
            try:
                kt(["--workspace", str(place.root), *words])
            except SystemExit as end:
                if end.code:
                    raise
        _, state = audit.read(place)
        streams = [who.stream for who in live(state)]
        store = connect.open(place.root, place.settings)
        fill(store, streams, asked.answers, int(clock.now().timestamp()) // 60)
        page.one_file(gather(place, "24h", clock.now()), "24h")  # what is imported once
        for window in WINDOWS:
            begin = time.process_time()
            facts = gather(place, window, clock.now())
            read = time.process_time()
            text = page.one_file(facts, window)
            drawn = time.process_time()
            print(
                f"{window:>4}: {read - begin:.2f} s to read, {drawn - read:.2f} s to draw"
                f" {text.count('<figure')} charts, {len(text) / 1000:.0f} kB"
            )


if __name__ == "__main__":
    main()
