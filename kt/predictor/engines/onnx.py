"""Runs a version's ONNX graphs in ONNX Runtime: no torch, a fraction of its memory and of its start."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kt.config import Predictor
from kt.models.family import Arrays
from kt.registry import session, session_steps


def prepare() -> None:
    """Import the runtime."""
    import onnxruntime  # noqa: F401


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

    def begin(
        self, history: Arrays, asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        events = {name: history[name] for name in self.form.HISTORY}
        states = [
            self._after(
                self.steps.first,
                row,
                ({n: x[:, t] for n, x in events.items()} for t in range(length)),
            )
            for row, length in enumerate(history["lengths"].tolist())
        ]
        return self._told(states, asked), states

    def go_on(
        self, states: Sequence[Arrays], events: Sequence[Arrays], asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        now = [self._after(state, row, events) for row, state in enumerate(states)]
        return self._told(now, asked), now

    def _after(self, state: Arrays, row: int, events: Iterable[Arrays]) -> Arrays:
        for event in events:
            own = {name: array[row : row + 1] for name, array in event.items()}
            state = self.steps.advance(state, own)
        return state

    def _told(self, states: Sequence[Arrays], asked: Arrays) -> dict[str, np.ndarray]:
        rows = [
            self.steps.ask(state, {name: array[row : row + 1] for name, array in asked.items()})
            for row, state in enumerate(states)
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
