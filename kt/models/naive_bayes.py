"""Naive Bayes: the label that tokens speak for, each by itself. What any classifier of them must beat.

    log p(label | tokens) = log π_label + Σ_s log φ_label,token_s + constant

π: the share of the label. φ: of its tokens, how many are this one, each token counted S times more than it
was seen; so an unknown token, whose row is all zeros, speaks for none. Fitted by counting.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kt.models import tokens
from kt.models.tracing import RESERVED

FORM = tokens
TASK = "kt.models.labelled"
METRIC = "nll"
signature = tokens.numbered
SIZES: dict[str, dict[str, Any]] = {}


class Config(BaseModel):
    """The table's size, and how it is smoothed; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[int, Field(ge=1)]  # in the vocabulary
    labels: Annotated[int, Field(ge=2)]
    window: Annotated[int, Field(ge=1)] = 128  # the most tokens that are read
    smoothing: Annotated[float, Field(gt=0)] = 1.0  # S, tokens


class Model(nn.Module):
    """B units, T tokens, K labels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_share = nn.Parameter(torch.zeros(config.labels))  # log π
        self.log_phi = nn.Embedding(config.tokens + RESERVED, config.labels)
        nn.init.zeros_(self.log_phi.weight)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K)."""
        there = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        logits: Tensor = self.log_share + (self.log_phi(tokens) * there.unsqueeze(-1)).sum(1)
        return logits

    def serve(self, tokens: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K)."""
        return {"probabilities": self(tokens, lengths).softmax(-1)}


def fit(model: Model, batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Count. Exact, in one pass."""
    rows, K = model.log_phi.weight.shape
    n = torch.zeros(rows * K, dtype=torch.float64)
    share = torch.zeros(K, dtype=torch.float64)
    for given, lengths, labels in batches:
        there = torch.arange(given.shape[1]) < lengths.unsqueeze(1)
        n += torch.bincount((given * K + labels.unsqueeze(1))[there], minlength=rows * K)
        share += torch.bincount(labels, minlength=K)
    counted = n.view(rows, K)[RESERVED:] + model.config.smoothing
    with torch.no_grad():
        model.log_share.copy_(((share + 1) / (share + 1).sum()).log())
        model.log_phi.weight[RESERVED:] = (counted / counted.sum(0)).log().float()
