"""The task of next-vector prediction: predict each vector of a document from the vectors before it.

Scored is every vector that has one before it: its place among the bank's, ordered by their cosine with
what was predicted. Of hit@5/10000, the share that come fifth or better, 10000 is the bank's size, and it
never varies: any predictor finds more in a smaller bank. What is as near as the next vector counts
as nearer, so that a model that says nothing finds nothing.

A document is on one side of a split as a whole. Texts overlap where documents do not: a step from one
vector to the next that is learnt from must not be asked about, so a split with such steps is refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel

from kt.errors import Invalid
from kt.models import metrics
from kt.models.documents import BANK, Data, Steps, read
from kt.models.metrics import Weighted
from kt.models.soundness import ALIKE, SAME, STEPS, still
from kt.models.split import fold_of
from kt.models.task import Parts, Step, on
from kt.models.vectors import Signature
from kt.models.windows import Windows, batches, windows

__all__ = [
    "check",
    "configure",
    "learns_otherwise",
    "names",
    "only_test",
    "predict",
    "read",
    "reference",
    "sees_ahead",
    "split",
    "steps",
    "without_test",
]

DECIDES = frozenset({"dimension"})

QUEUE = 4096  # vectors that followed in the batches before
OVERLAP = 0.01  # share of the steps asked about that may be among those learnt from
PREDICTED_AT_ONCE = 64  # windows
RANKED_AT_ONCE = 256  # predictions: each is compared with all of the bank


def split(data: Data, valid: Data | None = None) -> Parts:
    """By a hash of the document's name. Raises Invalid where a part would be empty, or parts overlap."""
    held = data.take(data.testing) if data.testing.any() else None
    train = without_test(data)
    if valid is None:
        stops = np.array([fold_of(name) == 0 for name in train.documents], bool)
        train, valid = train.take(~stops), train.take(stops)
    for part in (train, valid):
        if not len(part.steps.to):
            raise Invalid(
                f"{len(data.documents)} documents are too few to train and to validate",
                where=data.source,
                do="give more of them, or those to validate on with --valid",
            )
    refuse_overlap(train, valid, "validation")
    if held is not None:
        refuse_overlap(train, held, "test")
    return Parts(train, valid, held)


def refuse_overlap(learnt: Data, asked: Data, called: str) -> None:
    """Raises Invalid where a step that is asked about is one that is learnt from, vector for vector."""
    known = set(_bytes_of_steps(learnt))
    shared = np.array([step in known for step in _bytes_of_steps(asked)], bool)
    if shared.sum() <= OVERLAP * len(shared):
        return
    document = asked.documents[asked.steps.document[int(np.argmax(shared))]]
    raise Invalid(
        f"{int(shared.sum()):,} of {len(shared):,} steps of the {called} documents ({document[:64]}, ...) are in training documents too",
        where=asked.source,
        do="give each text once and whole: windows of one text that overlap are one document",
    )


def _bytes_of_steps(data: Data) -> Iterator[bytes]:
    """Both vectors of each step, as a short digest."""
    for to in data.steps.to:
        yield hashlib.blake2b(data.vectors[to - 1 : to + 1].tobytes(), digest_size=16).digest()


def without_test(data: Data) -> Data:
    return data.take(~data.testing)


def only_test(data: Data) -> Data:
    return data.take(data.testing) if data.testing.any() else data


def configure(family: Any, data: Data, settings: Mapping[str, Any]) -> tuple[BaseModel, Signature]:
    """The dimension comes from the data."""
    config = family.Config.model_validate({**settings, "dimension": data.vectors.shape[1]})
    found: Signature = family.signature(config)
    return config, found


