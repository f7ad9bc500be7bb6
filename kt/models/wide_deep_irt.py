"""Wide & deep IRT: items with parameters that can be read, an ability that a small network makes of the past.

Pu, Yan and Zhang, JEDM 16(2), 2024, and Muraki's partial credit steps for more than two categories:

    z_0 = 0,  z_k = z_{k-1} + a_q (θ_t - b_{q,k}) + φ_t           p = softmax(z)
    wide   b_q = b_item + b_skill,  log a_q = log a_item + log a_skill       an item's own around its skill's
    deep   v_s = mlp(response, b, log a, skill of s)                         what an earlier answer tells
           h_t = Σ_{s<t} e^{-λ(t-s)} v_s / (1 + n_t),  n_t = Σ_{s<t} e^{-λ(t-s)}         for several learnt λ
           θ_t = mlp(h_t, n_t over all answers and over those of the skill asked; the skill)
           φ_t = mlp(h_t, n_t over answers to this very item), 0 where there are none

So θ is an ability in a skill, the same for all its items, and what remains of an item that was met before
stands apart from it. With `guessing`, for multiple choice, p(1) = c_q + (1 - c_q) σ(z_1).

What the paper's authors take from all events is from training students alone here: counts and success
rates of the items, which the parameters begin at, and their priors, b_item ~ N(0, 0.7²) and log a_item
~ N(0, 0.2²), which hold each item to its skill as far as its answers are few.

Of an answer the network sees who was right at what, and when, counted in answers. Response times and
help are not among its features: no open data has them for enough students to show what they are worth.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import tracing
from kt.models.family import Batch
from kt.models.items import tables
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
signature = tracing.numbered
RECIPE = {"lr": 2e-3, "patience": 4}

SIZES: dict[str, dict[str, Any]] = {
    "small": {"d_value": 16, "hidden": 32},
    "medium": {"d_value": 32, "hidden": 64},
    "large": {"d_value": 64, "hidden": 128},
}

RATES = (0.5, 0.1, 0.01)  # λ as training begins: the last answers, the last dozen, the last hundred
PRIOR_STEP = 0.7  # standard deviations: of items around their skill
PRIOR_SLOPE = 0.2  # of log a
PRIOR_SKILL = 1.0  # of skills around zero
PRIOR_GUESS = 0.5  # of logit c
GUESS = 0.2  # c as training begins
USUAL = 8.0  # answers of its skill's kind that an item's success rate begins with


class Config(BaseModel):
    """Sizes of the tables and of the network; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers that are used
    skills: tuple[Annotated[int, Field(ge=0)], ...] = ()  # of each item, from 1; 0 or () is unknown
    guessing: bool = False  # whether items can be guessed: of multiple choice, right or wrong
    d_value: Annotated[int, Field(ge=1)] = 32
    hidden: Annotated[int, Field(ge=1)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Model(nn.Module):
    """B students, T answers or events, M items asked, K categories, S skills, L rates, D d_value."""

    skill: Tensor
    answers: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        K, D, hidden = config.categories, config.d_value, config.hidden
        rows = config.items + RESERVED
        if config.skills and len(config.skills) != config.items:
            raise ValueError(f"{len(config.skills)} skills for {config.items} items")
        if config.guessing and K > 2:
            raise ValueError(f"guessing is for right or wrong, not for {K} categories")
        self.config = config
        skill = torch.zeros(rows, dtype=torch.long)
        if config.skills:
            skill[RESERVED:] = torch.tensor(config.skills)
        S = max(config.skills, default=0) + 1
        self.register_buffer("skill", skill, persistent=False)  # (rows,)
        self.register_buffer("answers", torch.zeros(rows))  # of training, to each item
        self.steps = nn.Embedding(rows, K - 1)  # b_item
        self.log_discrimination = nn.Embedding(rows, 1)  # log a_item
        self.skill_steps = nn.Embedding(S, K - 1)
        self.skill_log_discrimination = nn.Embedding(S, 1)
        for table in self.children():
            assert isinstance(table, nn.Embedding)
            nn.init.zeros_(table.weight)
        if config.guessing:
            self.guess = nn.Embedding(rows, 1)  # logit c
            nn.init.constant_(self.guess.weight, _logit(GUESS))
        self.topic = nn.Embedding(S, D)
        nn.init.normal_(self.topic.weight, std=0.3)
        self.value = nn.Sequential(nn.Linear(2 * K + D, hidden), nn.ReLU(), nn.Linear(hidden, D))
        self.log_rates = nn.Parameter(torch.tensor(RATES).log().repeat(3, 1))  # (3, L)
        pooled = len(RATES) * (D + 1)
        self.ability = nn.Sequential(
            nn.Linear(2 * pooled + D, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, 1),
        )
        self.familiarity = nn.Sequential(
            nn.Linear(pooled, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, 1, bias=False),
        )

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event, each from the events before it. lengths: (B,)."""
        return self.events(items, responses)["logits"]

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """What the items asked (B, M) will earn, the ability behind it, and the items themselves."""
        place = torch.arange(items.shape[1], device=items.device)
        ago = (lengths.unsqueeze(1) - place).unsqueeze(1)  # (B, 1, T); padding is 0 or less
        told = self._answer(items, responses, asked, ago)
        return {"probabilities": told.pop("logits").softmax(-1)} | told

    def events(self, items: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """The outputs at every event (B, T, ...). Padding on the right comes after all that ask."""
        place = torch.arange(items.shape[1], device=items.device)
        return self._answer(items, responses, items, (place.unsqueeze(1) - place).unsqueeze(0))

    def parameters_of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """log a (..., 1) and b (..., K - 1) of these rows."""
        skill = self.skill[items]
        log_a = self.log_discrimination(items) + self.skill_log_discrimination(skill)
        return log_a, self.steps(items) + self.skill_steps(skill)

    def _answer(
        self, items: Tensor, responses: Tensor, asked: Tensor, ago: Tensor
    ) -> dict[str, Tensor]:
        """ago: (B or 1, M or 1, T), how many answers before the one asked; under 1 is not yet given."""
        skill, of = self.skill[asked], self.skill[items]
        past = ago > 0
        v = self._values(items, responses)
        log_rates = self.log_rates.unsqueeze(-1)  # (3, L, 1)
        everything = _pool(v, past, ago, log_rates[0])
        same_skill = _pool(v, past & (skill.unsqueeze(2) == of.unsqueeze(1)), ago, log_rates[1])
        same_item = past & (asked.unsqueeze(2) == items.unsqueeze(1))  # (B, M, T)
        again = _pool(v, same_item, ago, log_rates[2])
        everything = everything.expand(-1, asked.shape[1], -1)
        theta = self.ability(torch.cat([everything, same_skill, self.topic(skill)], -1))
        phi = self.familiarity(again) * same_item.any(-1, keepdim=True)  # (B, M, 1)
        log_a, b = self.parameters_of(asked)
        z = F.pad((log_a.exp() * (theta - b) + phi).cumsum(-1), (1, 0))
        told = {"ability": theta.squeeze(-1), "discrimination": log_a.exp().squeeze(-1), "steps": b}
        if self.config.guessing:
            c = torch.sigmoid(self.guess(asked))
            right = c + (1 - c) * z.softmax(-1)[..., 1:]
            z = torch.cat([1 - right, right], -1).clamp(min=1e-7).log()
            told["guessing"] = c.squeeze(-1)
        return {"logits": z} | told

    def _values(self, items: Tensor, responses: Tensor) -> Tensor:
        """(B, T, D + 1): v of each answer, and a one to count it by."""
        log_a, b = self.parameters_of(items)
        given = F.one_hot(responses, self.config.categories).to(b.dtype)
        v = self.value(torch.cat([given, b, log_a, self.topic(self.skill[items])], -1))
        return F.pad(v, (0, 1), value=1.0)


def _pool(v: Tensor, seen: Tensor, ago: Tensor, log_rates: Tensor) -> Tensor:
    """(B, M, L (D + 1)): h and log(1 + n) at each rate, of the answers (B, T) that are seen (B or 1, M, T)."""
    pooled = []
    for log_rate in log_rates:
        weights = torch.exp(-log_rate.exp() * (ago - 1).clamp(min=0)) * seen
        h = weights @ v  # (B, M, D + 1)
        n = h[..., -1:]
        pooled += [h[..., :-1] / (1 + n), n.log1p()]
    return torch.cat(pooled, -1)


def prepare(model: Model, batches: Sequence[Batch]) -> None:
    """How many answers each item has, and steps at the shares of them that were earned.

    An item begins at its skill's share as far as its own answers are few, a skill at that of all.
    """
    rows, K = model.steps.num_embeddings, model.config.categories
    n, won = torch.zeros(rows), torch.zeros(rows)
    for items, responses, lengths in batches:
        event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
        n += torch.bincount(items[event], minlength=rows)
        won += torch.bincount(items[event], responses[event] / (K - 1), minlength=rows)
    S = model.skill_steps.num_embeddings
    of_skill = (torch.zeros(S).index_add_(0, model.skill, x) for x in (n, won))
    skill_n, skill_won = of_skill
    skill_share = (skill_won + USUAL * won.sum() / n.sum()) / (skill_n + USUAL)
    skill_share = skill_share.clamp(0.02, 0.98)  # where all or nothing was earned
    share = (won + USUAL * skill_share[model.skill]) / (n + USUAL)
    with torch.no_grad():
        model.answers.copy_(n)
        model.skill_steps.weight.copy_(-torch.logit(skill_share).unsqueeze(1))
        own = torch.logit(skill_share)[model.skill] - torch.logit(share)
        model.steps.weight.copy_(own.unsqueeze(1))


def loss(model: Model, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
    """The sum of -log p(response) over the events, these events' share of the priors, and what holds θ to a scale."""
    told = model.events(items, responses)
    event = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
    nll = F.cross_entropy(told["logits"][event], responses[event], reduction="sum")
    theta = told["ability"][event]
    scale = theta.mean() ** 2 + (theta.var(correction=0) - 1) ** 2
    share = theta.numel() / model.answers.sum().clamp(min=theta.numel())
    return nll + share * _surprise(model) + 0.001 * theta.numel() * scale


def items(model: Model) -> dict[str, Tensor]:
    """The parameters of the items and the answers that training had of each, in the vocabulary's order."""
    rows = torch.arange(RESERVED, model.steps.num_embeddings)
    found = tables(*model.parameters_of(rows))
    if model.config.guessing:
        found["guessing"] = torch.sigmoid(model.guess(rows)).squeeze(-1)
    return found | {"answers": model.answers[rows].long()}


def _surprise(model: Model) -> Tensor:
    """-log of the priors of all items and skills, up to a constant."""
    found = (model.steps.weight**2).sum() / (2 * PRIOR_STEP**2)
    found = found + (model.log_discrimination.weight**2).sum() / (2 * PRIOR_SLOPE**2)
    found = found + (model.skill_steps.weight**2).sum() / (2 * PRIOR_SKILL**2)
    if model.config.guessing:
        away = model.guess.weight - _logit(GUESS)
        found = found + (away**2).sum() / (2 * PRIOR_GUESS**2)
    return found


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
