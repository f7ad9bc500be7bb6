"""The task of knowledge tracing: predict each answer of a student from the answers before it.

Scored is every answer that has at least one before it, as the published figures do: a student's first
says more about who comes than about the model. Of a history longer than the window the answer is
predicted from the last window / 2 to window answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from kt.errors import Invalid
from kt.models import metrics
from kt.models.calibrate import calibrated
from kt.models.data import Data, natural, read, vocabulary
from kt.models.family import Arrays, problem
from kt.models.leaks import find as leaks
from kt.models.metrics import Events
from kt.models.soundness import learns_otherwise, sees_ahead
from kt.models.split import only_test, split, without_test
from kt.models.task import Step, on
from kt.models.tracing import MAX_ITEMS, PROBABILITIES, UNKNOWN, Answer, Request, Signature
from kt.models.windows import Windows, batches, padded, windows

__all__ = [
    "configure",
    "floor",
    "leaks",
    "learns_otherwise",
    "names",
    "only_test",
    "predict",
    "read",
    "reference",
    "requests",
    "sees_ahead",
    "since",
    "split",
    "standing",
    "steps",
    "without_test",
]

DECIDES = frozenset({"items", "skills"})
CLIENTS = frozenset({"asked"})  # how many items at once is the client's affair

SHORTEST = 3  # events of a window worth training on
FORGET = 0.01  # share of items shown as unknown, so that its row learns what is typical
PREDICTED_AT_ONCE = 64  # windows
STANDING_AT_ONCE = 16  # students; of gpcm more take twice as long, since they leave the cache
ASKED_AT_ONCE = 1_024  # items in one call of a model, of all students together
REFERENCE_WINDOW = 200  # the most answers that a reference looks at: memory grows with its square
FLOOR_SMOOTHING = 5.0  # answers of the usual kind that are added to each item's own
REFERENCE_CATEGORIES = 20  # at most; memory grows with its square


def configure(family: Any, data: Data, settings: Mapping[str, Any]) -> tuple[BaseModel, Signature]:
    """Items, the skills of them where a family takes those, and unless they are set categories come from the data."""
    items = vocabulary(data)
    given = {"categories": data.categories, **settings, "items": len(items)}
    if "skills" in family.Config.model_fields:
        given["skills"] = skills(data, items)
    config: BaseModel = family.Config.model_validate(given)
    sizes = config.model_dump(include={"categories", "window"})
    return config, Signature(items=items, **sizes)


def skills(data: Data, items: Sequence[str]) -> tuple[int, ...]:
    """The skill of each item, numbered from 1, 0 where it is unknown; none where the data name no skills."""
    of = dict(zip(data.names, data.skills, strict=False))
    names = sorted({of.get(item, "") for item in items} - {""}, key=natural)
    number = {name: place for place, name in enumerate(names, 1)}
    return tuple(number.get(of.get(item, ""), 0) for item in items) if number else ()


@dataclass(frozen=True)
class Pass:
    """Windows of histories in batches. Steps hold items and responses (B, T) and lengths (B,)."""

    data: Data
    rows: np.ndarray  # (E,) of the items
    pieces: Windows
    order: list[np.ndarray]
    usual: float

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Step]:
        for places in self.order:
            event = int(self.pieces.start[places[0]])
            first = int(np.searchsorted(self.data.offsets, event, "right")) - 1
            yield Step(
                tensors(self.rows, self.data.responses, self.pieces, places),
                int(self.pieces.lengths[places].sum()),
                self.data.students[first],
            )


def steps(data: Data, signature: Signature, batch: int, rng: np.random.Generator | None) -> Pass:
    """Windows without overlap, in batches of like length."""
    rows = data.rows(signature)
    pieces = windows(data, signature.window, overlap=False, shortest=1 if rng is None else SHORTEST)
    if not len(pieces):
        raise Invalid(
            f"no student has {SHORTEST} answers", where=data.source, do="give longer histories"
        )
    order = batches(pieces, batch, rng)
    if rng is not None:
        rows = np.where(rng.random(len(rows)) < FORGET, UNKNOWN, rows)
    return Pass(data, rows, pieces, order, batch * float(pieces.lengths.mean()))


def tensors(
    rows: np.ndarray, responses: np.ndarray, pieces: Windows, places: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items and responses (B, T) and lengths (B,) of these windows."""
    items, given = (padded(values, pieces, places) for values in (rows, responses))
    return (
        torch.from_numpy(items),
        torch.from_numpy(given),
        torch.from_numpy(pieces.lengths[places]),
    )


def predict(model: torch.nn.Module, signature: Signature, data: Data) -> Events:
    """The answers that are scored. Raises Invalid where the data has a response that the signature lacks."""
    events = predict_all(model, signature, data)
    return events.take(events.place > 0)


