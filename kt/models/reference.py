"""What a model says of held-out data, in sums: what live traffic is compared with later.

Kept in the version's record (`kt/registry/record.py`, Reference). What is made here is for JSON.
"""

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

from kt.models import calibrate
from kt.models.calibrate import Outcomes
from kt.models.metrics import Categorical, Predicted
from kt.stats.latency import Sketch
from kt.stats.scores import BINS, EDGES, Histogram

REQUESTS = 1_000  # whose features are looked at


def of(source: str, room: Any, form: Any, signature: Any, data: Any, predicted: Predicted) -> Any:
    """The reference of predictions of `data`; None where they are no probabilities. room: the task."""
    if not isinstance(predicted, Categorical) or not len(predicted.outcomes):
        return None
    known = Outcomes(predicted.probabilities, predicted.outcomes)
    return summary(source, known, features(room, form, signature, data))


def features(room: Any, form: Any, signature: Any, data: Any) -> dict[str, str]:
    """Of some of the requests that the data are, a sketch of each that the data decide."""
    if not hasattr(room, "requests") or not hasattr(form, "features"):
        return {}
    requests = room.requests(data, signature, REQUESTS)
    found = sketches(form.features(request, signature) for request in requests)
    return {name: text(held.dump()) for name, held in found.items() if name not in room.CLIENTS}


def summary(source: str, known: Outcomes, features: dict[str, str]) -> dict[str, Any]:
    """features: as they are kept."""
    confidence, came_true = calibrate.confidence_of(known.probabilities, known.labels)
    said = confidence >= 0.5 if known.probabilities.shape[1] == 2 else np.True_
    return {
        "source": source,
        "n": known.count,
        "accuracy": float(np.average(said == came_true, weights=known.weights)),
        "ece": calibrate.errors(confidence, came_true, known.weights).ece,
        "scores": text(histogram(confidence, known.weights).dump()),
        "features": features,
    }


def histogram(values: np.ndarray, weights: np.ndarray | None = None) -> Histogram:
    """(n,) values in [0, 1], as if they had been added one by one, each so many times."""
    place = np.searchsorted(EDGES, values, "right")
    weight = np.ones(len(values)) if weights is None else weights
    counts = np.bincount(place, weight, BINS).round().astype(int)
    sums = np.bincount(place, weight * values, BINS)
    return Histogram(counts.tolist(), sums.tolist(), float(weight @ values**2))


def sketches(found: Iterable[dict[str, float]]) -> dict[str, Sketch]:
    """Of each feature of requests."""
    held: dict[str, Sketch] = {}
    for features in found:
        for name, value in features.items():
            held.setdefault(name, Sketch()).add(value)
    return held


def text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