@dataclass(frozen=True)
class Pass:
    """Windows of documents in batches.

    A step holds vectors (B, T, D), lengths (B,), candidates (C, D) and their documents (C,). Candidates are
    what followed each vector of the batch, window by window, then what followed in the batches before it,
    at most QUEUE of those. The queue goes round: before an epoch's first batch stand its last ones, so
    that there is nothing to carry from epoch to epoch.
    """

    data: Data
    steps: Steps
    pieces: Windows
    order: list[np.ndarray]
    usual: float

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Step]:
        followed = [_events(self.pieces, places) for places in self.order]
        around, document = np.concatenate(followed), self.steps.document
        begin = 0
        for places, events in zip(self.order, followed, strict=True):
            queue = around.take(begin - 1 - np.arange(min(QUEUE, len(around))), mode="wrap")
            candidates = np.concatenate([events, queue])
            begin += len(events)
            yield Step(
                (
                    *tensors(self.data, self.steps, self.pieces, places),
                    torch.from_numpy(self.data.vectors[self.steps.to[candidates]]),
                    torch.from_numpy(document[candidates]),
                ),
                len(events),
                self.data.documents[int(document[events[0]])],
            )


def steps(data: Data, signature: Signature, batch: int, rng: np.random.Generator | None) -> Pass:
    """Windows without overlap, in batches of like length. Raises Invalid for vectors of another dimension."""
    check(data, signature)
    found = data.steps
    pieces = windows(found, signature.window, overlap=False)
    if not len(pieces):
        raise Invalid("no document has two vectors", where=data.source, do="give longer documents")
    order = batches(pieces, batch, rng)
    return Pass(data, found, pieces, order, batch * float(pieces.lengths.mean()))


