"""Retraining on real learners: is a model that its job retrains at least as good as one that nobody does?

    python bench/retraining.py --data ../shared/data/assist2015 --plot docs/retraining.svg
    python bench/retraining.py --students 400 --first 100 --blocks 2      # simulated, small

The job trains on the first learners and deploys. The others come block by block, in the order of their ids
(the set has no times): they ask the predictor over HTTP for their next answer at some places, tell what it was,
and their answers join the job's data. After each block the daemon's tasks are run as the daemon starts them:
the canary's step, the monitor, the job. Beside what learners were told stands what the first version would
have told them, of the same answers.

Prints one JSON object on stdout; talk goes to stderr. Ends with 1 where the live model is surely worse.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import main_job
import numpy as np

from kt.jobs import book, daemon
from kt.models import answers, metrics
from kt.models import data as room
from kt.models.metrics import Events
from kt.registry import load, record
from kt.workspace import Workspace

MODEL = "tutor"
PLACES = (1, 3, 6, 10, 15, 21, 28, 36, 45)  # answers before one that is asked for
SETTINGS = """
[predictor]
engine = "torch"
flush = 1.0

[jobs.refresh]
model = "tutor"
family = "{family}"
options = {options}
metric = "auc"
margin = 0.002
then = "canary"
steps = [50, 100]
every = 0
cooldown = 0

[[jobs.refresh.data]]
name = "files"
paths = ["answers"]

[[jobs.refresh.trigger]]
name = "samples"
count = {count}
"""
Learner = tuple[str, list[tuple[str, int]]]  # item, response, oldest first


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kt-retraining-") as folder:
        found = run(Path(folder), options)
    if options.plot:
        draw(found, options.plot)
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["gain"]["high"] >= 0 else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data set; simulated learners without")
    parser.add_argument("--students", type=int, default=400, help="simulated learners")
    parser.add_argument("--first", type=int, default=800, help="learners of the first training")
    parser.add_argument("--block", type=int, default=0, help="learners between two looks")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--count", type=int, default=10_000, help="new answers that are due")
    parser.add_argument("--family", default="gpcm")
    parser.add_argument("--options", default="{epochs = 20}", help="of kt train, as in kt.toml")
    parser.add_argument("--plot", type=Path, help="an SVG of the AUC over time")
    return parser.parse_args()


def run(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    kt(root, "init", ".")
    source = options.data.resolve() if options.data else main_job.simulate(root, options.students)
    learners = read(source)
    first, others = learners[: options.first], learners[options.first :]
    size = options.block or len(others) // options.blocks
    blocks = [others[n * size : (n + 1) * size] for n in range(options.blocks)]
    settings = SETTINGS.format(**vars(options))
    with (root / "kt.toml").open("a") as file:
        file.write(settings)
    (root / "answers").mkdir()
    write(root / "answers" / "000.csv", first)
    kt(root, "retrain", "--deploy")
    steps: list[dict[str, Any]] = []
    with main_job.serving(root):
        for number, block in enumerate(blocks, 1):
            told = ask(main_job.settle(root), block)
            path = root / "answers" / f"{number:03}.csv"
            write(path, block)
            never = asked_of_first(root, path)
            live = replace(never, probabilities=probabilities(never, told))
            steps.append(compared(never, live) | {"versions": versions(told)})
            print(json.dumps(steps[-1]), file=sys.stderr)
            tick(root)
    return {
        "first_learners": len(first),
        "learners": sum(map(len, blocks)),
        "gain": over_time([step["gain"] for step in steps]),
        "blocks": steps,
        "runs": runs(root),
    }


def kt(root: Path, *typed: str, codes: tuple[int, ...] = (0,)) -> None:
    print(f"$ kt {' '.join(typed)}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "kt", *typed], cwd=root, check=False, stdout=sys.stderr
    )
    if done.returncode not in codes:
        raise SystemExit(f"kt {typed[0]} ended with {done.returncode}")


def tick(root: Path) -> None:
    """What the daemon starts when all of its tasks are due."""
    for task in daemon.tasks(Workspace(root).settings):
        kt(root, *task.arguments, codes=daemon.WELL)


def read(path: Path) -> list[Learner]:
    """All learners of two answers and more, by their ids."""
    data = room.read(path)
    found = []
    for place, student in enumerate(data.students):
        events = slice(int(data.offsets[place]), int(data.offsets[place + 1]))
        items, responses = data.items[events].tolist(), data.responses[events].tolist()
        if len(items) > 1:
            given = [(data.names[i], int(r)) for i, r in zip(items, responses, strict=True)]
            found.append((student, given))
    return sorted(found, key=lambda one: room.natural(one[0]))


def write(path: Path, learners: list[Learner]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("student_id", "item", "response"))
        out.writerows((student, *one) for student, given in learners for one in given)


def ask(address: str, learners: list[Learner]) -> dict[tuple[str, int], tuple[str, list[float]]]:
    """By learner and place: the version that answered, and the probabilities it gave. Outcomes are told."""
    from kt.client import Client

    found = {}
    with Client(address) as client:
        for student, given in learners:
            outcomes = []
            for place in (place for place in PLACES if place < len(given)):
                item, response = given[place]
                history = [{"item": i, "response": r} for i, r in given[:place]]
                reply = client.predict(
                    {"student_id": student, "answers": history, "items": [item]}, model=MODEL
                )
                found[student, place] = reply.version, reply.predictions[0]["probabilities"]
                outcomes.append({"prediction_id": reply.prediction_id, "outcome": response})
            client.feedback_all(outcomes)
    return found


def asked_of_first(root: Path, path: Path) -> Events:
    """What the first version says of the places that were asked for."""
    sha256 = record.read(Workspace(root), MODEL, "v1").sha256
    loaded = load.load(root, MODEL, "v1", sha256)
    signature: Any = loaded.signature
    events = answers.predict_all(loaded.module, signature, room.read(path))
    return events.take(np.isin(events.place, PLACES))


def probabilities(events: Events, told: Any) -> np.ndarray:
    """(n, K) what was told of each event."""
    keys = zip(events.student.tolist(), events.place.tolist(), strict=True)
    return np.array([told[events.students[student], place][1] for student, place in keys])


def compared(never: Events, live: Events) -> dict[str, Any]:
    """The AUC of both, and of their difference the middle 95 % over learners."""
    gain = metrics.difference("auc", never, live)
    return {
        "auc": {"live": metrics.score("auc", live), "never": metrics.score("auc", never)},
        "gain": {"value": gain.value, "low": gain.low, "high": gain.high},
    }


def over_time(gains: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean gain of blocks, and its 95 %: they have no learner in common."""
    half = math.hypot(*(gain["high"] - gain["low"] for gain in gains)) / 2 / len(gains)
    value = statistics.fmean(gain["value"] for gain in gains)
    return {"value": value, "low": value - half, "high": value + half}


