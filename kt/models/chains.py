"""The task of next-vector prediction: predict each vector of a document from the vectors before it.

Read are .npz files, as numpy.savez writes them, one or several or a folder of them:

    vectors   (E, D) floats, document by document       embeddings of paragraphs, of items answered, ...
    document  (L,) text, the documents' names
    offsets   (L + 1,) whole numbers: document l is vectors offsets[l] to offsets[l + 1]
    bank      (10000, D) floats, what the next vector is looked for among; may be left out, and is then
              drawn from all vectors by their bytes, so that the same files give the same bank

Scored is every vector that has one before it: its place among the bank's, ordered by their cosine with
what was predicted. Of hit@5/10000, the share that come fifth or better, 10000 is the bank's size, and it
never varies: any predictor finds more in a smaller bank. What is as near as the next vector counts
as nearer, so that a model that says nothing finds nothing.

A document is on one side of a split as a whole. Documents of a file whose name begins with "test" are
kept for testing. Texts overlap where documents do not: a step from one vector to the next that is learnt
from must not be asked about, so a split with such steps is refused.
"""

import hashlib
import math
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel

from kt.errors import Invalid
from kt.models import metrics
from kt.models.metrics import Weighted
from kt.models.soundness import ALIKE, SAME, STEPS, still
from kt.models.split import fold_of
from kt.models.task import Parts, Step, on
from kt.models.vectors import Signature
from kt.models.windows import Windows, batches, windows

DECIDES = frozenset({"dimension"})

BANK = 10_000  # vectors
QUEUE = 4096  # vectors that followed in the batches before
OVERLAP = 0.01  # share of the steps asked about that may be among those learnt from
PREDICTED_AT_ONCE = 64  # windows
RANKED_AT_ONCE = 256  # predictions: each is compared with all of the bank
MOST_BYTES = 8 << 30  # of an array

ARRAYS = "an .npz file with the arrays vectors, document and offsets; see kt train --help"


@dataclass(frozen=True)
class Data:
    """The vectors of L documents, E in all, each of length 1 in D dimensions."""

    documents: tuple[str, ...]
    offsets: np.ndarray  # (L + 1,) int64
    vectors: np.ndarray  # (E, D) float32
    bank: np.ndarray  # (BANK, D) float32, all different
    testing: np.ndarray  # (L,) bool: kept for testing
    source: str = ""
    sha256: str = ""

    @property
    def units(self) -> tuple[str, ...]:
        return self.documents

    @property
    def counts(self) -> dict[str, int]:
        return {"vectors": len(self.vectors), "documents": len(self.documents)}

    @property
    def steps(self) -> "Steps":
        """From each vector that another follows to the one that follows."""
        first = np.zeros(len(self.vectors), bool)
        first[self.offsets[:-1]] = True
        return Steps(np.flatnonzero(~first), self.offsets - np.arange(len(self.offsets)))

    def take(self, documents: np.ndarray) -> "Data":
        """These documents alone, given as a mask."""
        lengths = np.diff(self.offsets)
        return replace(
            self,
            documents=tuple(np.array(self.documents, object)[documents]),
            offsets=np.concatenate([[0], np.cumsum(lengths[documents])]).astype(np.int64),
            vectors=self.vectors[np.repeat(documents, lengths)],
            testing=self.testing[documents],
        )


@dataclass(frozen=True)
class Steps:
    """Steps from a vector to the next; those of document l are offsets[l] to offsets[l + 1]."""

    to: np.ndarray  # (n,) places of the vectors that follow
    offsets: np.ndarray

    @property
    def document(self) -> np.ndarray:
        """(n,) the place of each one's document."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


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
        raise Invalid("no document has two vectors", where=data.source)
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


def read(paths: Path | Sequence[Path]) -> Data:
    """The documents in a file, in several, or in a folder's .npz files. Raises Invalid."""
    files = list(_files([paths] if isinstance(paths, Path) else paths))
    source = ", ".join(path.name for path in files)
    hashed = hashlib.sha256()
    found = [_read(path, hashed) for path in files]
    documents = [name for each in found for name in each.documents]
    if len(set(documents)) < len(documents):
        twice = Counter(documents).most_common(1)[0][0]
        raise Invalid(f"the document {twice[:64]} is there twice", where=source)
    if len({each.vectors.shape[1] for each in found}) > 1:
        raise Invalid("vectors of different dimensions", where=source)
    vectors = np.concatenate([each.vectors for each in found])
    lengths = np.concatenate([np.diff(each.offsets) for each in found])
    testing = [path.name.lower().startswith("test") for path in files]
    return Data(
        documents=tuple(documents),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        vectors=vectors,
        bank=_bank([each.bank for each in found if each.bank is not None], vectors, source),
        testing=np.repeat(testing, [len(each.documents) for each in found]),
        source=source,
        sha256=hashed.hexdigest(),
    )


