"""The task of classification: tell the label of an example from its tokens.

The data are a CSV with a header, one example a line, plain or gzipped, one file, several or a folder:

    unit,label,tokens               the tokens stand apart by spaces; other columns are left alone
    mail-17,spam,cheap watches cheap

A unit may have several examples; a split keeps it on one side. Those in a file whose name begins with
"test" are kept for testing, one in ten of the others is for validation, by a hash of its name.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel

from kt.errors import Invalid
from kt.models import metrics
from kt.models.calibrate import calibrated
from kt.models.data import natural
from kt.models.forms import MEND, opened, table, unknown
from kt.models.leaks import LONG, Twin, shared, twins
from kt.models.metrics import Weighted
from kt.models.split import TEST, UNASSIGNED, only_test, split, without_test
from kt.models.task import Leak, Step, on
from kt.models.tokens import Request, Signature
from kt.models.tracing import UNKNOWN

__all__ = [
    "configure",
    "floor",
    "leaks",
    "names",
    "only_test",
    "predict",
    "read",
    "reference",
    "requests",
    "split",
    "steps",
    "without_test",
]

DECIDES = frozenset({"tokens", "labels"})
CLIENTS = frozenset[str]()
COLUMNS = ("unit", "label", "tokens")
FORM = "a CSV with the columns unit,label,tokens, the tokens apart by spaces"

FORGET = 0.01  # share of tokens shown as unknown, so that its row learns what is typical
PREDICTED_AT_ONCE = 64  # examples
SCORES = ("nll", "accuracy", "brier", "ece", "error_auc")


@dataclass(frozen=True)
class Data:
    """n examples of L units, E tokens in all: example i has tokens offsets[i] to offsets[i + 1]."""

    units: tuple[str, ...]  # L
    unit: np.ndarray  # (n,) int64, places in `units`
    labels: np.ndarray  # (n,) int64, places in `label_names`
    offsets: np.ndarray  # (n + 1,) int64
    tokens: np.ndarray  # (E,) int64, places in `names`
    folds: np.ndarray  # (L,) int64: TEST or UNASSIGNED
    names: tuple[str, ...]  # of the tokens
    label_names: tuple[str, ...]
    source: str = ""  # the files' names
    sha256: str = ""  # of the files' bytes, in order

    @property
    def counts(self) -> dict[str, int]:
        return {"examples": len(self.labels), "units": len(self.units)}

    def take(self, units: np.ndarray) -> Self:
        """The examples of these units alone (a mask)."""
        mine = np.flatnonzero(units[self.unit])
        lengths = np.diff(self.offsets)[mine]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return replace(
            self,
            units=tuple(name for name, kept in zip(self.units, units, strict=True) if kept),
            unit=(np.cumsum(units) - 1)[self.unit[mine]],
            labels=self.labels[mine],
            offsets=offsets,
            tokens=self.tokens[
                np.arange(offsets[-1]) + np.repeat(self.offsets[mine] - offsets[:-1], lengths)
            ],
            folds=self.folds[units],
        )

    def rows(self, signature: Signature) -> np.ndarray:
        """(E,) the row of each token in a version's tables."""
        known = [signature.rows.get(name, UNKNOWN) for name in self.names]
        return np.array(known, np.int64)[self.tokens] if known else self.tokens

    def targets(self, signature: Signature) -> np.ndarray:
        """(n,) each example's label as a place in the signature's. Raises Invalid on one that it lacks."""
        place = {name: k for k, name in enumerate(signature.labels)}
        known = np.array([place.get(name, -1) for name in self.label_names], np.int64)
        found = known[self.labels]
        if (found < 0).any():
            first = int(np.argmax(found < 0))
            name = self.label_names[self.labels[first]]
            raise Invalid(
                f"a label is {name[:64]}, the model knows {', '.join(signature.labels)[:200]}",
                where=f"{self.source}: unit {self.units[self.unit[first]]}",
                do="train on data that has it",
            )
        return np.asarray(found)


