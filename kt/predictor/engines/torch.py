"""Runs a version as the torch module that its family builds. The one file of serving that imports torch."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kt.config import Predictor
from kt.models.family import Arrays, is_incremental
from kt.registry import load as versions

log = logging.getLogger("kt")


def prepare(settings: Predictor) -> None:
    """Import torch with so many threads for one model call, and Numba where that is wanted."""
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))  # read when torch is imported
    import torch

    torch.set_num_threads(settings.threads)
    if settings.compiled:
        from kt.models.recurrence import tier

        if why := tier().why:
            log.warning("kt: steps are not compiled: %s", why)


def load(root: Path, model: str, version: str, sha256: str, settings: Predictor) -> versions.Loaded:
    """Weights as a module in eval mode. Raises KtError."""
    prepare(settings)
    found = versions.load(root, model, version, sha256)
    if hasattr(found.form, "HISTORY") and is_incremental(type(found.module)):
        return Incremental(found.spec, found.family, found.form, found.signature, found.module)
    return found


@dataclass(frozen=True)
class Incremental(versions.Loaded):
    """A version whose model keeps states: engine.Incremental."""

    @property
    def pays(self) -> int:
        model: Any = self.module
        found: int = model.PAYS
        return found

    @property
    def slides(self) -> bool:
        model: Any = self.module
        found: bool = model.SLIDES
        return found

    def begin(
        self, history: Arrays, asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        import torch

        model: Any = self.module
        with torch.inference_mode():
            state = model.begin(**tensors(history))
            told = arrays(model.ask(state, **tensors(asked)))
        return told, parted(arrays(state), len(history["lengths"]))

    def go_on(
        self, states: Sequence[Arrays], events: Sequence[Arrays], asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        import torch

        model: Any = self.module
        with torch.inference_mode():
            now = tensors(joined(states))
            for event in events:
                now = model.advance(now, **tensors(event))
            told = arrays(model.ask(now, **tensors(asked)))
        return told, parted(arrays(now), len(states))


def joined(states: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """States of one row each as the state of all.

    Where they differ in their second axis, that is one of events with the newest last: zeros in front of
    it say nothing.
    """
    found = {}
    for name, first in states[0].items():
        arrays = [state[name] for state in states]
        longest = max(array.shape[1:2] for array in arrays)
        if any(array.shape[1:2] != longest for array in arrays):
            out = np.zeros((len(arrays), *longest, *first.shape[2:]), first.dtype)
            for place, array in enumerate(arrays):
                out[place, longest[0] - array.shape[1] :] = array[0]
            found[name] = out
        else:
            found[name] = np.concatenate(arrays)
    return found


def parted(state: Arrays, count: int) -> list[Arrays]:
    """The state of each of so many rows. A copy: a view would keep the others' memory."""
    if count == 1:
        return [state]
    return [
        {name: array[place : place + 1].copy() for name, array in state.items()}
        for place in range(count)
    ]


def tensors(arrays: Arrays) -> dict[str, Any]:
    from torch import from_numpy

    return {name: from_numpy(array) for name, array in arrays.items()}


def arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
