"""Logistic regression on counts of past answers: what pfa and best_lr share.

    s_t = Σ_f γ_{q,f} x_f                 x: counts of the answers before t; which, the family says
    z_0 = 0,  z_k = k s_t + c_{q,k}       p = softmax(z); for two categories p(1) = σ(s_t + c_q)

An answer of category r counts r / (K - 1) as won and the rest as lost, so for two categories these
are the published models; for more, the adjacent categories share one score, as in partial credit.

The likelihood is concave in all parameters, with a normal prior of each item's around the mean item,
which is what an unknown item gets. They are found by Newton's method, exactly: apart from the slopes
that all items share, each item has its own small system.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models.family import Batch
from kt.models.tracing import RESERVED

PRIOR_INTERCEPT = 1.0  # standard deviations of the items around the mean item
PRIOR_SLOPE = 0.3
ITERATIONS = 30  # of Newton's method, at most; eight are usual
SETTLING = 5  # of these the mean item follows; were it never held, the rest would creep after it
CONVERGED = 1e-4  # the largest change of a parameter
CHUNK = 1 << 16  # events whose curvatures are in memory together


class Config(BaseModel):
    """The tables' sizes; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers that are counted


class Counting(nn.Module):
    """Logs of the counts of the same item; a family may count more. B students, T answers or events, M items asked, K categories, F features."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        rows = config.items + RESERVED
        self.config = config
        self.intercepts = nn.Embedding(rows, config.categories - 1)  # c
        self.slopes = nn.Embedding(rows, 2)  # γ, of what was won and lost on the same item
        nn.init.zeros_(self.intercepts.weight)
        nn.init.zeros_(self.slopes.weight)

    def features(self, own: Tensor, total: Tensor) -> Tensor:
        """(B, M, F) of what was won and lost before, (B, M, 2) each: on the same item, on all."""
        return own.log1p()

    def score(self, asked: Tensor, x: Tensor) -> Tensor:
        """s (B, M) of items whose features are x."""
        s: Tensor = (self.slopes(asked) * x).sum(-1)
        return s

    @property
    def own(self) -> Tensor:
        """(rows, K + 1): each item's parameters, c and γ."""
        return torch.cat([self.intercepts.weight, self.slopes.weight], 1)

    def move(self, own: Tensor, shared: Tensor) -> None:
        """Add steps to the parameters: to each item's own (rows, K + 1), to what all share."""
        self.intercepts.weight += own[:, :-2]
        self.slopes.weight += own[:, -2:]

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event, each from the events before it."""
        return self.logits(items, self.history(items, responses))

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """Probabilities (B, M, K) of the items asked, each from the whole history and from no other."""
        place = torch.arange(items.shape[1], device=items.device)
        answers = (place < lengths.unsqueeze(1)).unsqueeze(1).expand(-1, asked.shape[1], -1)
        x = self.counted(items, responses, asked, answers)
        return {"probabilities": self.logits(asked, x).softmax(-1)}

    def history(self, items: Tensor, responses: Tensor) -> Tensor:
        """Features (B, T, F) of every event."""
        T = items.shape[1]
        place = torch.arange(T, device=items.device)
        before = (place < place.unsqueeze(1)).expand(len(items), T, T)
        return self.counted(items, responses, items, before)

    def counted(self, items: Tensor, responses: Tensor, asked: Tensor, seen: Tensor) -> Tensor:
        """Features (B, M, F) of the items asked, from the answers (B, T) that each may see (B, M, T)."""
        won = responses / (self.config.categories - 1)
        each = torch.stack([won, 1 - won], -1)  # (B, T, 2)
        same = asked.unsqueeze(2) == items.unsqueeze(1)
        return self.features((same & seen).float() @ each, seen.float() @ each)

    def logits(self, asked: Tensor, x: Tensor) -> Tensor:
        k = torch.arange(1, self.config.categories, device=asked.device)
        return F.pad(self.score(asked, x).unsqueeze(-1) * k + self.intercepts(asked), (1, 0))


def fit(model: Counting, batches: Sequence[Batch]) -> None:
    """The features once, then Newton steps over all events."""
    found = []
    for items, responses, lengths in batches:
        event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
        found.append((items[event], responses[event], model.history(items, responses)[event]))
    items, responses, x = map(torch.cat, zip(*found, strict=True))
    seen = torch.bincount(items, minlength=len(model.slopes.weight)) > 0
    model.double()
    with torch.no_grad():
        for number in range(ITERATIONS):
            if number < SETTLING:
                mean = model.own[seen].mean(0)
            own, shared = step(model, items, responses, x.double(), mean)
            model.move(own, shared)
            if max(float(part.abs().max()) for part in (own, shared) if part.numel()) < CONVERGED:
                break
    model.float()


def step(
    model: Counting, items: Tensor, responses: Tensor, x: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """One Newton step: of each item's parameters (rows, D), of the shared slopes (S,).

    items, responses: (E,). x: (E, 2 + S) the features, those with an item's own slopes first.
    mean: (D,) of the prior.
    """
    D = len(mean)
    gradient, curvature = derivatives(model, items, responses, x)
    spread = torch.full((D,), PRIOR_INTERCEPT, dtype=x.dtype)
    spread[-2:] = PRIOR_SLOPE
    g = gradient[:, :D] - (model.own - mean) / spread**2
    A = curvature[:, :D, :D] + torch.diag(spread**-2)  # (rows, D, D)
    B = curvature[:, :D, D:]  # (rows, D, S)
    solved = torch.linalg.solve(A, torch.cat([g.unsqueeze(2), B], 2))  # A⁻¹ g and A⁻¹ B
    alone, through = solved[:, :, 0], solved[:, :, 1:]
    # what is left of the shared slopes' system when every item has answered for itself
    C = curvature[:, D:, D:].sum(0) - (B.transpose(1, 2) @ through).sum(0)
    h = gradient[:, D:].sum(0) - (B.transpose(1, 2) @ alone.unsqueeze(2)).sum((0, 2))
    damped = C + 1e-6 * torch.eye(len(h), dtype=x.dtype)  # without any history C is zero
    shared = torch.linalg.solve(damped, h)
    # from afar a full step may overshoot
    return (alone - through @ shared).clamp(-1, 1), shared.clamp(-1, 1)


def derivatives(
    model: Counting, items: Tensor, responses: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the log-likelihood by item: gradient (rows, D + S), and curvature (rows, D + S, D + S)."""
    rows, K = len(model.slopes.weight), model.config.categories
    D = K - 1 + x.shape[1]
    gradient = x.new_zeros(rows, D)
    curvature = x.new_zeros(rows, D, D)
    k = torch.arange(1, K, dtype=x.dtype)
    one = torch.eye(K, dtype=x.dtype)[:, 1:]
    for first in range(0, len(items), CHUNK):
        part = slice(first, first + CHUNK)
        item, response, features = items[part], responses[part], x[part]
        p = model.logits(item, features).softmax(-1)[:, 1:]  # (E, K - 1)
        # how z_1 .. z_{K-1} move with the intercepts, then with the slopes
        J = torch.cat([one[1:].expand(len(item), -1, -1), features.unsqueeze(2) * k], 1)
        gradient.index_add_(0, item, (J @ (one[response] - p).unsqueeze(2)).squeeze(2))
        covariance = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
        curvature.index_add_(0, item, J @ covariance @ J.transpose(1, 2))
    return gradient, curvature
