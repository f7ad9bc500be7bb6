"""Deep GPCM: a memory network tells a student's ability, the partial credit model what it earns.

    memory   Zhang et al., "Dynamic Key-Value Memory Networks", WWW 2017 (DKVMN)
    head     Muraki, "A generalized partial credit model", 1992 (GPCM); for two categories it is the
             two-parameter logistic model, and the whole is close to Yeung's Deep-IRT, EDM 2019

    k_t = A[q_t]   w_t = softmax(M^k k_t)                        which slots an item concerns
    ρ_t = Σ_i w_t(i) M_t(i)                                      read, before the answer is known
    θ_t = 3 (w_θ tanh(W_f [ρ_t; k_t] + b_f) + b_θ)               ability
    z_0 = 0,  z_k = z_{k-1} + α_q (θ_t - β_{q,k})                p = softmax(z)
    M_{t+1}(i) = M_t(i) (1 - w_t(i) e_t) + w_t(i) a_t            write the answer: erase, add

Steps β need not be ordered: that is the graded response model. An item's α and β are its own free
parameters (`static`, the default: better on simulated and as good on real tests, and they can be read) or
come out of a network of its key and the memory (`network`). θ has no scale of its own, so the loss
draws its mean to 0 and its variance to 1 over a batch.

An answer is embedded as v = b + Σ_j S[r, j] E_j[q], S fixed, by the chosen strategy:
    linear_decay   S[r, j] = max(0, 1 - |r - j| / (K - 1))       neighbours share; for K = 2, DKVMN's own
    ordered        S[r] = (1[r > 0], r / (K - 1))                two tables, however many categories
    unordered      S = identity                                  a table a category
"""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import tracing
from kt.models.family import State
from kt.models.items import tables
from kt.models.recurrence import recur, tier
from kt.models.sliding import enter, erased, newest_last, written
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
RECIPE = {"lr": 5e-3, "average": 0.99, "patience": 3}
signature = tracing.numbered

SIZES: dict[str, dict[str, Any]] = {
    "small": {"slots": 10, "d_key": 20, "d_value": 40, "hidden": 20},  # hundreds of students
    "medium": {"slots": 20, "d_key": 64, "d_value": 64, "hidden": 64},
    "large": {"slots": 50, "d_key": 128, "d_value": 128, "hidden": 128},
}

ABILITY_SCALE = 3.0  # Deep-IRT's: θ of a fresh network then spreads like a standard normal


