"""The seam between serving and what runs a model: nothing outside engines/ knows which engine it is."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from kt.models.family import Arrays


class Key(NamedTuple):
    """What names loaded weights: the same name with other bytes is another thing."""

    model: str
    version: str
    sha256: str


class Engine(Protocol):
    """A version in memory. form, signature: a models.family.Form and its Signature."""

    @property
    def form(self) -> Any: ...

    @property
    def signature(self) -> Any: ...

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The form's arrays through the model, as named outputs. Threads may run it at once."""


def prepare(threads: int) -> None:
    """What every version needs, once a process: also before it forks, so that its children share it.

    threads: of one model call.
    """
    from kt.predictor.engines import torch

    torch.prepare(threads)


def load(root: Path, key: Key, threads: int) -> Engine:
    """A version, its digest checked. Raises KtError where it cannot be loaded."""
    from kt.predictor.engines import torch

    return torch.load(root, *key, threads)