def tensors(
    data: Data, steps: Steps, pieces: Windows, places: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """The vectors (B, T, D) that the steps of these windows go from, and their number (B,)."""
    lengths = pieces.lengths[places]
    inside = np.arange(lengths.max(initial=1)) < lengths[:, None]
    vectors = np.zeros((*inside.shape, data.vectors.shape[1]), np.float32)
    vectors[inside] = data.vectors[steps.to[_events(pieces, places)] - 1]
    return torch.from_numpy(vectors), torch.from_numpy(lengths)


def _events(pieces: Windows, places: np.ndarray) -> np.ndarray:
    """The steps of these windows, window by window."""
    return np.concatenate([np.arange(pieces.start[place], pieces.stop[place]) for place in places])


@dataclass(frozen=True)
class Ranked:
    """n predicted vectors of L documents: where in the bank the one that followed came, and its cosine."""

    documents: tuple[str, ...]  # L
    document: np.ndarray  # (n,) places in `documents`
    rank: np.ndarray  # (n,) from 1, the best, to BANK + 1
    cosine: np.ndarray  # (n,)
    sha256: str  # of the data

    rule: ClassVar[str] = f"vectors with one before them, among a bank of {BANK:,}"

    @property
    def units(self) -> tuple[str, ...]:
        return self.documents

    @property
    def unit(self) -> np.ndarray:
        return self.document

    @property
    def counts(self) -> dict[str, int]:
        return {"vectors": len(self.document), "documents": len(np.unique(self.document))}

    def prepare(self, name: str) -> Weighted:
        return metrics.mean(self, SCORES[name](self))

    def asked_as(self, other: Any) -> bool:
        return (
            isinstance(other, Ranked)
            and (self.sha256, self.documents) == (other.sha256, other.documents)
            and np.array_equal(self.document, other.document)
        )


SCORES: dict[str, Callable[[Ranked], np.ndarray]] = {
    f"hit@1/{BANK}": lambda found: np.asarray(found.rank <= 1, float),
    f"hit@5/{BANK}": lambda found: np.asarray(found.rank <= 5, float),
    f"hit@10/{BANK}": lambda found: np.asarray(found.rank <= 10, float),
    f"mrr/{BANK}": lambda found: np.asarray(1 / found.rank),
    "cosine": lambda found: found.cosine,
}


def names(signature: Signature) -> tuple[str, ...]:
    return tuple(SCORES)


def predict(model: torch.nn.Module, signature: Signature, data: Data) -> Ranked:
    """Every step of the data, each from the document's vectors before it.

    Of a document longer than the window from the last window / 2 to window vectors. Raises Invalid for
    vectors of another dimension.
    """
    check(data, signature)
    found = data.steps
    pieces = windows(found, signature.window, overlap=True)
    said = np.full((len(found.to), signature.dimension), np.nan, np.float32)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in batches(pieces, PREDICTED_AT_ONCE, None):
                y = model(*on(model, tensors(data, found, pieces, places))).cpu().numpy()
                place = np.arange(y.shape[1])
                own = place < pieces.lengths[places][:, None]
                own &= place >= (pieces.score - pieces.start)[places][:, None]
                said[(pieces.start[places][:, None] + place)[own]] = y[own]
    finally:
        model.train(was_training)
    followed = data.vectors[found.to]
    return Ranked(
        data.documents,
        found.document,
        ranks(said, followed, data.bank),
        np.einsum("nd,nd->n", said, followed).astype(np.float64),
        data.sha256,
    )


def ranks(said: np.ndarray, followed: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """(n,) the place, from 1, of each vector that followed (n, D) among the bank's, by nearness to `said`.

    A vector that stands in the bank itself is not its own rival. What is not a number is no answer.
    """
    places = {vector.tobytes(): place for place, vector in enumerate(bank)}
    own = np.array([places.get(vector.tobytes(), -1) for vector in followed], np.int64)
    rank = np.empty(len(said), np.int64)
    for begin in range(0, len(said), RANKED_AT_ONCE):
        block = slice(begin, begin + RANKED_AT_ONCE)
        nearness = np.einsum("nd,nd->n", said[block], followed[block])
        beaten = said[block] @ bank.T < nearness[:, None]
        stands = np.flatnonzero(own[block] >= 0)
        beaten[stands, own[block][stands]] = True
        rank[block] = 1 + (~beaten).sum(1)
    return rank


def check(data: Data, signature: Signature) -> None:
    if data.vectors.shape[1] != signature.dimension:
        raise Invalid(
            f"vectors of {data.vectors.shape[1]} numbers, the model takes {signature.dimension}",
            where=data.source,
            do="give vectors of that many numbers, or train anew without --from",
        )


def sees_ahead(model: torch.nn.Module, signature: Signature, rng: np.random.Generator) -> str:
    """Whether another vector at step s moves what forward says follows a vector before it."""
    x = _drawn(signature, rng)
    T = len(x)
    batch = x.repeat(T + 1, 1, 1)
    batch[1 + torch.arange(T), torch.arange(T)] = -x
    with still(model):
        told = model(batch, torch.full((T + 1,), T))  # (T + 1, T, D)
    early = ((told[1:] - told[0]).abs() > SAME).any(-1).tril(-1)  # (T, T): s, t
    if not bool(early.any()):
        return ""
    s, t = (int(place) + 1 for place in early.nonzero()[0])
    return f"in training it sees the vectors to come: another one at step {s} moves what it says at step {t}"


def learns_otherwise(
    family: Any, model: torch.nn.Module, signature: Signature, rng: np.random.Generator
) -> str:
    """Whether serve says of a document so far something else than forward there."""
    x = _drawn(signature, rng)
    T = len(x)
    steps = torch.arange(1, T + 1)
    serve: Any = model.serve
    with still(model):
        told = model(x[None], torch.tensor([T]))[0]
        served = serve(vectors=x.repeat(T, 1, 1), lengths=steps)["vector"]
    apart = float((told - served).abs().max())
    if apart <= ALIKE:
        return ""
    return f"what is trained and scored is not what is served: vectors differ by up to {apart:.2g}"


def _drawn(signature: Signature, rng: np.random.Generator) -> torch.Tensor:
    """(T, D) vectors of a document."""
    shape = min(signature.window, STEPS), signature.dimension
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def reference(family: Any, signature: Signature) -> tuple[BaseModel, Signature]:
    return family.Config(**signature.model_dump()), signature
