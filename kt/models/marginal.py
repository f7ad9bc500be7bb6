"""Marginal: how often each item got each response, whoever answers. What any model must beat.

    p(r = k | q) = (n_qk + S p_k) / (n_q + S)          p_k: the share of k among all answers

S answers of the usual kind are added to each item's own, so that a rare item says little by itself
and an unknown one says p_k.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kt.models import tracing
from kt.models.family import Batch
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
BLIND = True
signature = tracing.numbered
SIZES: dict[str, dict[str, Any]] = {}


class Config(BaseModel):
    """The table's size, and how it is smoothed; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # answers that are taken, though none is looked at
    smoothing: Annotated[float, Field(gt=0)] = 5.0  # S, answers


class Model(nn.Module):
    """B students, T events, M items asked, K categories."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_share = nn.Embedding(config.items + RESERVED, config.categories)
        nn.init.zeros_(self.log_share.weight)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event."""
        logits: Tensor = self.log_share(items)
        return logits

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """Probabilities (B, M, K) of the items asked."""
        return {"probabilities": self.log_share(asked).softmax(-1)}


def fit(model: Model, batches: Sequence[Batch]) -> None:
    """Count. Exact, in one pass."""
    rows, K = model.log_share.weight.shape
    n = torch.zeros(rows * K, dtype=torch.float64)
    for items, responses, lengths in batches:
        event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
        n += torch.bincount((items * K + responses)[event], minlength=rows * K)
    n = n.view(rows, K)
    p = (n.sum(0) + 1) / (n.sum() + K)
    S = model.config.smoothing
    share = (n + S * p) / (n.sum(1, keepdim=True) + S)
    with torch.no_grad():
        model.log_share.weight.copy_(share.log())
