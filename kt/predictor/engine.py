"""The seam between serving and what runs a model: nothing outside engines/ knows which engine it is."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import orjson

from kt.config import Predictor
from kt.errors import Corrupt, KtError
from kt.models.family import Arrays

log = logging.getLogger("kt")


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

    @property
    def runtime(self) -> str:
        """Which engine it is, for people: torch or onnx."""

    @property
    def bounded(self) -> bool:
        """Whether all code that it runs is kt's own: a call takes no longer than its arrays are large."""

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The form's arrays through the model, as named outputs. Threads may run it at once."""


@runtime_checkable
class Incremental(Engine, Protocol):
    """An engine of a model that keeps states: what models.family.Incremental has, by arrays.

    Each row has a state of its own, whose arrays begin with an axis of one. States that go on together
    have the same names.
    """

    @property
    def pays(self) -> int:
        """Events of a history from which a state is worth its keep."""

    @property
    def slides(self) -> bool:
        """Whether the oldest event of a full window leaves a state as another enters it."""

    def begin(
        self, history: Arrays, asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        """What run gives, and the states after it. history: the form's HISTORY and `lengths`; asked: the
        rest of collate's arrays."""

    def go_on(
        self, states: Sequence[Arrays], events: Sequence[Arrays], asked: Arrays
    ) -> tuple[dict[str, np.ndarray], Sequence[Arrays]]:
        """The same after these events, each (B,) by the names of HISTORY."""


def prepare(root: Path, settings: Predictor) -> None:
    """Import the engine that what is deployed now needs: before a process forks, so that its children
    share it. Another one is imported when a version needs it."""
    if needs_torch(root, settings.engine):
        from kt.predictor.engines import torch

        torch.prepare(settings)
    else:
        from kt.predictor.engines import onnx

        onnx.prepare()


def needs_torch(root: Path, engine: str) -> bool:
    """As far as a glance tells: whether a version that is deployed has no graph beside its weights."""
    from kt.deployments.manifest import MANIFEST
    from kt.registry import record

    if engine != "auto" or importlib.util.find_spec("onnxruntime") is None:
        return engine != "onnx"
    try:
        models = orjson.loads((root / MANIFEST).read_bytes())["models"]
        deployed = [
            record.graph(root, model, one["version"])
            for model, route in models.items()
            for one in (route["active"], *((route["experiment"] or {}).get("treatments", ())))
        ]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return True
    return not all(path.is_file() for path in deployed)


def load(root: Path, key: Key, settings: Predictor) -> Engine:
    """A version, its digest checked. Raises KtError where it cannot be loaded.

    Left to itself it is run by ONNX Runtime where that can, else by torch.
    """
    from kt.predictor.engines import onnx, torch

    if settings.engine != "torch":
        try:
            return onnx.load(root, *key, settings)
        except KtError as error:
            if settings.engine == "onnx":
                raise
            how = logging.WARNING if isinstance(error, Corrupt) else logging.INFO
            log.log(how, "kt: torch runs %s %s: %s", key.model, key.version, error)
    return torch.load(root, *key, settings)
