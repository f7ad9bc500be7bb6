"""Mean of context: the next vector is the mean of those so far. A reference, without anything learnt.

Where vectors share a direction its cosine with what follows is high, and it finds next to nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kt.models import copy_last, vectors

FORM = vectors
TASK = copy_last.TASK
METRIC = "hit@5/10000"
SIZES: dict[str, dict[str, Any]] = {}
Config = copy_last.Config
signature = copy_last.signature
fit = copy_last.fit


class Model(copy_last.Model):
    """B documents, T vectors of D dimensions."""

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) what follows each vector."""
        return self.length * F.normalize(F.normalize(vectors, dim=-1).cumsum(1), dim=-1)

    def serve(self, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """vector (B, D): what follows the last of each document."""
        counts = torch.arange(vectors.shape[1], device=vectors.device) < lengths.unsqueeze(1)
        total = (F.normalize(vectors, dim=-1) * counts.unsqueeze(-1)).sum(1)
        return {"vector": self.length * F.normalize(total, dim=-1)}
