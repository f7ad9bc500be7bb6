"""The form of next-vector prediction: a document's vectors so far, in; the vector that should follow, out.

    request  {"document": "d-3", "vectors": [[0.1, -0.2, ...], ...]}
    answer   [{"vector": [0.3, 0.1, ...]}]

Vectors stand oldest first, at least one; of a longer document the last `window` are used. Only their
directions count, and the answer has length 1.

No torch here: a process that runs exported weights imports this and numpy.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictFloat

from kt.errors import Invalid
from kt.models.family import Port

MAX_VECTORS = 10_000
MAX_DIMENSION = 10_000

UNIT = "document"
HISTORY = ("vectors",)  # of the arrays, those of past events: (B, T, D)
PAST = "the vectors before"
PROBABILITIES: tuple[str, ...] = ()
STACKS = False


class Signature(BaseModel):
    """What a version knows: how long its vectors are, and of how many it makes use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: Annotated[int, Field(ge=2, le=MAX_DIMENSION)]
    window: Annotated[int, Field(ge=1)]  # the most past vectors that are used


class Request(BaseModel):
    """The body of one prediction."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    state: ClassVar[bool] = False  # none is handed out: predictors keep their own

    document: str | None = None
    vectors: Annotated[
        list[Annotated[list[StrictFloat], Field(max_length=MAX_DIMENSION)]],
        Field(min_length=1, max_length=MAX_VECTORS),
    ]  # oldest first


def collate(requests: Sequence[Request], signature: Signature) -> dict[str, np.ndarray]:
    """Requests as arrays, padded on the right: vectors (B, T, D) float32, lengths (B,) int64.

    Raises Invalid where a vector has another dimension, or holds what is no finite float32.
    """
    contexts = [request.vectors[-signature.window :] for request in requests]
    lengths = np.array([len(context) for context in contexts], np.int64)
    shape = len(requests), int(lengths.max(initial=1)), signature.dimension
    vectors = np.zeros(shape, np.float32)
    for request, context, row in zip(requests, contexts, vectors, strict=True):
        if set(map(len, context)) != {signature.dimension}:
            raise _misfit(request, signature)
        with np.errstate(over="ignore"):
            row[: len(context)] = context
    if not np.isfinite(vectors).all():
        b, t = np.argwhere(~np.isfinite(vectors))[0, :2].tolist()
        place = len(requests[b].vectors) - len(contexts[b]) + t
        raise Invalid(
            "holds a number that is no float32",
            where=f"vectors.{place}",
            do="send numbers within 3.4e38 of 0",
        )
    return {"vectors": vectors, "lengths": lengths}


def answer(
    outputs: Mapping[str, np.ndarray], requests: Sequence[Request], signature: Signature
) -> list[list[dict[str, Any]]]:
    """For each request one prediction. Whatever else the family puts out (B, ...) stands beside it."""
    columns = {name: values.tolist() for name, values in outputs.items()}
    return [[{name: values[b] for name, values in columns.items()}] for b in range(len(requests))]


def narrower(old: Signature, new: Signature) -> str:
    """What requests made for `old` would no longer get from `new`."""
    if new.dimension != old.dimension:
        return f"it takes vectors of {new.dimension} numbers, not of the {old.dimension}"
    return ""


def example(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """`count` requests with contexts from one vector to a full window, each in a direction of chance."""
    lengths = np.linspace(1, signature.window, count).round().astype(int).tolist()
    return [
        Request(document=f"example-{b}", vectors=rng.normal(size=(n, signature.dimension)).tolist())
        for b, n in enumerate(lengths)
    ]


def unlike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """Contexts, and the same turned round."""
    contexts = [request.vectors for request in example(signature, rng, 2)]
    pairs = [(context, (-np.array(context)).tolist()) for context in contexts]
    return [(Request(vectors=one), Request(vectors=other)) for one, other in pairs]


def alike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """A context, and the same in the same directions but longer."""
    (request,) = example(signature, rng, 2)[1:]
    return [(request, Request(vectors=(2 * np.array(request.vectors)).tolist()))]


def ports(signature: Signature) -> tuple[list[Port], list[Port]]:
    shape = (-1, signature.dimension)
    return [Port("vectors", "float32", shape)], [Port("vector", "float32", shape)]


def fields(tensors: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """An axis of one in front, as of a batch, is taken off."""
    if unknown := [name for name in tensors if name != "vectors"]:
        raise Invalid(
            "there is no such input",
            where=f"inputs.{unknown[0][:64]}",
            do="this model takes vectors",
        )
    value = tensors.get("vectors")
    if _depth(value) == 3 and len(value) == 1:  # type: ignore[arg-type]  # a list, as its depth says
        value = value[0]  # type: ignore[index]
    if _depth(value) != 2:
        raise Invalid(
            "must be a list of vectors",
            where="inputs.vectors",
            do="send [[…], …], a vector of numbers each",
        )
    return {"vectors": value}


def tensors(predictions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Each name that predictions have as one array, a prediction a row."""
    return {
        name: np.array([each[name] for each in predictions], np.float32) for name in predictions[0]
    }


def features(request: Request, signature: Signature) -> dict[str, float]:
    """vectors: how many. mean: of the numbers of the newest."""
    newest = request.vectors[-1]
    return {"vectors": len(request.vectors), "mean": sum(newest) / len(newest)}


def _depth(value: Any) -> int:
    """How deep a list is nested, along its first elements."""
    depth = 0
    while type(value) is list:
        depth += 1
        value = value[0] if value else None
    return depth


def _misfit(request: Request, signature: Signature) -> Invalid:
    """The complaint about the first vector of another dimension."""
    first = max(0, len(request.vectors) - signature.window)
    place = next(
        place
        for place, vector in enumerate(request.vectors[first:], first)
        if len(vector) != signature.dimension
    )
    return Invalid(
        f"has {len(request.vectors[place])} numbers, this model takes vectors of {signature.dimension}",
        where=f"vectors.{place}",
        do="send vectors of the model that it was trained on",
    )
