"""What a family learns from and is judged by: the data's side of it, as its form is the requests' side.

A task is a module that families share (`kt/models/answers.py` for knowledge tracing) and name by its
dotted path, so that a process that only serves imports none of it.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from pydantic import BaseModel

from kt.models.metrics import Predicted


class Data(Protocol):
    """What files of data hold.

    units: who or what is on one side of a split as a whole (students, documents), by name.
    counts: how much of what, and of how many units: {"answers": 1200, "students": 40}.
    """

    @property
    def source(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def counts(self) -> Mapping[str, int]: ...


class Parts(NamedTuple):
    """What is trained on, what decides when to stop, what is kept for testing (perhaps nothing)."""

    train: Any
    valid: Any
    test: Any | None


class Step(NamedTuple):
    """A batch. tensors: what the family's loss takes after the model."""

    tensors: tuple[torch.Tensor, ...]
    events: int  # that the loss is a sum over
    first: str  # the unit it begins with, for messages


class Pass(Protocol):
    """The batches of one pass over data. usual: events of a batch, in the mean."""

    @property
    def usual(self) -> float: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Step]: ...


@dataclass(frozen=True)
class Leak:
    """Why scores are better than they will be: `count` of `of` are concerned.

    says: what it is, what it does and what to do, in a sentence.
    """

    kind: str
    count: int
    of: int
    says: str


class Task(Protocol):
    """The names that the module of a task holds. DECIDES: the settings of a Config that its data decides.

    A task may have these besides; what it lacks is not looked at:

        leaks(train, held_out) -> list[Leak]             what makes held-out data too easy
        floor(predicted) -> Predicted                    the same, predicted from no history at all
        sees_ahead(model, signature, rng) -> str         what forward is shown and must not be, as a clause
        learns_otherwise(family, model, signature, rng) -> str
                                                         how loss or forward differ from what is served
        requests(data, signature, most) -> list          what a client would ask to be told the same, some of them;
                                                         with CLIENTS, the features of these that no data decide
        standing(run, signature, data, items) -> np.ndarray
                                                         (L, M) what each unit is expected to earn of each item now, in [0, 1];
                                                         run: a version's, from the form's arrays to the model's outputs
        since(predicted, before) -> Predicted            those of what earlier data do not hold, told from whole histories
    """

    DECIDES: frozenset[str]

    def read(self, paths: Path | Sequence[Path]) -> Any:
        """The data in these files and folders. Raises Invalid."""

    def split(self, data: Any, valid: Any | None = None) -> Parts:
        """By unit. valid: others to stop by, rather than a part of these. Raises Invalid."""

    def without_test(self, data: Any) -> Any:
        """All units but those kept for testing."""

    def only_test(self, data: Any) -> Any:
        """The units kept for testing, or all where none are."""

    def configure(
        self, family: Any, data: Any, settings: Mapping[str, Any]
    ) -> tuple[BaseModel, Any]:
        """The Config and the Signature that data and settings make. Raises pydantic's ValidationError."""

    def steps(self, data: Any, signature: Any, batch: int, rng: np.random.Generator | None) -> Pass:
        """One pass to learn from: in an order drawn from `rng`, or without one all of it as it stands.

        batch: pieces (windows, examples) in one. Raises Invalid where there is nothing to learn from.
        """

    def predict(self, model: torch.nn.Module, signature: Any, data: Any) -> Predicted:
        """What is scored, each thing predicted from what precedes it. Raises Invalid for data that do not fit."""

    def names(self, signature: Any) -> tuple[str, ...]:
        """The scores that fit the signature."""

    def reference(self, family: Any, signature: Any) -> tuple[BaseModel, Any] | None:
        """Config and Signature of a reference beside a model of this signature; None where it is too large."""


def leaks(family: Any, train: Any | None, held_out: Any) -> list[Leak]:
    """What the family's task finds, if it looks. train: None where it is not known."""
    room: Any = of(family)
    found: list[Leak] = room.leaks(train, held_out) if hasattr(room, "leaks") else []
    return found


def on(model: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The tensors where the model's parameters are."""
    first = next(model.parameters(), None)
    return tuple(tensors if first is None else (tensor.to(first.device) for tensor in tensors))


def of(family: Any) -> Task:
    """The task of a family that can be trained."""
    found: Any = importlib.import_module(family.TASK)
    task: Task = found
    return task
