"""What a model says of held-out data, in sums: what live traffic is compared with later.

Kept in the version's record (`kt/registry/record.py`, Reference). What is made here is for JSON.
"""

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

from kt.models import calibrate
from kt.models.metrics import Categorical, Predicted
from kt.stats.latency import Sketch
from kt.stats.scores import BINS, EDGES, Histogram

REQUESTS = 1_000  # whose features are looked at


def of(source: str, room: Any, form: Any, signature: Any, data: Any, predicted: Predicted) -> Any:
    """The reference of predictions of `data`; None where they are no probabilities. room: the task."""
    if not isinstance(predicted, Categorical) or not len(predicted.outcomes):
        return None
    requests: list[Any] = []
    if hasattr(room, "requests") and hasattr(form, "features"):
        requests = room.requests(data, signature, REQUESTS)
    features = sketches(form.features(request, signature) for request in requests)
    return summary(source, predicted.probabilities, predicted.outcomes, features)


def summary(
    source: str, probabilities: np.ndarray, outcomes: np.ndarray, features: dict[str, Sketch]
) -> dict[str, Any]:
    """probabilities: (n, K); outcomes: (n,), what came true."""
    confidence, came_true = calibrate.confidence_of(probabilities, outcomes)
    said = confidence >= 0.5 if probabilities.shape[1] == 2 else np.ones(len(outcomes), bool)
    return {
        "source": source,
        "n": len(outcomes),
        "accuracy": float((said == came_true).mean()),
        "ece": calibrate.errors(confidence, came_true).ece,
        "scores": text(histogram(confidence).dump()),
        "features": {name: text(sketch.dump()) for name, sketch in features.items()},
    }


def histogram(values: np.ndarray) -> Histogram:
    """(n,) values in [0, 1], as if they had been added one by one."""
    place = np.searchsorted(EDGES, values, "right")
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, values, BINS)
    return Histogram(counts.tolist(), sums.tolist(), float(values @ values))


def sketches(found: Iterable[dict[str, float]]) -> dict[str, Sketch]:
    """Of each feature of requests."""
    held: dict[str, Sketch] = {}
    for features in found:
        for name, value in features.items():
            held.setdefault(name, Sketch()).add(value)
    return held


def text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
