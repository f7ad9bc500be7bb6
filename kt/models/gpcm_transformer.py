"""Deep GPCM with self-attention in place of the memory: every event asks the events before it.

    x_t = [A[q_t]; v(q_{t-1}, r_{t-1})]                an event: its item, and the answer before it
    h_t = x_t, then in each layer, with N for layer norm
    h_t = h_t + attention(N h_t; K, V of N h_s with s < t)
    h_t = h_t + W relu(W N h_t)
    f_t = N h_t / √D                                   what the head (kt/models/partial_credit.py) goes by

Attention is strictly to what is before: an event has its own item and the answer before it in its residual
stream. A learnt key and value stand before the first event. Positions are distances, a learnt bias
for each head on t - s, as in kt/models/sakt.py and for its reason.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import partial_credit, tracing
from kt.models.partial_credit import Answers, Head, items, loss, prepare, served
from kt.models.sakt import slopes
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
signature = tracing.numbered

RECIPE = {"lr": 1e-3, "average": 0.99, "patience": 5}

__all__ = [
    "FORM",
    "METRIC",
    "RECIPE",
    "SIZES",
    "TASK",
    "Config",
    "Model",
    "items",
    "loss",
    "prepare",
    "signature",
]

SIZES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 64, "heads": 4, "layers": 1},
    "medium": {"d_model": 128, "heads": 8, "layers": 2},
    "large": {"d_model": 256, "heads": 8, "layers": 3},
}


class Config(partial_credit.Config):
    """Sizes of the network; part of the version."""

    d_model: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    heads: Annotated[int, Field(ge=1)] = 4
    layers: Annotated[int, Field(ge=1)] = 1


class Model(nn.Module):
    """B students, T answers or events, M items asked, D d_model, H heads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.d_model
        if D % config.heads:
            raise ValueError(f"d_model {D} is not a multiple of heads {config.heads}")
        self.config = config
        self.key = nn.Embedding(config.items + RESERVED, D // 2)
        self.answers = Answers(config, D // 2)
        self.start = nn.Parameter(torch.randn(1, 1, D // 2) / math.sqrt(D))  # v before any answer
        self.layers: Iterable[Layer] = nn.ModuleList(Layer(config) for _ in range(config.layers))  # type: ignore[assignment]  # of Layers
        self.norm = nn.LayerNorm(D)
        self.head = Head(config, D, D // 2)
        for table in (self.key, self.answers.tables):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event, each from the events before it. lengths: (B,)."""
        return self.events(items, responses)["logits"]

    def events(self, items: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """The head's outputs at every event (B, T, ...). Padding on the right is seen by none before it."""
        k = self.key(items)
        v = torch.cat([self._start(items), self.answers(items, responses)[:, :-1]], 1)
        h = torch.cat([k, v], -1)  # (B, T, D)
        ago = distances(items)
        for layer in self.layers:
            h = layer(h, *layer.keys(h), ago)
        standing = self.head.standing_before(items, responses)
        return self._told(h, k, items, standing)

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """What the items asked (B, M) will earn, each from the whole history and from no other."""
        v = torch.cat([self._start(items), self.answers(items, responses)], 1)  # (B, T + 1, D / 2)
        h = torch.cat([self.key(items), v[:, :-1]], -1)  # (B, T, D)
        last = v.gather(1, lengths[:, None, None].expand(-1, 1, v.shape[2]))
        k = self.key(asked)
        g = torch.cat([k, last.expand(-1, asked.shape[1], -1)], -1)  # (B, M, D)
        ago = distances(items)
        since = lengths.unsqueeze(1) - torch.arange(items.shape[1], device=items.device)  # (B, T)
        for layer in self.layers:
            seen = layer.keys(h)
            g = layer(g, *seen, since.unsqueeze(1))
            h = layer(h, *seen, ago)
        standing = self.head.ask(self.head.begin(items, responses, lengths))
        return served(self._told(g, k, asked, standing))

    def _told(self, h: Tensor, k: Tensor, items: Tensor, standing: Tensor) -> dict[str, Tensor]:
        """What the head tells of items (B, M) with keys k (B, M, D / 2)."""
        D = self.config.d_model
        f = self.norm(h) / math.sqrt(D)  # so that θ spreads no wider with more of it
        told: dict[str, Tensor] = self.head(f, *self.head.items(k, items), standing)
        return told

    def _start(self, items: Tensor) -> Tensor:
        return self.start.expand(items.shape[0], -1, -1)


class Layer(nn.Module):
    """Attention to earlier events, then a network of each event's own. Q events ask, T are asked."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, H = config.d_model, config.heads
        self.config = config
        self.start = nn.Parameter(torch.randn(1, 1, 2 * D) / math.sqrt(D))  # its key and value
        self.recency = nn.Parameter(slopes(H, config.window))  # (H, window + 1), by distance
        self.norm_attention = nn.LayerNorm(D)
        self.query = nn.Linear(D, D)
        self.key_value = nn.Linear(D, 2 * D)
        self.mix = nn.Linear(D, D)
        self.norm_ffn = nn.LayerNorm(D)
        self.widen = nn.Linear(D, D)
        self.narrow = nn.Linear(D, D)

    def keys(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, 1 + T, D / H) of the start and of events (B, T, D)."""
        found = self.key_value(self.norm_attention(h))
        keys, values = torch.cat([self.start.expand(h.shape[0], -1, -1), found], 1).chunk(2, -1)
        return self._heads(keys), self._heads(values)

    def forward(self, h: Tensor, keys: Tensor, values: Tensor, ago: Tensor) -> Tensor:
        """(B, Q, D). ago: (B or 1, Q or 1, T), how long before each an event was; it is seen from 1 on."""
        dropout = self.config.dropout if self.training else 0.0
        bias = self.recency[:, ago.clamp(0, self.config.window)].transpose(0, 1)  # (B, H, Q, T)
        bias = bias.masked_fill((ago < 1).unsqueeze(1), -math.inf)
        bias = F.pad(bias, (1, 0))  # the start has no distance
        query = self._heads(self.query(self.norm_attention(h)))
        found = F.scaled_dot_product_attention(query, keys, values, bias, dropout)
        h = h + F.dropout(self.mix(found.transpose(1, 2).flatten(2)), dropout, self.training)
        f = F.dropout(F.relu(self.widen(self.norm_ffn(h))), dropout, self.training)
        out: Tensor = h + F.dropout(self.narrow(f), dropout, self.training)
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """(B, Q, D) as (B, H, Q, D / H)."""
        return x.view(*x.shape[:-1], self.config.heads, -1).transpose(1, 2)


def distances(items: Tensor) -> Tensor:
    """(1, T, T): how many events the second is before the first."""
    place = torch.arange(items.shape[1], device=items.device)
    return (place.unsqueeze(1) - place).unsqueeze(0)
