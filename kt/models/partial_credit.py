"""What the Deep GPCM families share: answers as vectors, and the head that makes categories of an ability.

    θ_t = c E[θ | answers before t] + 3 (w_θ f_t + b_θ)          f_t: what the family's network tells of t
    z_0 = 0,  z_k = z_{k-1} + α_q (θ_t - β_{q,k})                p = softmax(z)

The expectation is kt/models/irt.py's, of an ability that stands still, by the items' own α and β. Training
begins with the items that irt finds in the same answers, c = 1 and w_θ = 0, so a deep model begins as its
reference and has only to learn what that misses. A memory that has to find the ability by itself ends
0.02 nats above the reference on simulated learners, and its θ correlates with the true one by 0.8.

What the reference explains leaves little to learn a network from: where students learn, or a test asks for
several abilities, training stopped at the reference. So in training the network must tell each answer
by itself as well, by θ'_t = 3 (w' f_t + b'), and the loss of that is added. Then c falls to what it is
worth: 1.0 where abilities stand still, 0.25 for simulated learners who learn ten skills.

So it is where an item's α and β are its own free parameters (`static`, the default). They may also come out
of a network of the item's key and f_t (`network`, as the first Deep GPCM had them): then θ_t is the second
term alone and has no scale of its own, so the loss draws its mean to 0 and its variance to 1 over a batch.

Steps β need not be ordered: that is the graded response model.

An answer is embedded as v = b + Σ_j S[r, j] E_j[q], S fixed, by the chosen strategy:
    linear_decay   S[r, j] = max(0, 1 - |r - j| / (K - 1))       neighbours share; for K = 2, DKVMN's own
    ordered        S[r] = (1[r > 0], r / (K - 1))                two tables, however many categories
    unordered      S = identity                                  a table a category
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import irt
from kt.models.family import Batch, State
from kt.models.sliding import enter, newest_last
from kt.models.tracing import RESERVED

ABILITY_SCALE = 3.0  # Deep-IRT's: θ of a fresh network then spreads like a standard normal


class Config(BaseModel):
    """What these families can all be set to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers that are looked at
    embedding: Literal["linear_decay", "ordered", "unordered"] = "linear_decay"
    item_parameters: Literal["static", "network"] = "static"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Model(Protocol):
    """A network with this head; events: what the head tells at every event (B, T), from those before it."""

    @property
    def head(self) -> "Head": ...
    def events(self, items: Tensor, responses: Tensor) -> dict[str, Tensor]: ...


class Answers(nn.Module):
    """v (..., D) of answers to items, responses (...)."""

    strategy: Tensor

    def __init__(self, config: Config, D: int) -> None:
        super().__init__()
        S = strategy(config.embedding, config.categories)  # (K, m)
        self.register_buffer("strategy", S, persistent=False)
        self.tables = nn.Embedding(config.items + RESERVED, S.shape[1] * D)  # E_j side by side
        self.bias = nn.Parameter(torch.zeros(D))

    def forward(self, items: Tensor, responses: Tensor) -> Tensor:
        E = self.tables(items).view(*items.shape, -1, len(self.bias))  # (..., m, D)
        v: Tensor = (self.strategy[responses].unsqueeze(-1) * E).sum(-2) + self.bias
        return v


