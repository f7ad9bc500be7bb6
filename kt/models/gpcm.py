"""Deep GPCM: a memory network tells a student's ability, the partial credit model what it earns.

    memory   Zhang et al., "Dynamic Key-Value Memory Networks", WWW 2017 (DKVMN)
    head     Muraki, "A generalized partial credit model", 1992 (GPCM); for two categories it is the
             two-parameter logistic model, and the whole is close to Yeung's Deep-IRT, EDM 2019

    k_t = A[q_t]   w_t = softmax(M^k k_t)                        which slots an item concerns
    ρ_t = Σ_i w_t(i) M_t(i)                                      read, before the answer is known
    f_t = tanh(W_f [ρ_t; k_t] + b_f)                             what the head goes by
    M_{t+1}(i) = M_t(i) (1 - w_t(i) e_t) + w_t(i) a_t            write the answer: erase, add

The head and how answers are embedded: kt/models/partial_credit.py.
"""

import math
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import partial_credit, tracing
from kt.models.compiled import Compiled
from kt.models.family import State
from kt.models.partial_credit import Answers, Head, items, loss, prepare, served
from kt.models.recurrence import recur, tier
from kt.models.sliding import ALL_BUT, Kept, Write, kept, slid, written
from kt.models.tables import Table, tabled
from kt.models.tracing import PADDING, RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
RECIPE = {"lr": 5e-3, "average": 0.99, "patience": 3}
signature = tracing.numbered

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
    "versions",
]

# For up to 25 items and 1,000 students, up to 100 and 10,000, more. Config's own defaults lie between, and
# do better on assist2015.
SIZES: dict[str, dict[str, Any]] = {
    "small": {"slots": 20, "d_key": 20, "d_value": 60, "hidden": 20},
    "medium": {"slots": 40, "d_key": 40, "d_value": 120, "hidden": 40},
    "large": {"slots": 80, "d_key": 80, "d_value": 240, "hidden": 80},
}


class Config(partial_credit.Config):
    """Sizes of the network; part of the version."""

    slots: Annotated[int, Field(ge=1)] = 20
    d_key: Annotated[int, Field(ge=1)] = 64
    d_value: Annotated[int, Field(ge=1)] = 64
    hidden: Annotated[int, Field(ge=1)] = 64


class Item(NamedTuple):
    """What items (...) bring to a prediction by themselves."""

    weights: Tensor  # (..., N) w, the share of each slot
    summary: Tensor  # (..., hidden) the part of k in W_f [ρ; k] + b_f
    discrimination: Tensor  # (..., 1) what the head makes α of
    steps: Tensor  # (..., K - 1) β


