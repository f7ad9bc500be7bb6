"""BET: what a student will answer, as the expectation over orders of what they answered before.

The Bayesian Expectation Transformer of Chlon et al. 2025 (`orders.py`) on the attention of `sakt.py`.
Answers next to each other, `exchangeable` of them, are taken as a set: in training they stand in an
order drawn for each step, in serving in k stored orders, and what is said is the mean. The order of
such sets among each other is kept, since what was answered lately says more.

All k orders are one forward: keys and values are the same, so an order is a bias on the scores, and
k orders are k times as many queries. With k = 1 it is SAKT's forward and costs what that costs. Which k is
worth it the validation students say: kt train bet --sweep k=1,2,5.
"""

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from kt.models import orders, sakt, tracing

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
SIZES = sakt.SIZES
signature = tracing.numbered
loss = sakt.loss


class Config(sakt.Config):
    """SAKT's sizes, and the orders; part of the version."""

    exchangeable: Annotated[int, Field(ge=1)] = (
        10  # answers in a row whose order is taken to say nothing
    )
    k: Annotated[int, Field(ge=1, le=100)] = 5  # orders in the mean
    orders_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def orders_differ(self) -> Self:
        if self.exchangeable == 1 and self.k > 1:
            raise ValueError("a set of one answer has one order: k is 1 where exchangeable is 1")
        return self


class Model(sakt.Model):
    """B students, T answers or events, M items asked, k orders, S answers in a set, K categories."""

    config: Config
    ranks: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        stored = orders.drawn(config.k, config.window, config.orders_seed)
        ranks = orders.ranks(stored, config.exchangeable)
        self.register_buffer("ranks", ranks, persistent=False)  # (k, window, S + 1)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits of every event from the events before it: in training by one order, else of the mean."""
        T = items.shape[1]
        keys, values = self._history(items[:, :-1], responses[:, :-1])
        now = torch.arange(T, device=items.device)
        ago = self._ago(self._drawn(T) if self.training else self.ranks, now, T - 1)  # (k, T, T)
        k = ago.shape[0]
        bias = self._bias(ago).masked_fill(now > now.unsqueeze(1), -torch.inf)  # (H, k, T, T)
        logits = self._answer(items.repeat(1, k), keys, values, bias.flatten(1, 2)[None])
        if self.training:
            return logits
        each = logits.view(logits.shape[0], k, T, -1)
        return orders.expectation(each)["probabilities"].log()

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """Probabilities (B, M, K) of the items asked, their uncertainty (B, M) and, of several orders, its parts."""
        k, T, M = self.config.k, items.shape[1], asked.shape[1]
        keys, values = self._history(items, responses)
        ago = self._ago(self.ranks, lengths, T)  # (k, B, T + 1)
        later = torch.arange(T + 1, device=items.device) > lengths.unsqueeze(1)  # (B, T + 1)
        bias = self._bias(ago).masked_fill(later, -torch.inf)  # (H, k, B, T + 1)
        bias = bias.permute(2, 0, 1, 3)  # (B, H, k, T + 1)
        bias = bias.unsqueeze(3).expand(-1, -1, -1, M, -1).flatten(2, 3)  # (B, H, k M, T + 1)
        logits = self._answer(asked.repeat(1, k), keys, values, bias)
        return orders.expectation(logits.view(logits.shape[0], k, M, -1))

    def _drawn(self, T: int) -> Tensor:
        """The ranks of one order of T answers, drawn anew."""
        return orders.ranks(
            torch.randperm(T, device=self.ranks.device)[None], self.config.exchangeable
        )

    def _ago(self, ranks: Tensor, given: Tensor, T: int) -> Tensor:
        """(k, N, T + 1) how long ago one who has given (N,) answers gave each of T, by each order.

        Key 0 is the start token, key s the answer s - 1. Of answers that are not given yet it says nothing.
        """
        S = self.config.exchangeable
        place = torch.arange(T, device=given.device)
        first = place // S * S  # of its set
        taken = (given.unsqueeze(1) - first).clamp(0, S)  # (N, T) how many of the set
        known = place.clamp(max=ranks.shape[1] - 1)  # forms send no more than the window
        ago = given.unsqueeze(1) - first - ranks[:, known, taken]  # (k, N, T)
        start = (given + 1).view(1, -1, 1).expand(ranks.shape[0], -1, -1)
        return torch.cat([start, ago], -1)