class Head(nn.Module):
    """B students, M items asked or events, K categories."""

    def __init__(self, config: Config, features: int, d_key: int) -> None:
        super().__init__()
        self.config = config
        self.ability = nn.Linear(features, 1)
        if config.item_parameters == "static":
            sizes = config.model_dump(include={"items", "categories", "window"})
            self.standing = irt.Model(irt.Config(**sizes))
            self.trust = nn.Parameter(torch.ones(1))  # c
            self.alone = nn.Linear(features, 1)  # w', b'
            nn.init.zeros_(self.ability.weight)
            nn.init.zeros_(self.ability.bias)
        else:
            self.discriminate = nn.Linear(features + d_key, 1)
            self.difficulty = nn.Linear(d_key, config.categories - 1)

    def items(self, k: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """What items (...) with keys k (..., d_key) bring: log α or its network's part of k (..., 1), β (..., K - 1)."""
        if self.config.item_parameters == "static":
            return self.standing.log_discrimination(items), self.standing.steps(items)
        own = self.discriminate.weight[:, -k.shape[-1] :]
        return F.linear(k, own, self.discriminate.bias), self.difficulty(k)

    def forward(
        self, f: Tensor, discrimination: Tensor, steps: Tensor, standing: Tensor
    ) -> dict[str, Tensor]:
        """Logits (B, M, K), ability and discrimination (B, M), steps (B, M, K - 1).

        f: (B, M, features). discrimination, steps: of `items`. standing: (B, M or 1, S).
        In training, where items are static, the network's logits by itself are there too: alone (B, M, K).
        """
        f = F.dropout(f, self.config.dropout, self.training)
        theta = ABILITY_SCALE * self.ability(f)  # (B, M, 1)
        told = {}
        if self.config.item_parameters == "static":
            theta = theta + self.trust * standing
            alpha = discrimination.exp()
            if self.training:
                told["alone"] = irt.logits(ABILITY_SCALE * self.alone(f), alpha, steps)
        else:
            of_f = self.discriminate.weight[:, : f.shape[-1]]
            alpha = F.softplus(F.linear(f, of_f) + discrimination)
        return told | {
            "logits": irt.logits(theta, alpha, steps),
            "ability": theta.squeeze(-1),
            "discrimination": alpha.squeeze(-1),
            "steps": steps,
        }

    def standing_before(self, items: Tensor, responses: Tensor) -> Tensor:
        """Of a standing θ at every event, from the answers before it: (B, T, S), what `tell` does."""
        if self.config.item_parameters == "network":
            return torch.zeros((*items.shape, 1), device=items.device)
        return self.tell(self.standing.posteriors(items, responses))

    def begin(self, items: Tensor, responses: Tensor, lengths: Tensor) -> State:
        """The answers (B, T), and what they tell of a standing θ."""
        if self.config.item_parameters == "network":
            return {"answers": newest_last(items * self.config.categories + responses, lengths)}
        return self.standing.begin(items, responses, lengths)

    def take(self, state: State, answer: Tensor) -> State:
        """The state after one more answer, items K + responses (B,)."""
        if self.config.item_parameters == "network":
            return {"answers": enter(state["answers"], answer, self.config.window)}
        return self.standing.take(state, answer)

    def ask(self, state: State) -> Tensor:
        """Of a standing θ after all answers: (B, 1, S)."""
        if self.config.item_parameters == "network":
            answers = state["answers"]
            return torch.zeros((answers.shape[0], 1, 1), device=answers.device)
        return self.tell(self.standing.posterior(state)).unsqueeze(1)

    def tell(self, w: Tensor) -> Tensor:
        """(..., S = 1): the mean of θ where w (..., G) says how likely each is."""
        return (w @ self.standing.theta).unsqueeze(-1)


def served(told: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a head tells, with probabilities in place of logits."""
    others = {name: value for name, value in told.items() if name != "logits"}
    return {"probabilities": told["logits"].softmax(-1), **others}


def prepare(model: Model, batches: Sequence[Batch]) -> None:
    """Static items begin where irt's end."""
    if model.head.config.item_parameters == "static":
        irt.fit(model.head.standing, batches)


def loss(model: Model, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
    """The sum of -log p(response) over the events, and what holds the network to its task."""
    told = model.events(items, responses)
    event = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
    nll = surprise(told, responses, event)
    if model.head.config.item_parameters == "static":
        return nll
    theta = told["ability"][event]
    scale = theta.mean() ** 2 + (theta.var(correction=0) - 1) ** 2
    return nll + 0.01 * theta.numel() * scale


def surprise(told: dict[str, Tensor], responses: Tensor, event: Tensor) -> Tensor:
    """The sum of -log p(response) over the places (B, T) that are events; in training the network's by itself too."""
    nll = F.cross_entropy(told["logits"][event], responses[event], reduction="sum")
    if "alone" in told:
        nll = nll + F.cross_entropy(told["alone"][event], responses[event], reduction="sum")
    return nll


def items(model: Model) -> dict[str, Tensor]:
    """The parameters of the items, in the vocabulary's order; of a network, which makes them anew each time, none."""
    if model.head.config.item_parameters == "network":
        return {}
    return irt.items(model.head.standing)


def strategy(embedding: str, categories: int) -> Tensor:
    """S (K, m): how much of each table an answer of category r takes."""
    r = torch.arange(categories, dtype=torch.float32)
    if embedding == "linear_decay":
        return (1 - (r.unsqueeze(1) - r).abs() / (categories - 1)).clamp(min=0)
    if embedding == "ordered":
        return torch.stack([(r > 0).float(), r / (categories - 1)], 1)
    return torch.eye(categories)