class Model(nn.Module):
    """B students, T answers or events, M items asked, K categories, N slots, D d_value."""

    PAYS = 16
    SLIDES = True
    HEAD: type[Head] = Head

    def __init__(self, config: Config) -> None:
        super().__init__()
        N, D = config.slots, config.d_value
        self.config = config
        # Both tables start as N(0, 1): with a tenth of that, all items address all slots alike for many
        # epochs and assist2015 ends at 0.718 of AUC, not 0.723.
        self.key = nn.Embedding(config.items + RESERVED, config.d_key)
        self.answers = Answers(config, D)
        self.address = nn.Linear(config.d_key, N, bias=False)  # M^k
        self.memory = nn.Parameter(torch.randn(N, D) / math.sqrt(D))  # M_0
        self.erase = nn.Linear(D, D)
        self.add = nn.Linear(D, D)
        self.summary = nn.Linear(D + config.d_key, config.hidden)
        self.head = self.HEAD(config, config.hidden, config.d_key)
        rows = config.items + RESERVED
        self.writes = Table(self, self._write, rows * config.categories)
        self.items = Table(self, self._item, rows)
        plain = type(self) is Model and config.item_parameters == "static"
        tables = (self.items, self.writes, self.head.standing.tells) if plain else ()
        self.steps = Compiled(self, "kt.models.gpcm_steps", tables)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event, each from the events before it. lengths: (B,)."""
        return self.events(items, responses)["logits"]

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """What the items asked (B, M) will earn, each from the whole history and from no other.

        Only the memory after the last answer is needed, and that has a closed form: what was written
        at s is kept by the product of what every later answer keeps. With the answers turned around,
        newest first, this is one cumulative product and no loop.
        """
        M = self._after(self._written_by(items, responses, lengths))
        return self._ask({"memory": M, **self.head.begin(items, responses, lengths)}, asked)

    def begin(self, items: Tensor, responses: Tensor, lengths: Tensor) -> State:
        """memory (B, N, D), of a full window share and strides (sliding.Kept), and what the head keeps.

        In double precision: what is added and taken out again over thousands of answers must cancel.
        """
        by = self._written_by(items, responses, lengths)
        told = self.head.begin(items, responses, lengths)
        state = {"memory": self._after(by).double(), **told}
        if items.shape[1] == self.config.window:
            state |= kept(by)._asdict()
        return state

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        """Of a full window the oldest answer is taken out of the memory, as far as later ones kept it."""
        if (steps := self.steps(items.device)) and steps.takes(state):
            return steps.advance(state, items, responses)
        answer = torch.add(responses, items, alpha=self.config.categories)
        told = self.head.take(state, answer)
        answers, enters = state["answers"], Write(*self.writes(answer))
        if answers.shape[1] == self.config.window:
            leaves = Write(*self.writes(answers[:, 0]))
            left = Kept(state["share"], state["strides"])
            memory, left = slid(state["memory"], left, self.memory, leaves, enters)
            return {"memory": memory, **left._asdict(), **told}
        after = {"memory": written(state["memory"], enters), **told}
        if told["answers"].shape[1] == self.config.window:
            after |= kept(Write(*self.writes(told["answers"])))._asdict()
        return after

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        """As serve, from the memory of a state."""
        steps = self.steps(asked.device)
        return steps.ask(state, asked) if steps else self._ask(state, asked)

    def _ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        item = Item(*self.items(asked))
        read = item.weights @ state["memory"].to(item.weights.dtype)
        return served(self._told(read, item, self.head.ask(state)))

    def _written_by(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Write:
        """What answers (B, T) write; w is 0 for padding."""
        w, e, a = self.writes(items * self.config.categories + responses)
        place = torch.arange(items.shape[1], device=items.device)
        return Write(w * (place < lengths.unsqueeze(1)).unsqueeze(-1), e, a)

    def _write(self, answers: Tensor) -> Write:
        items, responses = answers // self.config.categories, answers % self.config.categories
        w = self._weights(self.key(items)) * (items != PADDING).unsqueeze(-1)
        e, a = self._written(items, responses)
        return Write(w, e.clamp(max=ALL_BUT), a)

    def _after(self, by: Write) -> Tensor:
        """The memory (B, N, D) after all answers (B, T)."""
        # (B, N or D, T + 1): a step in front that writes nothing, so that one product serves M_0 too
        w, e, a = (F.pad(x.flip(1).transpose(1, 2), (1, 0)) for x in by)
        left = (1 - w.unsqueeze(2) * e.unsqueeze(1)).cumprod(-1)  # (B, N, D, T + 1)
        w, a = w[..., 1:].unsqueeze(2), a[..., 1:].unsqueeze(1)
        return self.memory * left[..., -1] + (left[..., :-1] * w * a).sum(-1)

    def events(self, items: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """The head's outputs at every event (B, T, ...). Padding on the right is written after all reads."""
        rows, K = self.config.items + RESERVED, self.config.categories
        item = Item(*tabled(self._item, items, rows))
        answers = items * K + responses
        e, a = tabled(lambda answer: self._written(answer // K, answer % K), answers, rows * K)
        read = recur(item.weights, e, a, self.memory)
        return self._told(read, item, self.head.standing_before(items, responses))

    def _weights(self, k: Tensor) -> Tensor:
        """(..., N): the share of each slot."""
        return torch.softmax(self.address(k), -1)

    def _written(self, items: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """What the answers (B, T) erase and add, (B, T, D) each."""
        v = self.answers(items, responses)
        return torch.sigmoid(self.erase(v)), torch.tanh(self.add(v))

    def _item(self, items: Tensor) -> Item:
        """What is known of items (...) before any answer."""
        k, D = self.key(items), self.config.d_value
        summary = F.linear(k, self.summary.weight[:, D:], self.summary.bias)
        return Item(self._weights(k), summary, *self.head.items(k, items))

    def _told(self, read: Tensor, item: Item, standing: Tensor) -> dict[str, Tensor]:
        """What the head tells of items (B, M) for which read (B, M, D) was in the memory."""
        f = (F.linear(read, self.summary.weight[:, : self.config.d_value]) + item.summary).tanh()
        told: dict[str, Tensor] = self.head(f, item.discrimination, item.steps, standing)
        return told


def versions() -> dict[str, str]:
    return {"recurrence": tier().name}
