"""Cross-validation: how good training is on units that it has not seen, each unit being left out once.

    folds 1 .. K        trained on the units of the others, a part of whom decides when to stop; scored on its own

A unit's fold comes from its id alone. The spread over folds says how much a score owes to who was in it.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kt import compute
from kt.config import Compute
from kt.errors import Invalid
from kt.models import metrics, task
from kt.models.run import Options
from kt.models.split import Sided
from kt.models.sweep import family_of
from kt.models.train import learn, prepare


@dataclass(frozen=True)
class Fold:
    """scores: on the units that were left out. epochs: until it stopped."""

    number: int  # from 1
    units: int
    epochs: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Validated:
    """Of each score its mean over the folds, and its standard deviation from one to the next."""

    folds: tuple[Fold, ...]

    @property
    def means(self) -> dict[str, tuple[float, float]]:
        return {
            name: spread([fold.scores[name] for fold in self.folds])
            for name in self.folds[0].scores
        }

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folds": [asdict(fold) for fold in self.folds],
            "scores": {
                name: {"mean": mean, "deviation": deviation}
                for name, (mean, deviation) in self.means.items()
                if math.isfinite(mean)
            },
        }


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(np.mean(values)), float(np.std(values, ddof=1))


def validate(
    name: str,
    root: Path,
    data: Sided,
    folds: int,
    *,
    settings: Mapping[str, Any],
    options: Options,
    how: Compute,
    threads: int = 1,
    on_fold: Callable[[Fold], None] = lambda _: None,
) -> Validated:
    """Train the family `name` once for each fold, side by side. data: none of it kept for testing.

    root: where a family of the user's own is found. Raises Invalid where a fold would have nobody.
    """
    family = family_of(name, root)
    place = np.array([fold_of(unit, folds) for unit in data.units])
    jobs = []
    for number in range(folds):
        held, others = data.take(place == number), data.take(place != number)
        if not len(held.units):
            raise Invalid(
                f"{len(data.units)} units are too few for {folds} folds",
                where=data.source,
                do="ask for fewer folds, or give more data",
            )
        parts = task.of(family).split(others)
        jobs.append((root, name, number + 1, parts, held, settings, options, threads))
    prepare(family, jobs[0][3].train, jobs[0][3].valid, settings, options)  # told before the work
    found = []
    with closing(compute.each(attempt, jobs, how)) as results:
        for fold in results:
            on_fold(fold)
            found.append(fold)
    return Validated(tuple(found))


def fold_of(unit: str, folds: int) -> int:
    """By the id alone, and by another part of its hash than the split for validation."""
    return int.from_bytes(hashlib.sha256(unit.encode()).digest()[8:16]) % folds


def attempt(
    root: Path,
    name: str,
    number: int,
    parts: task.Parts,
    held: Sided,
    settings: Mapping[str, Any],
    options: Options,
    threads: int,
) -> Fold:
    """One fold, in a process of its own."""
    torch.set_num_threads(threads)
    family = family_of(name, root)
    run = prepare(family, parts.train, parts.valid, settings, options)
    state, _ = learn(run, None)
    state.model.load_state_dict(state.best)
    model = state.model.to("cpu").eval()
    signature, _ = run.calibrated(model)
    room = task.of(family)
    predicted = room.predict(model, signature, held)
    scores = {score: metrics.score(score, predicted) for score in room.names(signature)}
    return Fold(number, len(held.units), len(state.history), scores)