def versions(told: Any) -> dict[str, int]:
    """How many requests each version answered."""
    seen = [version for version, _ in told.values()]
    return {version: seen.count(version) for version in sorted(set(seen), key=room.natural)}


def runs(root: Path) -> list[dict[str, Any]]:
    _, state = book.read(Workspace(root))
    return [
        {
            "samples": run.started.data.samples,
            "outcome": run.outcome,
            "version": getattr(run.ended, "version", ""),
            "seconds": getattr(run.ended, "seconds", None),
            "comparison": run.ended.comparison.model_dump()
            if run.ended and run.ended.kind == "finished" and run.ended.comparison
            else None,
        }
        for run in state.job("refresh").runs
    ]


def draw(found: dict[str, Any], path: Path) -> None:
    """The AUC of each block above, the difference with its interval below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "kt", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    across = list(range(1, len(found["blocks"]) + 1))
    for name, label, colour in (
        ("live", "live: retrained by its job", "tab:blue"),
        ("never", "the first version, never retrained", "tab:gray"),
    ):
        values = [one["auc"][name] for one in found["blocks"]]
        above.plot(across, values, marker="o", color=colour, label=label)
    above.set_ylabel("AUC of the next answer")
    above.legend(frameon=False)
    gains = [one["gain"] for one in found["blocks"]]
    value = [one["value"] for one in gains]
    spread = [
        [one["value"] - one["low"] for one in gains],
        [one["high"] - one["value"] for one in gains],
    ]
    below.axhline(0, color="black", linewidth=0.8)
    below.errorbar(across, value, spread, fmt="o", capsize=3, color="tab:blue")
    below.set_ylabel("difference, 95 %")
    each = found["learners"] // len(across)
    below.set_xlabel(f"blocks of {each:,} learners; the daemon's tasks run after each")
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
