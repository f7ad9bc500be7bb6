"""How often the trigger item_drift starts a retraining while no item drifts: months of simulated answers.

    python bench/false_alarms.py [--months 40] [--items 40] [--per-day 20]

A model of the family irt is fitted on 800 learners. Then others come each day, 40 answers each, for 30 days,
whose mean ability moves by 0.3 over the month and who learn as they practise, which no irt knows: items stay as
they were. Each day the trigger is asked as `kt retrain` asks it, with what has come since the training.
Beside it months in which one item in ten drifts by 0.8 from the first day on: when is that found?

Prints one JSON object: in how many months a retraining was started, and on which days first.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kt.jobs.facts import Drifted, Facts
from kt.jobs.triggers import item_drift as trigger
from kt.models import fitting, irt, items, task
from kt.models.data import Data
from kt.models.metrics import Events
from kt.models.tracing import RESERVED
from kt.stats import item_drift

DAYS, ANSWERS, LEARNT = 30, 40, 800
MOVED, LEARNS = 0.3, 0.01  # of the mean ability over a month, and with each answer
DRIFTING, DRIFT = 0.1, 0.8
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = trigger.Settings()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--months", type=int, default=40)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--per-day", type=int, default=20, metavar="LEARNERS")
    asked = parser.parse_args()
    found: dict[str, Any] = {"items": asked.items, "learners a day": asked.per_day}
    began = time.process_time()
    for name, drift, months in (("stable", 0.0, asked.months), ("drifting", DRIFT, 5)):
        first = []
        for seed in range(months):
            days = starts(np.random.default_rng(seed), asked.items, asked.per_day, drift)
            first += days[:1]
            sys.stderr.write(f"{name} month {seed}: days {days}\n")
        found[name] = {"months": months, "with a start": len(first), "first on day": sorted(first)}
    print(json.dumps(found | {"cpu_s": round(time.process_time() - began, 1)}))


def starts(rng: np.random.Generator, count: int, per_day: int, drift: float) -> list[int]:
    """The days of a month on which the trigger calls for a retraining."""
    slope, difficulty = rng.lognormal(0, 0.3, count), rng.normal(0, 1, count)
    learnt = answered(rng, slope, difficulty, np.zeros(LEARNT))
    config, signature = task.of(irt).configure(irt, learnt, {})
    model = fitting.fit(irt, config, signature, learnt)
    before = items.shifts(irt, model, signature, learnt)

    difficulty = difficulty + drift * (np.arange(count) < DRIFTING * count)
    means = np.repeat(np.linspace(0, MOVED, DAYS), per_day)
    came = answered(rng, slope, difficulty, means)
    told = task.of(irt).predict(model, signature, came)  # each answer from earlier ones alone
    return [
        day
        for day in range(1, DAYS + 1)
        if due(before, told.take(told.student < day * per_day), signature.items)
    ]


def answered(
    rng: np.random.Generator, slope: np.ndarray, difficulty: np.ndarray, means: np.ndarray
) -> Data:
    """The answers of learners of these mean abilities, one after the other."""
    item = rng.integers(len(slope), size=(len(means), ANSWERS))
    ability = rng.normal(means, 1)[:, None] + LEARNS * np.arange(ANSWERS)
    right = rng.random(item.shape) < 1 / (1 + np.exp(slope[item] * (difficulty[item] - ability)))
    return Data(
        students=tuple(f"s{number}" for number in range(len(means))),
        offsets=np.arange(len(means) + 1) * ANSWERS,
        items=item.ravel(),
        responses=right.ravel().astype(int),
        folds=np.full(len(means), -1),
        names=tuple(map(str, range(len(slope)))),
    )


def due(before: item_drift.Shifts, told: Events, names: tuple[str, ...]) -> str:
    """What the trigger says to the answers since the training."""
    asked = told.items - RESERVED
    after = item_drift.shifts(told.probabilities, told.responses, asked, told.student, len(names))
    rows = item_drift.drifts(before, after)
    q = {name: row.q for name, row in zip(names, rows, strict=True) if row.q is not None}
    facts = Facts(now=NOW, drifted=Drifted(len(q), q))
    return trigger.due(facts, SETTINGS)


if __name__ == "__main__":
    main()
