"""Steps in compiled loops beside a model's own in torch: the same numbers, a third of the time or less.

They are taken where Numba is loaded already, by training or by a predictor that is told to
(`[predictor] compiled`): that takes a process a second and 180 MB, which few events are worth.
"""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from kt.models.family import State
from kt.models.recurrence import TOLERANCE, compiles
from kt.models.tables import Table


class Steps(Protocol):
    """Of one model as its parameters stand: what module `kt/models/<family>_steps.py` has, made of the model."""

    def takes(self, state: State) -> bool:
        """Whether advance takes such a state."""

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State: ...
    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]: ...

    def examples(self, rng: torch.Generator) -> Iterator[State]:
        """States of two students that between them take every way through the code."""


class Compiled:
    """What a model asks for its steps. module: where they are; tables: what they look up, none where the model is not one of theirs."""

    def __init__(self, model: Any, module: str, tables: Sequence[Table]) -> None:
        self.model, self.module, self.tables = model, module, tables
        self._of: Sequence[Tensor] = ()
        self._steps: Steps | None = None

    def __call__(self, device: torch.device) -> Steps | None:
        """None where torch has to do it."""
        if not self.tables or not compiles() or device.type != "cpu":
            return None
        if torch.compiler.is_exporting():
            return None
        kept = self.tables[0].kept(device)
        if kept is not self._of:  # a parameter was written to, or this is the first time
            self._of, self._steps = kept, None  # which the model's own steps are taken by meanwhile
            if all(table.kept(device) for table in self.tables):
                self._steps = self._checked()
        return self._steps if kept else None

    def _checked(self) -> Steps | None:
        steps: Steps = importlib.import_module(self.module).Steps(self.model)
        gap = difference(self.model, steps)
        if gap <= TOLERANCE:
            return steps
        what = f"what Numba compiles of {self.module} is off by {gap:.1g}"
        warnings.warn(f"{what}: torch takes the steps", RuntimeWarning, stacklevel=2)
        return None


def difference(model: Any, steps: Steps) -> float:
    """How far steps are from the model's own, on a small draw; see recurrence.TOLERANCE."""
    rng = torch.Generator().manual_seed(0)
    gap = 0.0
    for state in steps.examples(rng):
        items = torch.randint(model.config.items, (2,), generator=rng)
        responses = torch.randint(model.config.categories, (2,), generator=rng)
        ours, theirs = (by.advance(state, items, responses) for by in (steps, model))
        asked = items.unsqueeze(1)
        pairs = [(ours, theirs), (steps.ask(theirs, asked), model.ask(theirs, asked))]
        for found, wanted in pairs:
            for name, y in wanted.items():
                off = (found[name] - y).abs() / y.abs().clamp(min=1)
                gap = max(gap, off.max().item())
    return gap