@dataclass(frozen=True)
class _File:
    documents: tuple[str, ...]
    offsets: np.ndarray
    vectors: np.ndarray
    bank: np.ndarray | None


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.npz"))
            if not found:
                raise Invalid("no .npz file in it", where=str(path), do=f"give {ARRAYS}")
            yield from found
        else:
            yield path


def _read(path: Path, hashed: "hashlib._Hash") -> _File:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot read it: {error.strerror}", where=str(path)) from error
    hashed.update(content)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in ("vectors", "document", "offsets") if name not in held]:
                raise ValueError(f"it lacks {missing[0]}")
            found = {name: _array(archive, held[name]) for name in KINDS if name in held}
        return _checked(found)
    except _DAMAGE as error:
        reason = str(error)[:120] or type(error).__name__
        raise Invalid(
            f"not data of documents: {reason}", where=str(path), do=f"give {ARRAYS}"
        ) from error


KINDS = {"vectors": "f", "document": "U", "offsets": "iu", "bank": "f"}
"""Of numpy's dtypes, what each array may hold."""

_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # encrypted, or compressed as zipfile does not know
    SyntaxError,  # as the next, a header that is no literal
    tokenize.TokenError,
)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, of the size that its header says and no other; an object in it is never made."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is in another version of numpy's format")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in KINDS[name] or by_column:
            raise ValueError(
                f"{name} holds {dtype.name}" if not by_column else f"{name} lies by column"
            )
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - file.tell() or size > MOST_BYTES:
            raise ValueError(f"{name} is not as long as it says")
        return np.frombuffer(file.read(), dtype).reshape(shape)


def _checked(found: Mapping[str, np.ndarray]) -> _File:
    """Raises ValueError where arrays do not belong together."""
    vectors, names, offsets = found["vectors"], found["document"], found["offsets"]
    if vectors.ndim != 2 or vectors.shape[1] < 2:
        raise ValueError(f"vectors has the shape {list(vectors.shape)}, not [E, D]")
    fits = names.ndim == offsets.ndim == 1 and len(offsets) == len(names) + 1
    if (
        not fits
        or offsets[0] != 0
        or offsets[-1] != len(vectors)
        or (offsets[1:] <= offsets[:-1]).any()
    ):
        raise ValueError(
            "offsets must rise from 0 to the number of vectors, one more than documents"
        )
    bank = found.get("bank")
    if bank is not None and bank.shape != (BANK, vectors.shape[1]):
        raise ValueError(f"bank has the shape {list(bank.shape)}, not {[BANK, vectors.shape[1]]}")
    return _File(
        tuple(names.tolist()),
        offsets.astype(np.int64),
        _unit(vectors, "vectors"),
        None if bank is None else _unit(bank, "bank"),
    )


def _unit(vectors: np.ndarray, name: str) -> np.ndarray:
    """float32, each of length 1. Raises ValueError where one has no direction."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        long = vectors.astype(np.float64)
        found: np.ndarray = (long / np.linalg.norm(long, axis=1, keepdims=True)).astype(np.float32)
    if not (whole := np.isfinite(found).all(1)).all():
        raise ValueError(
            f"{name}[{int(np.argmin(whole))}] has no direction: it is zero or not finite"
        )
    return found


def _bank(given: Sequence[np.ndarray], vectors: np.ndarray, source: str) -> np.ndarray:
    """The bank that files bring, or one drawn from all vectors. Raises Invalid."""
    if any(not np.array_equal(given[0], other) for other in given[1:]):
        raise Invalid("the files bring different banks", where=source)
    found = np.unique(given[0] if given else vectors, axis=0)
    if not given:
        by = [hashlib.blake2b(vector.tobytes(), digest_size=8).digest() for vector in found]
        found = found[sorted(range(len(found)), key=by.__getitem__)[:BANK]]
    if len(found) < BANK:
        raise Invalid(
            f"{len(found):,} different vectors to find the next one among, Hit@k is measured over {BANK:,}",
            where=source,
            do=f"give {BANK:,} vectors of other documents as the array bank",
        )
    return found
