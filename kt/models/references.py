"""The references beside a model: simple families of its task, fitted on the same data, asked the same.

A deep model earns its place by what it gains over them, so each is shown with it: on simulated learners
whose abilities stand still a memory network loses to the model that they were drawn from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kt.models import (
    best_lr,
    copy_last,
    fitting,
    gain,
    irt,
    marginal,
    mean_of_context,
    metrics,
    naive_bayes,
    pfa,
    task,
)
from kt.models.evaluate import Scores
from kt.models.family import Fitted, Trainable
from kt.models.gain import Gain
from kt.models.metrics import Predicted

FAMILIES: dict[str, dict[str, Any]] = {
    "kt.models.answers": {"marginal": marginal, "irt": irt, "pfa": pfa, "best_lr": best_lr},
    "kt.models.labelled": {"naive_bayes": naive_bayes},
    "kt.models.chains": {"copy_last": copy_last, "mean_of_context": mean_of_context},
}
"""By task, those that are fitted beside every other family of it."""


@dataclass(frozen=True)
class References:
    """Their scores by name, and what the model gains over the best in its own metric."""

    scores: dict[str, dict[str, float | None]]
    gain: Gain | None

    def summary(self) -> dict[str, Any]:
        """For JSON, beside the model's own scores."""
        return {
            "references": self.scores,
            "gain": self.gain and self.gain.model_dump(mode="json"),
        }


def beside(
    family: Trainable, scores: Scores, signature: Any, train: Any, held_out: Any
) -> References | None:
    """References for a model that has these scores on `held_out`, fitted on `train`.

    None where its task has none, or they would be too large. Raises Invalid where `train` does not fit
    the signature.
    """
    answered = {}
    for name, simple in FAMILIES.get(family.TASK, {}).items():
        if (found := answer(simple, signature, train, held_out)) is None:
            return None
        answered[name] = found
    if not answered:
        return None
    names = task.of(family).names(signature)
    return References(
        {name: values(predicted, names) for name, predicted in answered.items()},
        gain_over(answered, scores),
    )


def answer(family: Fitted, signature: Any, train: Any, held_out: Any) -> Predicted | None:
    """Fit one, and ask it; None where it would be too large."""
    sized = task.of(family).reference(family, signature)
    if sized is None:
        return None
    config, narrowed = sized
    model = fitting.fit(family, config, narrowed, train)
    return task.of(family).predict(model, narrowed, held_out)


def values(predicted: Predicted, names: Sequence[str]) -> dict[str, float | None]:
    found = {name: metrics.score(name, predicted) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def gain_over(answered: Mapping[str, Predicted], scores: Scores) -> Gain | None:
    """Over the best of them, in the model's metric; None where that is not defined."""
    metric = scores.metric
    higher = metrics.higher_is_better(metric)
    over = gain.best_of({name: metrics.score(metric, e) for name, e in answered.items()}, higher)
    if over is None:
        return None
    difference = metrics.difference(metric, answered[over], scores.predicted)
    sign = 1 if higher else -1
    value = sign * difference.value
    low, high = sorted((sign * difference.low, sign * difference.high))
    if not all(map(math.isfinite, (value, low, high))):
        return None
    return Gain(metric=metric, over=over, value=value, low=low, high=high)
