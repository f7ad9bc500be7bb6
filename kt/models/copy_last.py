"""Copy last: the next vector is the last again. A reference, without anything learnt."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import vectors
from kt.models.vectors import MAX_DIMENSION, Signature

FORM = vectors
TASK = "kt.models.chains"
METRIC = "hit@5/10000"
SIZES: dict[str, dict[str, Any]] = {}


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: Annotated[int, Field(ge=2, le=MAX_DIMENSION)]
    window: Annotated[int, Field(ge=1)] = (
        100  # vectors that are taken, though the last alone is used
    )


def signature(config: Config) -> Signature:
    return Signature(dimension=config.dimension, window=config.window)


class Model(nn.Module):
    """B documents, T vectors of D dimensions."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # of an answer; a version holds one tensor at least
        self.length = nn.Parameter(torch.ones(()))

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) what follows each vector."""
        return self.length * F.normalize(vectors, dim=-1)

    def serve(self, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """vector (B, D): what follows the last of each document."""
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, vectors.shape[2])
        return {"vector": self.length * F.normalize(vectors.gather(1, last).squeeze(1), dim=-1)}


def fit(model: Model, batches: Sequence[Any]) -> None:
    """There is nothing to learn."""
