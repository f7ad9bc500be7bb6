"""The references beside a model: simple families fitted on the same students, asked about the same answers.

A deep model earns its place by what it gains over them, so each is shown with it: on simulated learners
whose abilities stand still a memory network loses to the model that they were drawn from.
"""

import math
from dataclasses import dataclass
from typing import Any

from kt.models import best_lr, fitting, gain, irt, marginal, metrics, pfa
from kt.models.data import Data
from kt.models.evaluate import Scores, predict_events, scored
from kt.models.family import Fitted
from kt.models.gain import Gain
from kt.models.metrics import Events
from kt.models.tracing import Signature

FAMILIES: dict[str, Any] = {"marginal": marginal, "irt": irt, "pfa": pfa, "best_lr": best_lr}
WINDOW = 200  # the most answers that a reference looks at: memory grows with its square
CATEGORIES = 20  # at most; memory grows with its square


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


def beside(scores: Scores, signature: Signature, train: Data, held_out: Data) -> References | None:
    """References for a model that has these scores on `held_out`, fitted on `train`.

    None where there are too many categories. Raises Invalid where `train` does not fit the signature.
    """
    if signature.categories > CATEGORIES:
        return None
    answered = {
        name: answer(family, signature, train, held_out) for name, family in FAMILIES.items()
    }
    return References(
        {name: values(events, signature.categories) for name, events in answered.items()},
        gain_over(answered, scores),
    )


def answer(family: Fitted, signature: Signature, train: Data, held_out: Data) -> Events:
    """Fit one, and ask it."""
    narrowed = signature.model_copy(update={"window": min(signature.window, WINDOW)})
    config = family.Config(
        items=len(signature.items), categories=signature.categories, window=narrowed.window
    )
    model = fitting.fit(family, config, narrowed, train)
    return scored(predict_events(model, narrowed, held_out))


def values(events: Events, categories: int) -> dict[str, float | None]:
    found = {name: metrics.score(name, events) for name in metrics.names(categories)}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def gain_over(answered: dict[str, Events], scores: Scores) -> Gain | None:
    """Over the best of them, in the model's metric; None where that is not defined."""
    metric = scores.metric
    higher = metrics.HIGHER_IS_BETTER[metric]
    over = gain.best_of({name: metrics.score(metric, e) for name, e in answered.items()}, higher)
    if over is None:
        return None
    difference = metrics.difference(metric, answered[over], scores.events)
    sign = 1 if higher else -1
    value = sign * difference.value
    low, high = sorted((sign * difference.low, sign * difference.high))
    if not all(map(math.isfinite, (value, low, high))):
        return None
    return Gain(metric=metric, over=over, value=value, low=low, high=high)
