"""The items of a version: the parameters that its family can tell, and whether they still hold.

A family that has parameters of items offers `items(model)`: arrays by name, an item a row in the
vocabulary's order, among them `difficulty` and, where it has one, `discrimination`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from kt.errors import Invalid
from kt.models import task
from kt.models.family import is_trainable
from kt.models.metrics import Events
from kt.models.tracing import RESERVED
from kt.stats import item_drift
from kt.stats.item_drift import Drift, Shifts

Rows = list[dict[str, Any]]


def tables(log_discrimination: torch.Tensor, steps: torch.Tensor) -> dict[str, torch.Tensor]:
    """What families of static items offer, from tables with a row an item. Difficulty is the mean step."""
    found = {
        "difficulty": steps.mean(-1),
        "discrimination": log_discrimination.exp().squeeze(-1),
    }
    return found | ({"steps": steps} if steps.shape[-1] > 1 else {})


def parameters(family: Any, model: torch.nn.Module, signature: Any) -> Rows:
    """A row an item: its name, and what its family tells of it. Raises Invalid where it tells nothing."""
    with torch.inference_mode():
        told: Mapping[str, torch.Tensor] = family.items(model) if hasattr(family, "items") else {}
    if not told:
        raise Invalid(
            "it has no parameters of its items",
            do="train a family that has: wide_deep_irt, irt, or gpcm",
        )
    columns = {name: values.tolist() for name, values in told.items()}
    return [
        {"item": item, **{name: column[place] for name, column in columns.items()}}
        for place, item in enumerate(signature.items)
    ]


def errors(
    family: Any, model: torch.nn.Module, signature: Any, data: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How surely these answers would tell each difficulty, abilities held: its standard error, and how many they are.

    NaN for an item that nobody answered. Raises Invalid as `shifts`.
    """
    found = shifts(family, model, signature, data)
    with torch.inference_mode():
        told = family.items(model)
    slope = told["discrimination"].double().numpy() if "discrimination" in told else 1.0
    return np.where(found.answers > 0, found.error / slope, np.nan), found.answers


def shifts(family: Any, model: torch.nn.Module, signature: Any, data: Any) -> Shifts:
    """How far each item's answers are from what the model expects of them. Raises Invalid where it has no items."""
    predicted = task.of(family).predict(model, signature, data) if is_trainable(family) else None
    if not isinstance(predicted, Events):
        raise Invalid("it predicts no answers to items", do="name a model of knowledge tracing")
    known = predicted.take(predicted.items >= RESERVED)
    return item_drift.shifts(
        known.probabilities,
        known.responses,
        known.items - RESERVED,
        known.student,
        len(signature.items),
    )


def drift_of_looks(
    family: Any, model: torch.nn.Module, signature: Any, before: Any, after: Any
) -> dict[str, float]:
    """Of each item that can be judged, the most likely to have drifted first, the false discovery rate that
    holds for all looks together, as `after` grows. Raises Invalid as `shifts`."""
    found = item_drift.drifts(
        shifts(family, model, signature, before), shifts(family, model, signature, after)
    )
    return looked_at(signature.items, found)


def looked_at(names: Sequence[str], found: Sequence[Drift]) -> dict[str, float]:
    """The same of what was found of items of these names."""
    judged = [(name, one) for name, one in zip(names, found, strict=True) if one.q is not None]
    q = item_drift.false_discovery_of_looks([one for _, one in judged])
    rates = zip((name for name, _ in judged), q, strict=True)
    return dict(sorted(rates, key=lambda one: one[1]))


def drift(
    family: Any,
    model: torch.nn.Module,
    signature: Any,
    before: Any,
    after: Any,
    worth_finding: float = item_drift.WORTH_FINDING,
) -> Rows:
    """A row an item that was answered in either period, those that drifted first. Raises Invalid as `shifts`."""
    found = item_drift.drifts(
        shifts(family, model, signature, before),
        shifts(family, model, signature, after),
        worth_finding,
    )
    rows = [
        {"item": item, "before": one.answers[0], "after": one.answers[1]}
        | {name: value for name, value in asdict(one).items() if name != "answers"}
        for item, one in zip(signature.items, found, strict=True)
        if any(one.answers)
    ]
    return sorted(rows, key=_first)


def _first(row: dict[str, Any]) -> tuple[bool, float]:
    return row["q"] is None, 1.0 if row["q"] is None else row["q"]