class Config(BaseModel):
    """Sizes of the network; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers the memory runs over
    slots: Annotated[int, Field(ge=1)] = 20
    d_key: Annotated[int, Field(ge=1)] = 64
    d_value: Annotated[int, Field(ge=1)] = 64
    hidden: Annotated[int, Field(ge=1)] = 64
    embedding: Literal["linear_decay", "ordered", "unordered"] = "linear_decay"
    item_parameters: Literal["static", "network"] = "static"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Item(NamedTuple):
    """What items (...) bring to a prediction by themselves."""

    weights: Tensor  # (..., N) w, the share of each slot
    summary: Tensor  # (..., hidden) the part of k in W_f [ρ; k] + b_f
    discrimination: Tensor  # (..., 1) log α, or the part of k in what α is the softplus of
    steps: Tensor  # (..., K - 1) β


class Model(nn.Module):
    """B students, T answers or events, M items asked, K categories, N slots, D d_value."""

    PAYS = 32
    strategy: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        N, D, K = config.slots, config.d_value, config.categories
        rows = config.items + RESERVED
        self.config = config
        S = strategy(config.embedding, K)  # (K, m)
        self.register_buffer("strategy", S, persistent=False)
        # Both start as N(0, 1): with a tenth of that, all items address all slots alike for many epochs
        # and assist2015 ends at 0.718 of AUC, not 0.723.
        self.key = nn.Embedding(rows, config.d_key)
        self.answered = nn.Embedding(rows, S.shape[1] * D)  # E_j side by side
        self.answered_bias = nn.Parameter(torch.zeros(D))
        self.address = nn.Linear(config.d_key, N, bias=False)  # M^k
        self.memory = nn.Parameter(torch.randn(N, D) / math.sqrt(D))  # M_0
        self.erase = nn.Linear(D, D)
        self.add = nn.Linear(D, D)
        self.summary = nn.Linear(D + config.d_key, config.hidden)
        self.ability = nn.Linear(config.hidden, 1)
        if config.item_parameters == "static":
            self.log_discrimination = nn.Embedding(rows, 1)
            self.steps = nn.Embedding(rows, K - 1)
            nn.init.zeros_(self.log_discrimination.weight)
            nn.init.zeros_(self.steps.weight)
        else:
            self.discriminate = nn.Linear(config.hidden + config.d_key, 1)
            self.difficulty = nn.Linear(config.d_key, K - 1)

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
        return self.ask({"memory": self._after(*self._writes(items, responses, lengths))}, asked)

    def begin(self, items: Tensor, responses: Tensor, lengths: Tensor) -> State:
        """memory and kept (B, N, D), the logarithm of what all answers left of M_0; the answers (B, T).

        In double precision: what is added and taken out again over thousands of answers must cancel.
        """
        w, e, a = self._writes(items, responses, lengths)
        kept = (-erased(w, e)).log1p().sum(1, dtype=torch.float64)
        answers = newest_last(items * self.config.categories + responses, lengths)
        return {"memory": self._after(w, e, a).double(), "kept": kept, "answers": answers}

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        """Of a full window the oldest answer is taken out of the memory, as far as later ones kept it."""
        memory, kept, answers = state["memory"], state["kept"], state["answers"]
        K = self.config.categories
        if answers.shape[1] == self.config.window:
            w, e, a = self._write(answers[:, 0] // K, answers[:, 0] % K)
            w = w * (answers[:, :1] >= K)  # padding wrote nothing
            share = erased(w, e).double()
            kept = kept - (-share).log1p()
            first = written(self.memory.double(), share, w, a) - self.memory
            memory = memory - kept.exp() * first
        w, e, a = self._write(items, responses)
        share = erased(w, e).double()
        return {
            "memory": written(memory, share, w, a),
            "kept": kept + (-share).log1p(),
            "answers": enter(answers, items * K + responses, self.config.window),
        }

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        """As serve, from the memory of a state."""
        item = self._item(asked)
        told = self._head(item.weights @ state["memory"].to(item.weights.dtype), item)
        return {
            "probabilities": told["logits"].softmax(-1),
            "ability": told["ability"],
            "discrimination": told["discrimination"],
            "steps": told["steps"],
        }

    def _writes(
        self, items: Tensor, responses: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """w (B, T, N), 0 for padding, e and a (B, T, D) of answers."""
        w, e, a = self._write(items, responses)
        place = torch.arange(items.shape[1], device=items.device)
        return w * (place < lengths.unsqueeze(1)).unsqueeze(-1), e, a

    def _write(self, items: Tensor, responses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._weights(self.key(items)), *self._written(items, responses)

    def _after(self, w: Tensor, e: Tensor, a: Tensor) -> Tensor:
        """The memory (B, N, D) after all that is written."""
        # (B, N or D, T + 1): a step in front that writes nothing, so that one product serves M_0 too
        w, e, a = (F.pad(x.flip(1).transpose(1, 2), (1, 0)) for x in (w, e, a))
        kept = (1 - w.unsqueeze(2) * e.unsqueeze(1)).cumprod(-1)  # (B, N, D, T + 1)
        w, a = w[..., 1:].unsqueeze(2), a[..., 1:].unsqueeze(1)
        return self.memory * kept[..., -1] + (kept[..., :-1] * w * a).sum(-1)

    def events(self, items: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """The head's outputs at every event (B, T, ...). Padding on the right is written after all reads."""
        rows, K = self.config.items + RESERVED, self.config.categories
        item = Item(*tabled(self._item, items, rows))
        answers = items * K + responses
        e, a = tabled(lambda answer: self._written(answer // K, answer % K), answers, rows * K)
        return self._head(recur(item.weights, e, a, self.memory), item)

    def _weights(self, k: Tensor) -> Tensor:
        """(..., N): the share of each slot."""
        return torch.softmax(self.address(k), -1)

    def _written(self, items: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """What the answers (B, T) erase and add, (B, T, D) each."""
        E = self.answered(items).view(*items.shape, -1, self.config.d_value)  # (B, T, m, D)
        v = (self.strategy[responses].unsqueeze(-1) * E).sum(-2) + self.answered_bias
        return torch.sigmoid(self.erase(v)), torch.tanh(self.add(v))

    def _item(self, items: Tensor) -> Item:
        """What is known of items (...) before any answer."""
        k, D, H = self.key(items), self.config.d_value, self.config.hidden
        summary = F.linear(k, self.summary.weight[:, D:], self.summary.bias)
        if self.config.item_parameters == "static":
            discrimination, steps = self.log_discrimination(items), self.steps(items)
        else:
            discrimination = F.linear(k, self.discriminate.weight[:, H:], self.discriminate.bias)
            steps = self.difficulty(k)
        return Item(self._weights(k), summary, discrimination, steps)

    def _head(self, read: Tensor, item: Item) -> dict[str, Tensor]:
        """GPCM over items (B, M): logits (B, M, K), ability and discrimination (B, M), steps (B, M, K - 1)."""
        D, H = self.config.d_value, self.config.hidden
        f = (F.linear(read, self.summary.weight[:, :D]) + item.summary).tanh()
        f = F.dropout(f, self.config.dropout, self.training)
        theta = ABILITY_SCALE * self.ability(f)  # (B, M, 1)
        if self.config.item_parameters == "static":
            alpha = item.discrimination.exp()
        else:
            alpha = F.softplus(F.linear(f, self.discriminate.weight[:, :H]) + item.discrimination)
        beta = item.steps
        z = F.pad((alpha * (theta - beta)).cumsum(-1), (1, 0))
        return {
            "logits": z,
            "ability": theta.squeeze(-1),
            "discrimination": alpha.squeeze(-1),
            "steps": beta,
        }


def loss(model: Model, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
    """The sum of -log p(response) over the events, and what holds θ to a scale."""
    told = model.events(items, responses)
    event = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
    nll = F.cross_entropy(told["logits"][event], responses[event], reduction="sum")
    theta = told["ability"][event]
    scale = theta.mean() ** 2 + (theta.var(correction=0) - 1) ** 2
    return nll + 0.01 * theta.numel() * scale


def tabled(
    of: Callable[[Tensor], Iterable[Tensor]], places: Tensor, count: int
) -> Iterable[Tensor]:
    """of(places), through the table of(0 .. count - 1) where that is less to compute."""
    if places.numel() < count:
        return of(places)
    tables = of(torch.arange(count, device=places.device))
    # index_select's gradient is added up several times as fast as that of table[places]
    return [x.index_select(0, places.flatten()).view(*places.shape, -1) for x in tables]


def versions() -> dict[str, str]:
    return {"recurrence": tier().name}


def items(model: Model) -> dict[str, Tensor]:
    """The parameters of the items, in the vocabulary's order; of a network, which makes them anew each time, none."""
    if model.config.item_parameters == "network":
        return {}
    known = slice(RESERVED, None)
    return tables(model.log_discrimination.weight[known], model.steps.weight[known])


def strategy(embedding: str, categories: int) -> Tensor:
    """S (K, m): how much of each table an answer of category r takes."""
    r = torch.arange(categories, dtype=torch.float32)
    if embedding == "linear_decay":
        return (1 - (r.unsqueeze(1) - r).abs() / (categories - 1)).clamp(min=0)
    if embedding == "ordered":
        return torch.stack([(r > 0).float(), r / (categories - 1)], 1)
    return torch.eye(categories)
