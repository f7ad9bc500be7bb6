"""Students whose truth is known: answers by the generalized partial credit model, to train and to check on.

    P(r = k) ∝ exp Σ_{h ≤ k} α_q (θ - β_{q,h})

`learning`: a student has an ability for each skill and an item practises one. After an answer the ability
moves towards the student's ceiling, θ += η (m - θ), η ~ LogNormal(log 0.05, 0.5), m ~ N(1.5, 0.5), so
that the order of answers matters and what models of sequences can learn is there.

`published`: the set synthetic_500_200_4 that the deep-gpcm repository reports on, response for
response: NumPy's legacy generator, seed 42, 500 students of 100 to 199 answers to 200 items, the last
100 students for testing. Abilities stand still in it.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kt.errors import Invalid
from kt.files import write_together


@dataclass(frozen=True)
class Simulated:
    """Answers (student, item, response) in order, for each student, and what they were drawn from."""

    students: list[tuple[np.ndarray, np.ndarray]]  # items and responses of each, numbered from 0
    testing: int  # so many of them, the last, are for testing
    truth: dict[str, Any]  # for JSON

    def rows(self, *, test: bool) -> list[tuple[str, int, int]]:
        """student_id, item, response of one part; students and items numbered from 1."""
        first = len(self.students) - self.testing
        part = self.students[first:] if test else self.students[:first]
        return [
            (f"s{number}", item + 1, response)
            for number, (items, responses) in enumerate(part, first + 1 if test else 1)
            for item, response in zip(items.tolist(), responses.tolist(), strict=True)
        ]


def published() -> Simulated:
    """synthetic_500_200_4; among the 15,095 test responses are 5194, 3062, 2941, 3898 of 0 to 3."""
    rng = np.random.RandomState(42)
    K = 4
    theta = rng.normal(0, 1, 500)
    alpha = rng.lognormal(0, 0.3, 200)
    beta = np.array([np.sort(rng.normal(rng.normal(0, 1), 0.5, K - 1)) for _ in range(200)])
    students = []
    for ability in theta:
        items = rng.choice(200, rng.randint(100, 200), replace=True)
        p = probabilities(np.full(len(items), ability), alpha[items], beta[items])
        responses = np.array([rng.choice(K, p=row) for row in p])
        students.append((items, responses))
    return Simulated(
        students,
        testing=100,
        truth=_items(alpha, beta)
        | {"students": {f"s{n}": {"ability": t} for n, t in enumerate(theta.tolist(), 1)}},
    )


def learning(
    *,
    students: int = 1000,
    items: int = 100,
    categories: int = 4,
    seed: int = 0,
    answers: tuple[int, int] = (20, 100),
) -> Simulated:
    """Students who learn; one in five is for testing. answers: the fewest and the most of a student.

    Raises Invalid where there are too few of anything.
    """
    for name, value, least in (
        ("students", students, 5),
        ("items", items, 1),
        ("categories", categories, 2),
    ):
        if value < least:
            raise Invalid(f"{value} is too few", where=f"--{name}", do=f"give {least} or more")
    rng = np.random.default_rng(seed)
    skills = max(1, items // 10)
    skill = rng.permutation(np.arange(items) % skills)  # of each item
    alpha = rng.lognormal(0, 0.3, items)
    beta = np.sort(rng.normal(0, 1, (items, 1)) + rng.normal(0, 0.5, (items, categories - 1)), 1)
    theta = rng.normal(0, 1, (students, skills))
    began = theta.copy()
    rate = np.minimum(rng.lognormal(np.log(0.05), 0.5, students), 1)
    ceiling = rng.normal(1.5, 0.5, students)
    lengths = rng.integers(answers[0], answers[1] + 1, students)
    asked = rng.integers(items, size=(students, answers[1]))
    given = np.zeros_like(asked)
    who = np.arange(students)
    surprise = np.zeros(asked.shape)  # -log p of what was answered, by the truth
    for t in range(answers[1]):
        q = asked[:, t]
        now = theta[who, skill[q]]
        p = probabilities(now, alpha[q], beta[q])
        drawn = (rng.random((students, 1)) > p.cumsum(1)).sum(1)
        given[:, t] = np.minimum(drawn, categories - 1)
        surprise[:, t] = -np.log(p[who, given[:, t]])
        theta[who, skill[q]] = now + rate * (ceiling - now)
    testing = max(1, students // 5)
    last = np.arange(answers[1]) < lengths[:, None]
    last[: students - testing] = False
    named = {
        f"s{n + 1}": {
            "ability": began[n].tolist(),
            "learning_rate": float(rate[n]),
            "ceiling": float(ceiling[n]),
        }
        for n in range(students)
    }
    truth = _items(alpha, beta, skill) | {
        "students": named,
        "test_nll_of_the_truth": float(surprise[last].mean()),
    }
    pairs = zip(asked, given, lengths.tolist(), strict=True)
    return Simulated([(a[:n], g[:n]) for a, g, n in pairs], testing, truth)


def probabilities(theta: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """GPCM: (n, K) from abilities and discriminations (n,) and steps (n, K - 1)."""
    z = np.pad((alpha[:, None] * (theta[:, None] - beta)).cumsum(1), ((0, 0), (1, 0)))
    e = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def write(simulated: Simulated, folder: Path) -> dict[str, int]:
    """train.csv, test.csv and truth.json in `folder`; how many answers each file has."""
    tables = {}
    for name, test in (("train.csv", False), ("test.csv", True)):
        columns = zip(*simulated.rows(test=test), strict=True)
        tables[name] = dict(zip(("student_id", "item", "response"), columns, strict=True))
    return write_tables(tables, simulated.truth, folder)


def write_tables(
    tables: Mapping[str, Mapping[str, Sequence[Any] | np.ndarray]],
    truth: Mapping[str, Any],
    folder: Path,
) -> dict[str, int]:
    """Columns by file name, and truth.json beside them; how many rows each file has."""
    counts, written = {}, {}
    for name, columns in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        written[folder / name] = text.getvalue().encode()
        counts[name] = len(next(iter(columns.values())))
    written[folder / "truth.json"] = json.dumps(truth, indent=1).encode() + b"\n"
    write_together(written)
    return counts


def _items(alpha: np.ndarray, beta: np.ndarray, skill: np.ndarray | None = None) -> dict[str, Any]:
    """The items' parameters by their names."""
    found: dict[str, dict[str, Any]] = {
        str(n): {"discrimination": a, "steps": b}
        for n, (a, b) in enumerate(zip(alpha.tolist(), beta.tolist(), strict=True), 1)
    }
    if skill is not None:
        for number, of in enumerate(skill.tolist(), 1):
            found[str(number)]["skill"] = of
    return {"items": found}
