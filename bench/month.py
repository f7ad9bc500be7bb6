"""A simulated month of a workspace that is left alone: seven planted situations, and how each of them ends.

    python bench/month.py [--days 30] [--every 3] [--journal]

What decides, journals, deploys, watches, promotes and tells is kt's own; who trains and the model door are
stand-ins, and time is an argument. --every: hours between two looks. --journal: every event, too.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from left_alone import DAY, SITUATIONS, Found, LeftAlone, Situation  # they load the path above

from kt.cli import output


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--every", type=int, default=3, metavar="HOURS")
    parser.add_argument("--journal", action="store_true")
    asked = parser.parse_args()
    rows, right = [], True
    for situation in SITUATIONS:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            world = LeftAlone(Path(folder) / "workspace", situation, asked.every)
            found = world.live_through(asked.days * DAY)
        cpu = time.process_time() - began
        wrong = found.differs(situation, asked.days * DAY)
        right = right and not wrong
        rows.append(row(situation, found, wrong, cpu))
        if asked.journal or wrong:
            print(f"\n{situation.name}", *found.lines, *wrong, sep="\n  ")
    headers = ("SITUATION", "RUNS", "ALERTS", "ACTIVE", "HOLD", "AS SPECIFIED", "CPU S")
    print(output.table(headers, rows))
    if not right:
        sys.exit(1)


def row(situation: Situation, found: Found, wrong: list[str], cpu: float) -> tuple[str, ...]:
    outcomes = Counter(f"{one.outcome} ({one.why})" for one in found.runs)
    return (
        situation.name,
        ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items()),
        ", ".join(found.alerts),
        found.active,
        "yes" if found.held else "",
        "no" if wrong else "yes",
        f"{cpu:.1f}",
    )


if __name__ == "__main__":
    main()
