"""How many requests a treatment gets that does harm.

    python bench/monitoring.py brake [--runs 40]      two minutes

Over HTTP with four workers and 16 connections for one that fails every request (asked for: within ten requests to it, or
2 s, whichever is later). By the rule alone, many runs, for what fails sometimes (asked for at 20 %, 10 % of the
traffic: the median within 40), is as good as the control, or is slow.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import orjson
from load import load, request, show

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import predictors

from kt.predictor.brake import Counts, judged

MOST = 20_000  # requests of a simulated run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    show([served(share) for share in (10.0, 50.0, 90.0)])
    rules = (
        ("20 % errors", 0.1, 0.0, 0.2), ("20 % beside 0.5 %", 0.1, 0.005, 0.2), ("5 % beside 1 %", 0.1, 0.01, 0.05),
        ("20 % errors, half the traffic", 0.5, 0.0, 0.2), ("as good, 1 %", 0.1, 0.01, 0.01),
        ("as good, 1 %, half the traffic", 0.5, 0.01, 0.01),
    )  # fmt: skip
    show([simulated(name, options.runs, *rule) for name, *rule in rules])


def served(share: float) -> dict[str, object]:
    """What clients see of a treatment that fails every request."""
    with tempfile.TemporaryDirectory() as folder:
        made = predictors.make(Path(folder))
        made.settings("")
        made.add("v1")
        made.add("sick", does="raise")
        made.deploy(5, toy=made.route("v1", "sick", traffic=share))
        times: list[float] = []

        def each(began: float, ended: float, status: int, body: bytes) -> None:
            assert status == 200, body
            if b'"fallback"' in body:
                times.append(ended)

        with predictors.serving(made, "--workers", "4") as running:
            time.sleep(2.0)  # all workers are there
            measured = load(running.port, asked(), 8.0, each=each)
    took = times[-1] - times[0]
    if len(times) > 10 and took > 2.0:
        sys.exit(f"{len(times)} requests in {took:.1f} s")
    return {
        "share %": share,
        "requests": len(measured.latencies),
        "to the treatment": len(times),
        "over s": took,
    }


def asked() -> Iterator[bytes]:
    for n in range(10_000_000):
        yield request("/predict", orjson.dumps({"x": [0.75], "student_id": f"s-{n}"}))


def simulated(
    name: str, runs: int, share: float, control: float, treatment: float
) -> dict[str, object]:
    """Requests to the treatment until it is out."""
    rng = random.Random(0)
    found = [out for _ in range(runs) if (out := until(rng, share, control, treatment))]
    return {
        "treatment": name,
        "out of runs": f"{len(found)}/{runs}",
        "median requests": median(found) if found else "",
    }


def until(rng: random.Random, share: float, control: float, treatment: float) -> int | None:
    """None where it is still in after MOST requests."""
    theirs, ours = Counts(), Counts()
    for _ in range(MOST):
        treated = rng.random() < share
        failed = rng.random() < (treatment if treated else control)
        one = Counts(1, failed, 1, 0)
        if treated:
            ours += one
            if failed and judged(theirs, ours, share):
                return ours.requests
        else:
            theirs += one
    return None


if __name__ == "__main__":
    main()
