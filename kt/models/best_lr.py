"""Best-LR: logistic regression on counts, of the same item and of all; the strongest of the simple models.

Gervet, Koedinger, Schneider and Mitchell, "When is Deep Learning the Best Approach to Knowledge
Tracing?", JEDM 2020, with an item for its skill, since answers name no skills here, and without a
parameter for each student, whom a served model has not met:

    logit p = c_q + γ_q φ(won_q) + ρ_q φ(lost_q) + γ φ(won) + ρ φ(lost)          φ(n) = log(1 + n)
"""

from typing import Any

import torch
from torch import Tensor, nn

from kt.models import tracing
from kt.models.logistic import Config, Counting, fit

FORM = tracing
TASK = "kt.models.answers"
METRIC = "auc"
signature = tracing.numbered
SIZES: dict[str, dict[str, Any]] = {}

__all__ = ["FORM", "METRIC", "SIZES", "Config", "Model", "fit", "signature"]


class Model(Counting):
    """Besides, slopes for the totals, which all items share."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.totals = nn.Parameter(torch.zeros(2))  # γ, ρ

    def features(self, own: Tensor, total: Tensor) -> Tensor:
        return torch.cat([super().features(own, total), total.log1p()], -1)

    def score(self, asked: Tensor, x: Tensor) -> Tensor:
        return super().score(asked, x[..., :2]) + x[..., 2:] @ self.totals

    def move(self, own: Tensor, shared: Tensor) -> None:
        super().move(own, shared)
        self.totals.add_(shared)
