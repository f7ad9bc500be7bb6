"""How often the trigger item_drift starts a retraining while no item drifts: months of simulated answers.

    python bench/false_alarms.py [--months 40]

A model of the family irt is fitted on some learners. Then others come each day, for 30 days, whose mean ability
moves by 0.3 over the month and who learn as they practise, which no irt knows: items stay as they were. Each
day the trigger is asked as `kt retrain` asks it, with what has come since the training; by its own settings,
and by the loosest, where one item is enough. Beside it months in which one item in ten, one at least, drifts by
0.8 from the first day on: when is that found?

Prints one JSON object: by size, in how many months a retraining was started, and on which days first.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from kt.jobs.facts import Drifted, Facts
from kt.jobs.triggers import item_drift as trigger
from kt.models import fitting, irt, items, task
from kt.models.data import Data
from kt.models.metrics import Events
from kt.models.tracing import RESERVED
from kt.stats import item_drift

DAYS = 30
MOVED, LEARNS = 0.3, 0.01  # of the mean ability over a month, and with each answer
DRIFTING, DRIFT = 0.1, 0.8
FOUND = 10  # months in which items drift
FAMILY: Any = irt
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = {"default": trigger.Settings(), "loosest": trigger.Settings(items=1, share=0.0)}


class Size(NamedTuple):
    items: int
    learnt: int  # learners that the model was fitted on
    per_day: int  # learners
    answers: int  # of each learner


SIZES = (
    Size(4, 12, 1, 100),
    Size(8, 60, 3, 16),
    Size(8, 150, 10, 16),
    Size(8, 400, 2, 40),
    Size(40, 150, 5, 40),
    Size(40, 800, 20, 40),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--months", type=int, default=40)
    months = parser.parse_args().months
    began, found = time.process_time(), []
    for size in SIZES:
        row = size._asdict()
        for name, drift, count in (("stable", 0.0, months), ("drifting", DRIFT, FOUND)):
            seen = [starts(np.random.default_rng(seed), size, drift) for seed in range(count)]
            for kind in SETTINGS:
                first = sorted(days[kind][0] for days in seen if days[kind])
                row[f"{name}, {kind}"] = f"{len(first)} of {count}"
                row[f"{name}, {kind}, first on day"] = first
        found.append(row)
        sys.stderr.write(f"{row}\n")
    print(json.dumps({"sizes": found, "cpu_s": round(time.process_time() - began, 1)}))


def starts(rng: np.random.Generator, size: Size, drift: float) -> dict[str, list[int]]:
    """The days of a month on which the trigger calls for a retraining, by its settings."""
    slope, difficulty = rng.lognormal(0, 0.3, size.items), rng.normal(0, 1, size.items)
    learnt = answered(rng, slope, difficulty, np.zeros(size.learnt), size.answers)
    config, signature = task.of(FAMILY).configure(FAMILY, learnt, {})
    model = fitting.fit(FAMILY, config, signature, learnt)
    before = items.shifts(FAMILY, model, signature, learnt)

    difficulty = difficulty + drift * (np.arange(size.items) < DRIFTING * size.items)
    means = np.repeat(np.linspace(0, MOVED, DAYS), size.per_day)
    came = answered(rng, slope, difficulty, means, size.answers)
    told = task.of(FAMILY).predict(model, signature, came)  # each answer from earlier ones alone
    assert isinstance(told, Events)
    days: dict[str, list[int]] = {name: [] for name in SETTINGS}
    for day in range(1, DAYS + 1):
        until = told.take(told.student < day * size.per_day)
        for name in due(before, until, signature.items):
            days[name].append(day)
    return days


def answered(
    rng: np.random.Generator,
    slope: np.ndarray,
    difficulty: np.ndarray,
    means: np.ndarray,
    answers: int,
) -> Data:
    """So many answers of each of the learners of these mean abilities, one after the other."""
    item = rng.integers(len(slope), size=(len(means), answers))
    ability = rng.normal(means, 1)[:, None] + LEARNS * np.arange(answers)
    right = rng.random(item.shape) < 1 / (1 + np.exp(slope[item] * (difficulty[item] - ability)))
    return Data(
        students=tuple(f"s{number}" for number in range(len(means))),
        offsets=np.arange(len(means) + 1) * answers,
        items=item.ravel(),
        responses=right.ravel().astype(int),
        folds=np.full(len(means), -1),
        names=tuple(map(str, range(len(slope)))),
    )


def due(before: item_drift.Shifts, told: Events, names: tuple[str, ...]) -> Iterator[str]:
    """The settings by which the trigger calls for a retraining, after these answers since the training."""
    asked = told.items - RESERVED
    after = item_drift.shifts(told.probabilities, told.responses, asked, told.student, len(names))
    q = items.looked_at(names, item_drift.drifts(before, after))
    facts = Facts(now=NOW, drifted=Drifted(len(q), q))
    yield from (name for name, settings in SETTINGS.items() if trigger.due(facts, settings))


if __name__ == "__main__":
    main()
