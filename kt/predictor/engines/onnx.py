"""Runs a version's ONNX graphs in ONNX Runtime: no torch, a fraction of its memory and of its start."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kt.config import Predictor
from kt.models.family import Arrays
from kt.registry import session, session_steps


def prepare() -> None:
    """Import the runtime. Raises ImportError."""
    session.runtime()


def load(root: Path, model: str, version: str, sha256: str, settings: Predictor) -> session.Session:
    """Raises KtError, also where the version has no graph or the runtime is not installed."""
    found = session.load(root, model, version, sha256, settings.threads)
    steps = None
    if settings.state_cache_mb:
        steps = session_steps.load(root, model, version, settings.threads)
    return Incremental(**vars(found), steps=steps) if steps else found


@dataclass(frozen=True)
class Incremental(session.Session):
    """A version that has steps: engine.Incremental, one row after the other."""

    steps: session_steps.Steps

    @property
    def pays(self) -> int:
        return self.steps.pays

    @property
    def slides(self) -> bool:
        return self.steps.slides

    def begin(
        self, history: Arrays, asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        states = [
            self.steps.begin(own(history, row, max(1, length)))
            for row, length in enumerate(history["lengths"].tolist())
        ]
        return self._told(states, asked), states

    def go_on(
        self, states: Sequence[Arrays], events: Sequence[Arrays], asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        now = [self._after(state, row, events) for row, state in enumerate(states)]
        return self._told(now, asked), now

    def _after(self, state: Arrays, row: int, events: Sequence[Arrays]) -> Arrays:
        for event in events:
            state = self.steps.advance(state, own(event, row))
        return state

    def _told(self, states: Sequence[Arrays], asked: Arrays) -> dict[str, np.ndarray]:
        rows = [self.steps.ask(state, own(asked, row)) for row, state in enumerate(states)]
        return {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}


def own(arrays: Arrays, row: int, most: int | None = None) -> dict[str, np.ndarray]:
    """A row by itself, and of what it has of events the first `most`, as collate makes it of one request."""
    return {
        name: array[row : row + 1] if array.ndim == 1 else array[row : row + 1, :most]
        for name, array in arrays.items()
    }
