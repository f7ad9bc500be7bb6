"""BET: what a student will answer, as the expectation over orders of what they answered before.

The Bayesian Expectation Transformer of Chlon et al. 2025 (`orders.py`) on the attention of `sakt.py`.
Answers next to each other, `exchangeable` of them, are taken as a set: in training they stand in an
order drawn for each step, in serving in k stored orders, and what is said is the mean. The order of
such sets among each other is kept, since what was answered lately says more.

All k orders are one forward: keys and values are the same, so an order is a bias on the scores, and
k orders are k times as many queries. With k = 1 it is SAKT's forward and costs what that costs.
"""

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from kt.models import orders, sakt, tracing

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
SIZES = sakt.SIZES
signature = tracing.numbered
loss = sakt.loss


class Config(sakt.Config):
    """SAKT's sizes, and the orders; part of the version."""

    exchangeable: Annotated[int, Field(ge=1)] = 10  # answers in a row whose order is taken to say nothing
    k: Annotated[int, Field(ge=1, le=100)] = 5  # orders in the mean
    orders_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Model(sakt.Model):
    """B students, T answers or events, M items asked, k orders, K categories."""

    config: Config
    orders: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        stored = orders.drawn(config.k, config.window, config.orders_seed)
        self.register_buffer("orders", stored, persistent=False)  # (k, window)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits of every event from the events before it: in training by one order, else of the mean."""
        T = items.shape[1]
        keys, values = self._history(items[:, :-1], responses[:, :-1])
        order = torch.randperm(T, device=items.device)[None] if self.training else self.orders
        ago = self._ago(order, T - 1)  # (k, T, T)
        later = torch.ones(T, T, dtype=torch.bool, device=items.device).triu(1)
        bias = self._bias(ago).masked_fill(later, -torch.inf)  # (H, k, T, T)
        logits = self._answer(items.repeat(1, len(order)), keys, values, bias.flatten(1, 2)[None])
        if self.training:
            return logits
        each = logits.view(logits.shape[0], len(order), T, -1)
        return orders.expectation(each)["probabilities"].log()

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """Probabilities (B, M, K) of the items asked, and their uncertainty (B, M) with its two parts."""
        k, T, M = self.config.k, items.shape[1], asked.shape[1]
        keys, values = self._history(items, responses)
        ago = self._ago(self.orders, T)[:, lengths]  # (k, B, T + 1)
        later = torch.arange(T + 1, device=items.device) > lengths.unsqueeze(1)  # (B, T + 1)
        bias = self._bias(ago).masked_fill(later, -torch.inf).permute(2, 0, 1, 3)  # (B, H, k, T + 1)
        bias = bias.unsqueeze(3).expand(-1, -1, -1, M, -1).flatten(2, 3)  # (B, H, k M, T + 1)
        logits = self._answer(asked.repeat(1, k), keys, values, bias)
        return orders.expectation(logits.view(logits.shape[0], k, M, -1))

    def _ago(self, order: Tensor, T: int) -> Tensor:
        """(k, T + 1, T + 1) how long ago one who has given n answers, of T, gave each, by each order.

        Key 0 is the start token, key s the answer s - 1. An answer's place among those of its set is
        how many of them, given by then, rank below it. Of keys that are not given yet it says nothing.
        """
        place = torch.arange(T, device=order.device)
        u = order[:, place.clamp(max=order.shape[1] - 1)]  # no history is longer than the window
        sets = place // self.config.exchangeable
        below = (u.unsqueeze(1) < u.unsqueeze(2)) & (sets == sets.unsqueeze(1))  # (k, s, other)
        rank = F.pad(below.cumsum(-1), (1, 0)).transpose(1, 2)  # (k, n, s)
        moved = F.pad(sets * self.config.exchangeable + rank, (1, 0), value=-1)  # (k, n, T + 1)
        n: Tensor = torch.arange(T + 1, device=order.device).unsqueeze(1)
        return n - moved
