"""SAKT: what a student will answer, by self-attention over what they answered before.

Pandey and Karypis, "A Self-Attentive model for Knowledge Tracing", EDM 2019. One block:

    x_s = I[q_s, r_s]                                  an answer
    h_t = attention(E[q_t]; K, V of x_s with s < t)    an item asks the answers before it
    p_t = softmax(W ffn(h_t))                          the categories; for two, the paper's sigmoid

Three things are not the paper's. A learnt start token stands before the first answer, so that an
empty history has something to attend to. Positions are distances: a learnt bias for each head on
t - s rather than a vector added to x_s, so that a window may slide along a history and nothing
changes. And of K categories the first has the logit 0, so that two have one free logit.
"""

import math
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import tracing
from kt.models.compiled import Compiled
from kt.models.family import State
from kt.models.sliding import newest_last
from kt.models.tables import Table
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "auc"
signature = tracing.numbered

SIZES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 64, "heads": 4},
    "medium": {"d_model": 128, "heads": 8},
    "large": {"d_model": 256, "heads": 8},
}


class Config(BaseModel):
    """Sizes of the network; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers attended to
    d_model: Annotated[int, Field(ge=1)] = 128
    heads: Annotated[int, Field(ge=1)] = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Model(nn.Module):
    """B students, T answers or events, M items asked, K categories, D d_model, H heads."""

    PAYS = 100  # copies of keys and values cost what their products do
    SLIDES = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, H, K = config.d_model, config.heads, config.categories
        if D % H:
            raise ValueError(f"d_model {D} is not a multiple of heads {H}")
        rows = config.items + RESERVED
        self.config = config
        self.interaction = nn.Embedding(rows * K, D)
        self.item = nn.Embedding(rows, D)
        self.start = nn.Parameter(torch.randn(1, 1, D) / math.sqrt(D))
        self.recency = nn.Parameter(slopes(H, config.window))  # (H, window + 1), by distance
        self.query = nn.Linear(D, D)
        self.key_value = nn.Linear(D, 2 * D)
        self.mix = nn.Linear(D, D)
        self.norm_attention = nn.LayerNorm(D)
        self.widen = nn.Linear(D, D)
        self.narrow = nn.Linear(D, D)
        self.norm_ffn = nn.LayerNorm(D)
        self.head = nn.Linear(D, K - 1)
        nn.init.normal_(self.interaction.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        self.attended = Table(self, self._attended, rows * K)
        self.queries = Table(self, self._query, rows)
        self.biases = Table(self, self._biases, config.window + 1)
        tables = (self.queries, self.attended, self.biases) if type(self) is Model else ()
        self.steps = Compiled(self, "kt.models.sakt_steps", tables)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits of every event, each from the events before it. All arguments (B, T), lengths (B,).

        Padding stands on the right, after every event that could ask, so the mask need not know it.
        """
        T = items.shape[1]
        keys, values = self._history(items[:, :-1], responses[:, :-1])  # (B, H, T, D / H)
        # key 0 is the start token, key j the event j - 1: event t may see keys 0 .. t
        place = torch.arange(T, device=items.device)
        ago = place.unsqueeze(1) - place  # (T, T)
        bias = self._bias(ago + 1).masked_fill(ago < 0, -math.inf)  # (H, T, T)
        return self._answer(items, keys, values, bias.unsqueeze(0))

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """Probabilities (B, M, K) of the items asked, each from the whole history and from no other."""
        return self._ask(self.begin(items, responses, lengths), asked)

    def begin(self, items: Tensor, responses: Tensor, lengths: Tensor) -> State:
        """attended: keys and values (B, T + 1, 2 D) of the answers, the newest last, then of the start
        token; lengths (B,): how many of them are answers."""
        answers = newest_last(items * self.config.categories + responses, lengths)
        (seen,) = self.attended(answers)
        start = self.key_value(self.start).expand(items.shape[0], -1, -1)
        return {"attended": torch.cat([seen, start], 1), "lengths": lengths}

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        """Positions are distances, so that the oldest answer of a full window is left out and all else stays."""
        if steps := self.steps(items.device):
            return steps.advance(state, items, responses)
        answers = torch.add(responses, items, alpha=self.config.categories)
        (new,) = self.attended(answers)  # (B, 2 D)
        before, start = state["attended"][:, :-1], state["attended"][:, -1:]
        first = max(0, before.shape[1] + 1 - self.config.window)
        return {
            "attended": torch.cat([before[:, first:], new.unsqueeze(1), start], 1),
            "lengths": (state["lengths"] + 1).clamp(max=self.config.window),
        }

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        """As serve, from what a state attends to."""
        steps = self.steps(asked.device)
        return steps.ask(state, asked) if steps else self._ask(state, asked)

    def _ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        attended = state["attended"]
        B, T, _ = attended.shape
        both = attended.view(B, T, 2, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        keys, values = both.unbind()  # (B, H, T, D / H)
        (bias,) = self.biases(state["lengths"])
        # not [..., -T:], which torch.export would take for one T
        last = torch.arange(self.config.window + 1 - T, self.config.window + 1, device=bias.device)
        bias = bias.view(B, self.config.heads, 1, -1).index_select(-1, last)
        e, query = self.queries(asked)
        logits = self._attend(e, query, keys, values, bias)
        return {"probabilities": logits.softmax(-1)}

    def _attended(self, answers: Tensor) -> tuple[Tensor]:
        """Keys and values (..., 2 D) of answers (...)."""
        return (self.key_value(self.interaction(answers)),)

    def _query(self, items: Tensor) -> tuple[Tensor, Tensor]:
        e = self.item(items)
        return e, self.query(e)

    def _biases(self, lengths: Tensor) -> tuple[Tensor]:
        """(..., H (window + 1)): for what a full window attends to, of which the last (...,) are answers."""
        window = self.config.window
        place = torch.arange(window, 0, -1, device=lengths.device)
        lengths = lengths.unsqueeze(-1)
        ago = torch.cat([place.expand(*lengths.shape[:-1], -1), lengths + 1], -1)
        padding = F.pad(place > lengths, (0, 1))
        bias = self._bias(ago).masked_fill(padding, -math.inf)  # (H, ..., window + 1)
        return (bias.movedim(0, -2).flatten(-2),)

    def _history(self, items: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T + 1, D / H) of the start token and the answers."""
        x = self.interaction(items * self.config.categories + responses)  # (B, T, D)
        x = torch.cat([self.start.expand(x.shape[0], -1, -1), x], 1)
        keys, values = self.key_value(x).chunk(2, -1)
        return self._heads(keys), self._heads(values)

    def _answer(self, items: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Logits (B, M, K) of items (B, M) that attend to the keys as the bias allows."""
        return self._attend(*self._query(items), keys, values, bias)

    def _attend(
        self, e: Tensor, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor
    ) -> Tensor:
        """The same of items e that ask query, (B, M, D) each."""
        dropout = self.config.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(self._heads(query), keys, values, bias, dropout)
        h = self.mix(h.transpose(1, 2).flatten(2))  # (B, M, D)
        h = self.norm_attention(e + self._dropped(h))
        f = self.narrow(self._dropped(F.relu(self.widen(h), inplace=True)))
        h = self.norm_ffn(h + self._dropped(f))
        return F.pad(self.head(h), (1, 0))

    def _dropped(self, x: Tensor) -> Tensor:
        """In serving F.dropout does nothing, in a time that counts."""
        return F.dropout(x, self.config.dropout) if self.training else x

    def _bias(self, ago: Tensor) -> Tensor:
        """(H, *ago.shape): how much each head cares for what is so many answers ago."""
        return self.recency[:, ago.clamp(0, self.config.window)]

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, D) as (B, H, T, D / H)."""
        return x.view(*x.shape[:-1], self.config.heads, -1).transpose(1, 2)


def loss(model: Model, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
    """The sum of -log p(response) over the events."""
    logits = model(items, responses, lengths)
    event = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
    return F.cross_entropy(logits[event], responses[event], reduction="sum")


def slopes(heads: int, window: int) -> Tensor:
    """Press et al. 2022 (ALiBi): head h begins with -distance / 2^(8 h / H); training moves it."""
    slope = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return -slope.unsqueeze(1) * torch.arange(window + 1.0)
