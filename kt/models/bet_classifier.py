"""BET, classifying: the label of a set of tokens, as the expectation over orders of them.

The Bayesian Expectation Transformer of Chlon et al. 2025 (`orders.py`) for things whose tokens stand in
no order that matters. A plain encoder, norms first, with learnt positions, of a start token and the tokens:

    x_s = E[token_s] + P[place of s in the order]     h = Σ_s V norm(x_s')     p = softmax(W (h + ffn(h)))

What tokens say adds up, as in naive Bayes: a mean of them, or what one readout attends to, does not know
how many there were.

In training tokens stand in an order drawn for each step, in serving in k stored orders, which are one
forward of k times as many rows. With k = 1 it costs what the encoder costs.
"""

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import orders, tokens
from kt.models.tracing import RESERVED

FORM = tokens
TASK = "kt.models.labelled"
METRIC = "nll"
signature = tokens.numbered

SIZES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 32, "heads": 2, "layers": 1},
    "medium": {"d_model": 64, "heads": 4, "layers": 2},
    "large": {"d_model": 128, "heads": 8, "layers": 4},
}


class Config(BaseModel):
    """Sizes of the network, and the orders; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[int, Field(ge=1)]  # in the vocabulary
    labels: Annotated[int, Field(ge=2)]
    window: Annotated[int, Field(ge=1, le=1024)] = 128  # the most tokens that are read
    d_model: Annotated[int, Field(ge=1)] = 64
    heads: Annotated[int, Field(ge=1)] = 4
    layers: Annotated[int, Field(ge=1)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    k: Annotated[int, Field(ge=1, le=100)] = 5  # orders in the mean
    orders_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Model(nn.Module):
    """B units, T tokens, k orders, K labels, D d_model, H heads."""

    ranks: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.d_model
        if D % config.heads:
            raise ValueError(f"d_model {D} is not a multiple of heads {config.heads}")
        self.config = config
        self.token = nn.Embedding(config.tokens + RESERVED, D)
        self.position = nn.Embedding(config.window, D)
        self.start = nn.Parameter(torch.randn(1, 1, D) * 0.1)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.evidence = nn.Linear(D, D)
        self.widen = nn.Linear(D, 2 * D)
        self.narrow = nn.Linear(2 * D, D)
        self.head = nn.Linear(D, config.labels)
        nn.init.normal_(self.token.weight, std=0.1)
        nn.init.normal_(self.position.weight, std=0.1)
        stored = orders.drawn(config.k, config.window, config.orders_seed)
        ranks = orders.ranks(stored, config.window)
        self.register_buffer("ranks", ranks, persistent=False)  # (k, window, window + 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K): in training by one order, else of the mean."""
        if not self.training:
            return self.serve(tokens, lengths)["probabilities"].log()
        T = tokens.shape[1]
        drawn = torch.randperm(T, device=tokens.device)[None]
        return self._read(tokens, lengths, orders.ranks(drawn, T))[:, 0]

    def serve(self, tokens: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K), their uncertainty (B,) and, of several orders, its two parts."""
        return orders.expectation(self._read(tokens, lengths, self.ranks))

    def _read(self, tokens: Tensor, lengths: Tensor, ranks: Tensor) -> Tensor:
        """Logits (B, k, K) by each order."""
        B, T = tokens.shape
        k = ranks.shape[0]
        s = torch.arange(T, device=tokens.device)
        known = s.clamp(max=ranks.shape[1] - 1)  # forms send no more than the window
        place = ranks[:, known, lengths.clamp(max=ranks.shape[1]).unsqueeze(1)]  # (k, B, T)
        # padding has a place too, perhaps one past the last
        place = place.transpose(0, 1).long().clamp(max=self.config.window - 1)
        x = self.token(tokens).unsqueeze(1) + self.position(place)  # (B, k, T, D)
        x = torch.cat([self.start.expand(B * k, -1, -1), x.flatten(0, 1)], 1)
        n = lengths.repeat_interleave(k).unsqueeze(1)  # (B k, 1)
        # (B k, T + 1), the start token first
        there = torch.arange(T + 1, device=tokens.device) <= n
        for block in self.blocks:
            x = block(x, there[:, None, None])
        h = (self.evidence(self.norm(x)) * there.unsqueeze(-1)).sum(1)  # (B k, D)
        logits: Tensor = self.head(h + self.narrow(F.relu(self.widen(h))))
        return logits.view(B, k, -1)


class Block(nn.Module):
    """Attention among all, then a network for each, both added to what was there."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.d_model
        self.heads = config.heads
        self.dropout = config.dropout
        self.norm_attention = nn.LayerNorm(D)
        self.query_key_value = nn.Linear(D, 3 * D)
        self.mix = nn.Linear(D, D)
        self.norm_ffn = nn.LayerNorm(D)
        self.widen = nn.Linear(D, 2 * D)
        self.narrow = nn.Linear(2 * D, D)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """x: (N, T, D). there: (N, 1, 1, T), what may be attended to."""
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.query_key_value(self.norm_attention(x)).chunk(3, -1)
        h = F.scaled_dot_product_attention(
            self._heads(q), self._heads(k), self._heads(v), there, dropout
        )
        h = self.mix(h.transpose(1, 2).flatten(2))
        x = x + F.dropout(h, dropout, self.training)
        f = self.narrow(F.relu(self.widen(self.norm_ffn(x))))
        return x + F.dropout(f, dropout, self.training)

    def _heads(self, x: Tensor) -> Tensor:
        """(N, T, D) as (N, H, T, D / H)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


def loss(model: Model, tokens: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """The sum of -log p(label) over the units."""
    return F.cross_entropy(model(tokens, lengths), labels, reduction="sum")
