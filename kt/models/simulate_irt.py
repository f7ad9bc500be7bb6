"""Two periods of answers to the same items, of which some have drifted: what a drift check must find.

    P(right) = σ(α (θ - b(t)))        b(t) = b + δ σ((t - t_0) / width)

One item in twenty drifts, by 0.3 to 0.8 either way and within a few days around t_0, the end of the first
period. Apart from it those who answer in the second period are abler by 0.3 in the mean: that is a change of the
population and no item's drift.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kt.errors import Invalid

DRIFTING = 0.05  # share of the items
DRIFTS = 0.3, 0.8  # sizes, either way
SHIFT = 0.3  # of the mean ability from one period to the next
DAYS = 60  # in a period
WIDTH = 1.0  # days
ANSWERS = 40  # of each student


@dataclass(frozen=True)
class Periods:
    """Columns of equal length (E,), before and after; and what they were drawn from, for JSON."""

    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    truth: dict[str, Any]


def simulate(*, students: int, items: int, seed: int = 0, answers: int = ANSWERS) -> Periods:
    """`students` in each period, others in the second. Raises Invalid where there are too few of anything."""
    for name, value, least in (("students", students, 5), ("items", items, 1)):
        if value < least:
            raise Invalid(f"{value} is too few", where=f"--{name}", do=f"give {least} or more")
    rng = np.random.default_rng(seed)
    alpha, b = rng.lognormal(0, 0.3, items), rng.normal(0, 1, items)
    delta = np.zeros(items)
    moved = rng.permutation(items)[: max(1, round(DRIFTING * items))]
    delta[moved] = rng.uniform(*DRIFTS, len(moved)) * rng.choice([-1, 1], len(moved))
    theta = np.stack([rng.normal(0, 1, students), rng.normal(SHIFT, 1, students)])
    before_and_after = []
    for number in range(2):
        item = rng.integers(items, size=(students, answers))
        day = np.sort(rng.uniform(number * DAYS, (number + 1) * DAYS, item.shape), 1)
        difficulty = b[item] + delta[item] / (1 + np.exp((DAYS - day) / WIDTH))
        p = 1 / (1 + np.exp(-alpha[item] * (theta[number][:, None] - difficulty)))
        first = number * students + 1
        who = np.repeat([f"s{n}" for n in range(first, first + students)], answers)
        right = (rng.random(p.shape) < p).astype(int)
        columns = {"student_id": who, "item": item + 1, "response": right, "time": day.round(4)}
        before_and_after.append({name: values.ravel() for name, values in columns.items()})
    abilities = dict(enumerate(theta.ravel().tolist(), 1))
    truth = {
        "items": {
            str(n): {"discrimination": a, "difficulty": d, "drift": moved}
            for n, (a, d, moved) in enumerate(
                zip(alpha.tolist(), b.tolist(), delta.tolist(), strict=True), 1
            )
        },
        "population_shift": SHIFT,
        "students": {f"s{n}": {"ability": ability} for n, ability in abilities.items()},
    }
    before, after = before_and_after
    return Periods(before, after, truth)
