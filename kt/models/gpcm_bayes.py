"""Bayesian Deep GPCM: kt/models/gpcm.py that tells how sure it is, of the items and of the ability.

    q(log α_q) = N(·, ·), prior N(0, 0.3²)      q(β_q) = N(·, ·), prior N(0, 1)
    q(θ_t | answers before t) = N(μ_t, σ_t²)
    μ_t = c E[θ | answers before t] + 3 (w_θ f_t + b_θ)
    σ_t = sd[θ | answers before t] exp(w_σ f_t + b_σ)            f_t: what the memory tells of t
    P(r_t = k) = ∫ P(k | θ, α, β) q(θ_t) dθ_t                    21 points, so no chance in an answer

E and sd are of an ability that stands still, exact by kt/models/irt.py; the memory begins without a say
(c = 1, w_θ = w_σ = 0) and moves both. The loss is minus the evidence lower bound, where α and β are drawn
anew in every step, and what the network tells by itself (kt/models/partial_credit.py):

    Σ_t -log P(r_t)  +  Σ_t KL(q(θ_t) || N(0, 1)) / T  +  KL(q(α, β) || prior) · events / all events

A history of T answers carries the divergence of its ability once. Both divergences begin where they
belong, since q(θ_t) begins as the posterior of a standing ability: they need not be brought in over the
first epochs.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import gpcm, irt, partial_credit, tracing
from kt.models.family import Batch
from kt.models.gpcm import RECIPE, SIZES, items, versions
from kt.models.partial_credit import ABILITY_SCALE, surprise
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
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

POINTS = 21  # of the quadrature over θ
PRIOR_LOG_DISCRIMINATION = 0.3  # standard deviations
PRIOR_STEP = 1.0
TOLD = 0.25  # an answer's precision about each parameter of its item, where training begins


class Config(gpcm.Config):
    """Sizes of the network; part of the version."""

    item_parameters: Literal["static"] = "static"


class Head(partial_credit.Head):
    """B students, M items asked or events, K categories, P points."""

    points: Tensor
    log_weights: Tensor
    prior: Tensor
    events: Tensor

    def __init__(self, config: Config, features: int, d_key: int) -> None:
        super().__init__(config, features, d_key)
        points, weights = np.polynomial.hermite_e.hermegauss(POINTS)
        log_weights = np.log(weights / weights.sum())
        prior = [PRIOR_LOG_DISCRIMINATION] + [PRIOR_STEP] * (config.categories - 1)
        for name, values in (("points", points), ("log_weights", log_weights), ("prior", prior)):
            buffer = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, buffer, persistent=False)
        self.register_buffer("events", torch.tensor(math.inf), persistent=False)  # trained on
        self.spread = nn.Linear(features, 1)  # log σ, beside a standing ability's
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)
        # log standard deviations of log α and β, whose means are the standing ability's items
        self.item_spread = nn.Embedding(config.items + RESERVED, config.categories)
        with torch.no_grad():
            self.item_spread.weight.copy_(self.prior.log())

    def tell(self, w: Tensor) -> Tensor:
        """(..., 2): the mean of θ and its standard deviation."""
        return torch.stack(self.standing.moments(w), -1)

    def items(self, k: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """log α (..., 1) and β (..., K - 1) of items (...), drawn in training."""
        log_alpha, beta = super().items(k, items)
        if self.training:
            spread = self.item_spread(items).exp()  # (..., K)
            log_alpha = log_alpha + spread[..., :1] * torch.randn_like(log_alpha)
            beta = beta + spread[..., 1:] * torch.randn_like(beta)
        return log_alpha, beta

    def forward(
        self, f: Tensor, discrimination: Tensor, steps: Tensor, standing: Tensor
    ) -> dict[str, Tensor]:
        """As of gpcm, with ability_error (B, M), σ."""
        f = F.dropout(f, self.config.dropout, self.training)
        mean, sd = standing[..., :1], standing[..., 1:]  # (B, M or 1, 1)
        mu = self.trust * mean + ABILITY_SCALE * self.ability(f)  # (B, M, 1)
        sigma = sd * self.spread(f).exp()
        alpha = discrimination.exp()
        theta = (mu + sigma * self.points).unsqueeze(-1)  # (B, M, P, 1)
        log_p = irt.logits(theta, alpha.unsqueeze(-2), steps.unsqueeze(-2)).log_softmax(-1)
        told = {
            "logits": (log_p + self.log_weights.unsqueeze(-1)).logsumexp(-2),
            "ability": mu.squeeze(-1),
            "ability_error": sigma.squeeze(-1),
            "discrimination": alpha.squeeze(-1),
            "steps": steps,
        }
        if self.training:
            told["alone"] = irt.logits(ABILITY_SCALE * self.alone(f), alpha, steps)
        return told

    def means(self) -> Tensor:
        """(rows, K): of log α and β."""
        return torch.cat([self.standing.log_discrimination.weight, self.standing.steps.weight], 1)

    def items_divergence(self) -> Tensor:
        """(rows, K): KL(q || prior) of log α and β."""
        return divergence(self.means() / self.prior, self.item_spread.weight.exp() / self.prior)


class Model(gpcm.Model):
    """gpcm's memory with a head that is not sure."""

    HEAD = Head
    head: Head


def prepare(model: Model, batches: Sequence[Batch]) -> None:
    """The means begin where irt's items end, the spreads as if each answer told as much as the next."""
    partial_credit.prepare(model, batches)
    answered = torch.cat([(items[items > 0]).flatten() for items, *_ in batches])
    head = model.head
    counts = torch.bincount(answered, minlength=len(head.item_spread.weight)).unsqueeze(1)
    with torch.no_grad():
        head.item_spread.weight.copy_(-(head.prior**-2 + TOLD * counts).log() / 2)
        head.events.fill_(len(answered))


def loss(model: Model, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
    """Minus the evidence lower bound of the events of a batch, and the network's loss by itself."""
    told = model.events(items, responses)
    event = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
    abilities = divergence(told["ability"], told["ability_error"]) / lengths.clamp(min=1).unsqueeze(
        1
    )
    items_share = event.sum() / model.head.events
    nll = surprise(told, responses, event)
    return nll + abilities[event].sum() + items_share * model.head.items_divergence().sum()


def divergence(mean: Tensor, sd: Tensor) -> Tensor:
    """KL(N(mean, sd²) || N(0, 1)), elementwise."""
    return (mean**2 + sd**2 - 1) / 2 - sd.log()
