"""A run of training from epoch to epoch: how it is to go, where it stands, and the file to go on from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import safetensors
import safetensors.torch
import torch
from torch.optim.swa_utils import AveragedModel

from kt.errors import Refused


@dataclass(frozen=True)
class Options:
    """How to train. What the result is made of (sizes) is the family's Config.

    A family may have defaults of its own, its RECIPE.
    """

    epochs: int = 100  # at most
    patience: int = 8  # epochs without improvement
    margin: float = 0.0  # standard errors of the metric that an improvement must exceed
    batch: int = 64  # windows
    accumulate: int = 1  # batches that make one step down the gradient
    lr: float = 1e-3  # Adam's
    clip: float = 1.0  # norm of the gradient
    average: float = 0.0  # share of its past that a mean of the weights keeps a step; 0: no mean
    seed: int = 0
    device: str = (
        "cpu"  # or cuda, cuda:1: where the steps are taken and the validation units predicted
    )
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # of matrix products; weights stay float32
    )

    @classmethod
    def of(cls, family: Any, **given: Any) -> Self:
        """The family's own where nothing is given (None)."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return cls(**{**getattr(family, "RECIPE", {}), **chosen})


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data came to."""

    number: int  # from 1
    loss: float  # mean over the training events, nats for most families
    metric: float  # on the validation units
    best: bool  # the best so far
    gained: bool  # better than at the last gain, by more than the margin
    seconds: float
    norm: float | None = None  # of the gradient before it is clipped, mean over the steps


@dataclass(frozen=True)
class Progress:
    """How far a pass is: told after every batch."""

    epoch: int
    epochs: int
    done: int  # batches
    batches: int
    loss: float  # mean over the events so far
    norm: float  # of the last gradient before it was clipped
    best: float | None  # the metric's best before this epoch


@dataclass
class State:
    """Where a run stands after an epoch: what the resume file holds."""

    model: torch.nn.Module
    adam: torch.optim.Adam
    best: dict[str, torch.Tensor]
    mean: AveragedModel | None = None
    history: list[Epoch] = field(default_factory=list)

    @property
    def judged(self) -> torch.nn.Module:
        return self.mean.module if self.mean else self.model


def finished(history: list[Epoch], options: Options) -> bool:
    """Whether the epochs are used up, or the last gain is `patience` behind."""
    gain = max((epoch.number for epoch in history if epoch.gained), default=0)
    return len(history) >= options.epochs or len(history) - gain >= options.patience


def resume_file(out: Path) -> Path:
    """Where a run that is to write `out` keeps what it has."""
    return out.with_name(out.name + ".resume")


def freeze(state: State, run: str) -> bytes:
    """The state as one safetensors file, so that it is whole or not there. run: what it belongs to."""
    tensors = {f"model.{key}": value for key, value in state.model.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in state.best.items()}
    if state.mean:
        tensors |= {f"mean.{key}": value for key, value in state.mean.state_dict().items()}
    for place, moments in state.adam.state_dict()["state"].items():
        tensors |= {f"adam.{place}.{key}": value for key, value in moments.items()}
    about = {
        "run": run,
        "history": json.dumps([asdict(epoch) for epoch in state.history]),
    }
    return safetensors.torch.save(
        {key: value.cpu().contiguous() for key, value in tensors.items()}, about
    )


def restore(state: State, path: Path, run: str) -> None:
    """Go on from a frozen state. Raises Refused where it is another run's, or damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise Refused(
            f"{path} cannot be read: {error}", do="start anew with --no-resume"
        ) from error
    if about.get("run") != run:
        raise Refused(
            f"{path} belongs to a run with other data or settings",
            do="repeat that command to finish it, or start anew with --no-resume",
        )
    parts: dict[str, dict[str, torch.Tensor]] = {
        "model": {},
        "mean": {},
        "best": {},
        "adam": {},
    }
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = value
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in parts["adam"].items():
        place, _, kind = key.partition(".")
        moments.setdefault(int(place), {})[kind] = value
    state.model.load_state_dict(parts["model"])
    if state.mean:
        state.mean.load_state_dict(parts["mean"])
    state.adam.load_state_dict(state.adam.state_dict() | {"state": moments})
    state.best = parts["best"]
    state.history = [Epoch(**epoch) for epoch in json.loads(about["history"])]
