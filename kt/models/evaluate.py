"""A version on held-out data: every answer predicted from the answers before it, and the scores of that.

Scored is every answer that has at least one before it, as the published figures do: a student's first
says more about who comes than about the model. Of a history longer than the window the answer is
predicted from the last window / 2 to window answers.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kt.models import metrics
from kt.models.data import Data, batches, windows
from kt.models.family import Family
from kt.models.fitting import tensors
from kt.models.metrics import Difference, Events
from kt.models.tracing import Signature

BATCH = 64
RULE = "answers with at least one before them"


@dataclass(frozen=True)
class Scores:
    """Each score with its 95 % interval over students, and the predictions it came from."""

    metric: str  # the family's own: what training stops on and versions are compared by
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    events: Events

    def summary(self) -> dict[str, Any]:
        """For JSON: null where a score is undefined."""
        return {
            "metric": self.metric,
            **{name: _number(value) for name, value in self.values.items()},
            "intervals": {
                name: [_number(low), _number(high)] for name, (low, high) in self.intervals.items()
            },
            "events": len(self.events.student),
            "students": len(np.unique(self.events.student)),
            "rule": RULE,
        }


def evaluate(
    family: Family, model: torch.nn.Module, signature: Signature, data: Data, *, seed: int = 0
) -> Scores:
    """The scores that fit the signature's categories, with intervals. Raises Invalid as predict_events."""
    events = scored(predict_events(model, signature, data))
    names = metrics.names(signature.categories)
    return Scores(
        family.METRIC,
        {name: metrics.score(name, events) for name in names},
        {name: metrics.interval(name, events, seed=seed) for name in names},
        events,
    )


def paired_difference(a: Scores, b: Scores, metric: str, *, seed: int = 0) -> Difference:
    """b - a on the same data with its 95 % interval over students. Raises ValueError where data differ."""
    return metrics.difference(metric, a.events, b.events, seed=seed)


def scored(events: Events) -> Events:
    """Those with an answer before them."""
    return events.take(events.place > 0)


def predict_events(model: torch.nn.Module, signature: Signature, data: Data) -> Events:
    """Every event of the data in its order, predicted from the same student's events before it.

    Raises Invalid where the data has a response that the signature lacks.
    """
    rows = data.rows(signature)
    pieces = windows(data, signature.window, overlap=True)
    probabilities = np.full((data.events, signature.categories), np.nan)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in batches(pieces, BATCH, None):
                lengths = pieces.lengths[places]
                batch = tensors(rows, data.responses, pieces, places)
                p = model(*batch).softmax(-1).double().numpy()  # (B, T, K)
                own = np.arange(p.shape[1]) < lengths[:, None]
                own &= np.arange(p.shape[1]) >= (pieces.score - pieces.start)[places][:, None]
                event = pieces.start[places][:, None] + np.arange(p.shape[1])
                probabilities[event[own]] = p[own]
    finally:
        model.train(was_training)
    lengths = np.diff(data.offsets)
    return Events(
        students=data.students,
        student=np.repeat(np.arange(len(lengths)), lengths),
        place=np.arange(data.events) - np.repeat(data.offsets[:-1], lengths),
        items=rows,
        responses=data.responses,
        probabilities=probabilities,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