def read(paths: Path | Sequence[Path]) -> Data:
    """The examples in a file, in several, or in a folder's files. Raises Invalid."""
    units: dict[str, int] = {}
    folds: list[int] = []
    rows: list[tuple[int, str, list[str]]] = []
    sources: list[str] = []
    hashed = hashlib.sha256()
    for path, content, lines in opened(paths):
        sources.append(path.name)
        hashed.update(content)
        fold = TEST if path.name.lower().startswith("test") else UNASSIGNED
        for name, label, tokens in _examples(path, lines):
            if name not in units:
                units[name] = len(units)
                folds.append(fold)
            rows.append((units[name], label, tokens))
    if not rows:
        raise Invalid("no examples in it", where=", ".join(sources), do=f"give {FORM}")
    labels, place = _coded([label for _, label, _ in rows])
    names, tokens_of = _coded([token for *_, of in rows for token in of])
    return Data(
        units=tuple(units),
        unit=np.array([unit for unit, *_ in rows], np.int64),
        labels=place,
        offsets=np.cumsum([0, *(len(of) for *_, of in rows)], dtype=np.int64),
        tokens=tokens_of,
        folds=np.array(folds, np.int64),
        names=names,
        label_names=labels,
        source=", ".join(sources),
        sha256=hashed.hexdigest(),
    )


def configure(family: Any, data: Data, settings: Mapping[str, Any]) -> tuple[BaseModel, Signature]:
    """Tokens and labels come from the data."""
    tokens = tuple(data.names[place] for place in np.unique(data.tokens))
    labels = tuple(data.label_names[place] for place in np.unique(data.labels))
    if len(labels) < 2:
        raise Invalid(
            f"all its labels are {labels[0][:64]}",
            where=data.source,
            do="give examples of two labels or more",
        )
    config: BaseModel = family.Config.model_validate(
        {**settings, "tokens": len(tokens), "labels": len(labels)}
    )
    window: int = config.model_dump(include={"window"})["window"]
    return config, Signature(tokens=tokens, labels=labels, window=window)


@dataclass(frozen=True)
class Pass:
    """Examples in batches of like length. Steps hold tokens (B, T), lengths (B,) and labels (B,)."""

    data: Data
    rows: np.ndarray  # (E,) of the tokens
    targets: np.ndarray  # (n,) of the labels
    window: int
    order: list[np.ndarray]

    @property
    def usual(self) -> float:
        return len(self.targets) / len(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Step]:
        for places in self.order:
            tokens, lengths = tensors(self.data, self.rows, self.window, places)
            labels = torch.from_numpy(self.targets[places])
            first = self.data.units[self.data.unit[places[0]]]
            yield Step((tokens, lengths, labels), len(places), first)


def steps(data: Data, signature: Signature, batch: int, rng: np.random.Generator | None) -> Pass:
    """Each example once."""
    rows = data.rows(signature)
    if rng is not None:
        rows = np.where(rng.random(len(rows)) < FORGET, UNKNOWN, rows)
    order = batches(data, batch, rng)
    return Pass(data, rows, data.targets(signature), signature.window, order)


def batches(data: Data, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Places of examples, `size` together, of like length so that little is padding."""
    lengths = np.diff(data.offsets)
    ties = np.arange(len(lengths)) if rng is None else rng.random(len(lengths))
    order = np.lexsort((ties, lengths))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    return groups if rng is None else [groups[i] for i in rng.permutation(len(groups))]


def tensors(
    data: Data, rows: np.ndarray, window: int, places: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, T) and lengths (B,) of these examples, each cut to the window."""
    lengths = np.minimum(np.diff(data.offsets)[places], window)
    step = np.arange(max(1, lengths.max()))
    inside = step < lengths[:, None]
    index = np.where(inside, data.offsets[places][:, None] + step, 0)
    tokens = np.where(inside, rows[index] if len(rows) else 0, 0)
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


@dataclass(frozen=True)
class Labelled:
    """n examples, of L units, with what was said of their labels."""

    units: tuple[str, ...]
    unit: np.ndarray  # (n,) places in `units`
    outcomes: np.ndarray  # (n,) places in the signature's labels
    probabilities: np.ndarray  # (n, K) float64

    rule: ClassVar[str] = "every example"

    @property
    def counts(self) -> dict[str, int]:
        return {"examples": len(self.unit), "units": len(self.units)}

    def asked_as(self, other: "Labelled") -> bool:
        return (
            self.units == other.units
            and np.array_equal(self.unit, other.unit)
            and np.array_equal(self.outcomes, other.outcomes)
        )

    def prepare(self, name: str) -> Weighted:
        p, y = self.probabilities, self.outcomes
        wrong = p.argmax(1) != y
        match name:
            case "nll":
                return metrics.mean(self, -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)))
            case "accuracy":
                return metrics.mean(self, 1.0 - wrong)
            case "brier":
                return metrics.mean(self, ((p - (np.arange(p.shape[1]) == y[:, None])) ** 2).sum(1))
            case "ece":
                return metrics.calibration(self, p.max(1), ~wrong)
            case "error_auc":
                return metrics.ranking(self, entropy(p), wrong.astype(int))
            case _:
                raise ValueError(f"a label has no score {name}")


