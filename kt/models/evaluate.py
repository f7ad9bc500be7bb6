"""A version on held-out data: its family's task predicts, and the scores of that."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from kt.config import Compute
from kt.models import metrics, task
from kt.models.family import Trainable
from kt.models.metrics import Predicted


@dataclass(frozen=True)
class Scores:
    """Each score with its 95 % interval over units (students), and the predictions it came from."""

    metric: str  # the family's own: what training stops on and versions are compared by
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    predicted: Predicted

    def summary(self) -> dict[str, Any]:
        """For JSON: null where a score is undefined."""
        return {
            "metric": self.metric,
            **{name: _number(value) for name, value in self.values.items()},
            "intervals": {
                name: [_number(low), _number(high)] for name, (low, high) in self.intervals.items()
            },
            "counts": dict(self.predicted.counts),
            "rule": self.predicted.rule,
        }


def evaluate(
    family: Trainable,
    model: torch.nn.Module,
    signature: Any,
    data: Any,
    *,
    seed: int = 0,
    how: Compute | None = None,
) -> Scores:
    """The scores that fit the signature, with intervals. how: where the draws of these are scored.

    Raises Invalid where the data do not fit the signature.
    """
    judge = task.of(family)
    predicted = judge.predict(model, signature, data)
    names = judge.names(signature)
    return Scores(
        family.METRIC,
        {name: metrics.score(name, predicted) for name in names},
        metrics.intervals(names, predicted, seed=seed, how=how),
        predicted,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
