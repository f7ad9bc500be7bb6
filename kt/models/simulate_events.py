"""Answers with response times and requests for help, of students who now and then only pretend: with the label.

    log seconds = β_i - τ_s + N(0, 1 / α_i²)      β ~ N(4, 0.4), τ ~ N(0, 0.3)     van der Linden 2007
    P(right) = σ(θ_s - b_i)

A student is engaged or gaming, from answer to answer a Markov chain: engaged to gaming with probability
0.01 (1 + how much harder the item is than the student can), back with 0.2. One who games answers within
seconds, log seconds ~ N(log 2, 0.4), guesses among the options and asks for help half of the time; one who
does not asks for help now and then, the more often the harder the item is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kt.errors import Invalid

INTENSITY = 4.0, 0.4  # β: mean and standard deviation, log seconds
SPEED = 0.3  # standard deviation of τ
PRECISION = 2.0, 0.3  # α: median, and standard deviation of its log
ENTER, LEAVE = 0.01, 0.2  # probabilities of the chain, an answer
RAPID = np.log(2), 0.4  # of one who games: mean and standard deviation, log seconds
HELP = 0.5  # probability, of one who games
ANSWERS = 20, 100  # the fewest and the most of a student


@dataclass(frozen=True)
class Stream:
    """Columns of equal length (E,), student after student; and what they were drawn from, for JSON."""

    events: dict[str, np.ndarray]
    truth: dict[str, Any]


def simulate(*, students: int, items: int, options: int = 4, seed: int = 0) -> Stream:
    """options: of each item, to guess among. Raises Invalid where there are too few of anything."""
    for name, value, least in (
        ("students", students, 1),
        ("items", items, 1),
        ("options", options, 2),
    ):
        if value < least:
            raise Invalid(f"{value} is too few", where=f"--{name}", do=f"give {least} or more")
    rng = np.random.default_rng(seed)
    b, theta = rng.normal(0, 1, items), rng.normal(0, 1, students)
    beta, alpha = (
        rng.normal(*INTENSITY, items),
        rng.lognormal(np.log(PRECISION[0]), PRECISION[1], items),
    )
    tau = rng.normal(0, SPEED, students)
    lengths = rng.integers(ANSWERS[0], ANSWERS[1] + 1, students)
    shape = students, ANSWERS[1]
    item = rng.integers(items, size=shape)
    harder = b[item] - theta[:, None]
    gaming = np.zeros(shape, bool)
    for t in range(1, shape[1]):
        enters = rng.random(students) < ENTER * (1 + np.maximum(harder[:, t], 0))
        stays = rng.random(students) >= LEAVE
        gaming[:, t] = np.where(gaming[:, t - 1], stays, enters)
    p = np.where(gaming, 1 / options, 1 / (1 + np.exp(harder)))
    usual = rng.normal(beta[item] - tau[:, None], 1 / alpha[item])
    seconds = np.exp(np.where(gaming, rng.normal(*RAPID, shape), usual))
    asks = np.where(gaming, HELP, 0.1 / (1 + np.exp(-harder)))
    inside = np.arange(shape[1]) < lengths[:, None]
    names = np.array([f"s{n}" for n in range(1, students + 1)])
    columns = {
        "student_id": np.repeat(names, lengths),
        "item": item[inside] + 1,
        "response": (rng.random(shape) < p).astype(int)[inside],
        "seconds": seconds[inside].round(2),
        "help": (rng.random(shape) < asks).astype(int)[inside],
    }
    truth = {
        "options": options,
        "items": {
            str(n): {"difficulty": d, "time_intensity": m, "time_precision": a}
            for n, (d, m, a) in enumerate(
                zip(b.tolist(), beta.tolist(), alpha.tolist(), strict=True), 1
            )
        },
        "students": {
            name: {"ability": ability, "speed": speed, "gaming": states[:n].astype(int).tolist()}
            for name, ability, speed, states, n in zip(
                names.tolist(), theta.tolist(), tau.tolist(), gaming, lengths.tolist(), strict=True
            )
        },
    }
    return Stream(columns, truth)