def predict_all(model: torch.nn.Module, signature: Signature, data: Data) -> Events:
    """Every event of the data in its order, predicted from the same student's events before it."""
    rows = data.rows(signature)
    pieces = windows(data, signature.window, overlap=True)
    probabilities = np.full((data.events, signature.categories), np.nan)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in batches(pieces, PREDICTED_AT_ONCE, None):
                lengths = pieces.lengths[places]
                batch = tensors(rows, data.responses, pieces, places)
                p = model(*on(model, batch)).softmax(-1).double().cpu().numpy()  # (B, T, K)
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
        probabilities=calibrated(probabilities, signature.calibration),
    )


def since(predicted: Events, before: Data) -> Events:
    """Of the predictions those of answers that came after `before`, which holds what each student had given."""
    given = dict(zip(before.students, np.diff(before.offsets), strict=True))
    known = np.array([given.get(name, 0) for name in predicted.students])
    return predicted.take(predicted.place >= known[predicted.student])


def standing(
    run: Callable[[Arrays], Arrays], signature: Signature, data: Data, items: Sequence[str]
) -> np.ndarray:
    """(L, M) the share of the highest response that each student is expected to earn of each item now.

    As the predictor answers who sends all their answers and asks for these items, at most MAX_ITEMS at once.
    Raises Invalid where the data has a response that the signature lacks, or where an answer is no probability.
    """
    rows = data.rows(signature)
    asked = np.array([signature.rows.get(item, UNKNOWN) for item in items], np.int64)
    stop = data.offsets[1:]
    pieces = Windows(np.maximum(data.offsets[:-1], stop - signature.window), stop, stop)
    width = min(len(asked), MAX_ITEMS)
    share = np.linspace(0.0, 1.0, signature.categories)
    earned = np.empty((len(pieces), len(asked)))
    for places in batches(pieces, max(1, min(STANDING_AT_ONCE, ASKED_AT_ONCE // width)), None):
        history = {
            "items": padded(rows, pieces, places),
            "responses": padded(data.responses, pieces, places),
            "lengths": pieces.lengths[places],
        }
        for first in range(0, len(asked), width):
            these = slice(first, first + width)
            now = np.tile(asked[these], (len(places), 1))
            p = calibrated(run({**history, "asked": now})["probabilities"], signature.calibration)
            if why := problem({"probabilities": p}, PROBABILITIES):
                raise Invalid(f"of what it answers, {why}", do="go back a version: kt rollback")
            earned[places, these] = p @ share
    return earned


def requests(data: Data, signature: Signature, most: int) -> list[Request]:
    """Of answers that are scored, evenly spread over the data."""
    first = np.repeat(data.offsets[:-1], np.diff(data.offsets))
    scored = np.flatnonzero(np.arange(data.events) > first)
    chosen = scored[np.linspace(0, len(scored) - 1, min(most, len(scored))).astype(int)]
    found = []
    for event in chosen.tolist():
        past = slice(first[event], event)
        pairs = zip(data.items[past].tolist(), data.responses[past].tolist(), strict=True)
        answers = [Answer(item=data.names[item], response=given) for item, given in pairs]
        asked = [data.names[data.items[event]]]
        # not validated: a thousand histories in a tenth of the time
        found.append(Request.model_construct(answers=answers, items=asked))
    return found


def names(signature: Signature) -> tuple[str, ...]:
    return metrics.names(signature.categories)


def floor(predicted: Events) -> Events:
    """The same answers, each predicted by how often the other students gave it to the same item.

    As of the family marginal, but for the student's own answers, which are taken out.
    """
    student, items, responses = predicted.student, predicted.items, predicted.responses
    K = predicted.probabilities.shape[1]
    rows = int(items.max(initial=0)) + 1
    n = np.bincount(items * K + responses, minlength=rows * K).reshape(rows, K)
    p = (n.sum(0) + 1) / (n.sum() + K)
    pair, place = np.unique(student * rows + items, return_inverse=True)
    own = np.bincount(place * K + responses, minlength=len(pair) * K).reshape(-1, K)
    others = n[items] - own[place] + FLOOR_SMOOTHING * p
    return replace(predicted, probabilities=others / others.sum(1, keepdims=True))


def reference(family: Any, signature: Signature) -> tuple[BaseModel, Signature] | None:
    """With a window that its memory allows; none where there are too many categories."""
    if signature.categories > REFERENCE_CATEGORIES:
        return None
    window = min(signature.window, REFERENCE_WINDOW)
    narrowed = signature.model_copy(update={"window": window, "calibration": None})
    config: BaseModel = family.Config(
        items=len(signature.items), categories=signature.categories, window=narrowed.window
    )
    return config, narrowed