def entropy(p: np.ndarray) -> np.ndarray:
    """(n,) in nats."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(1))


def predict(model: torch.nn.Module, signature: Signature, data: Data) -> Labelled:
    """Every example. Raises Invalid where the data has a label that the signature lacks."""
    targets = data.targets(signature)
    rows = data.rows(signature)
    p = np.empty((len(targets), len(signature.labels)))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in batches(data, PREDICTED_AT_ONCE, None):
                batch = tensors(data, rows, signature.window, places)
                p[places] = model(*on(model, batch)).softmax(-1).double().cpu().numpy()
    finally:
        model.train(was_training)
    return Labelled(data.units, data.unit, targets, calibrated(p, signature.calibration))


def requests(data: Data, signature: Signature, most: int) -> list[Request]:
    """Of examples evenly spread over the data."""
    n = len(data.labels)
    chosen = np.linspace(0, n - 1, min(most, n)).astype(int).tolist()
    parts = [data.tokens[data.offsets[place] : data.offsets[place + 1]] for place in chosen]
    return [Request(tokens=[data.names[token] for token in part.tolist()]) for part in parts]


def names(signature: Signature) -> tuple[str, ...]:
    return SCORES


def leaks(train: Data | None, held_out: Data) -> list[Leak]:
    """Units, or whole examples, that were trained on."""
    if train is None:
        return []
    theirs, known = set(train.units), {content for _, content in _contents(train)}
    own = [twin for twin in _contents(held_out) if twin[0] not in theirs]
    found = shared(train.units, held_out.units, "units"), twins(known, own, "examples")
    return [leak for leak in found if leak is not None]


def floor(predicted: Labelled) -> Labelled:
    """The same examples, each predicted by the labels' shares among all."""
    n, K = predicted.probabilities.shape
    share = (np.bincount(predicted.outcomes, minlength=K) + 1) / (n + K)
    return replace(predicted, probabilities=np.tile(share, (n, 1)))


def reference(family: Any, signature: Signature) -> tuple[BaseModel, Signature] | None:
    config: BaseModel = family.Config(
        tokens=len(signature.tokens), labels=len(signature.labels), window=signature.window
    )
    return config, signature.model_copy(update={"calibration": None})


def _contents(data: Data) -> list[Twin]:
    """The unit of each example of enough tokens, and these."""
    units = (data.units[place] for place in data.unit)
    bounds = zip(units, data.offsets[:-1], data.offsets[1:], strict=True)
    return [
        (unit, tuple(data.names[place] for place in data.tokens[a:b]))
        for unit, a, b in bounds
        if b - a >= LONG
    ]


def _examples(path: Path, lines: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Unit, label and tokens of each line."""
    header, rows = table(path, lines)
    if not set(COLUMNS) <= set(header):
        raise unknown(path, header, FORM)
    unit, label, tokens = map(header.index, COLUMNS)
    for where, row in rows:
        if not row[unit].strip() or not row[label].strip():
            raise Invalid("a unit and a label need a name", where=where, do=MEND)
        yield row[unit].strip(), row[label].strip(), row[tokens].split()


def _coded(values: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct values in natural order, and each value as a place in them."""
    names = sorted(set(values), key=natural)
    place = {name: number for number, name in enumerate(names)}
    return tuple(names), np.fromiter(map(place.__getitem__, values), np.int64, len(values))
