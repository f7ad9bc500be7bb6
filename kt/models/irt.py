"""IRT: the static generalized partial credit model, and an ability that each answer makes better known.

Muraki 1992; for two categories it is the two-parameter logistic model. θ ~ N(0, 1) stands still:

    z_0 = 0,  z_k = z_{k-1} + α_q (θ - β_{q,k})        P(r = k | θ, q) = softmax(z)_k
    w(θ | answers) ∝ N(θ; 0, 1) Π_s P(r_s | θ, q_s)    p_k = Σ_θ w(θ) P(k | θ, q)

Sums over θ run over a fixed grid, so the posterior is exact up to the grid: its mean is the ability
(EAP, expected a posteriori), its standard deviation says how sure that is.

Items are fitted by marginal maximum likelihood: EM (Bock and Aitkin 1981), where the E step is that
posterior. The M step works on z_k = k a θ + c_k, in which the likelihood is concave: Newton steps,
all items at once, with a normal prior around the mean item. That keeps items that few have answered,
and categories that an item lacks, in reach; an unknown item is the mean item.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import tracing
from kt.models.family import Batch, State
from kt.models.items import tables
from kt.models.sliding import enter, newest_last
from kt.models.tables import Table, tabled
from kt.models.tracing import RESERVED

FORM = tracing
TASK = "kt.models.answers"
METRIC = "nll"
signature = tracing.numbered
SIZES: dict[str, dict[str, Any]] = {}

NODES = 61
REACH = 4.5  # standard deviations on either side: steps of 0.15, a posterior of 0.1 is resolved

ITERATIONS = 200  # of EM, at most
CONVERGED = 2e-3  # the largest change of a parameter
PRIOR_SLOPE = 0.5  # standard deviations of the items around the mean item
PRIOR_INTERCEPT = 2.0
LEAST_SLOPE = 0.05  # of an item that tells nothing, so that its steps stay finite


class Config(BaseModel):
    """The tables' sizes; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[int, Field(ge=1)]  # in the vocabulary
    categories: Annotated[int, Field(ge=2)] = 2
    window: Annotated[int, Field(ge=1)] = 200  # the most answers that tell an ability


class Model(nn.Module):
    """B students, T answers or events, M items asked, K categories, G points of the grid."""

    PAYS = 16
    SLIDES = True
    theta: Tensor
    log_prior: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        rows = config.items + RESERVED
        self.config = config
        self.log_discrimination = nn.Embedding(rows, 1)  # log α
        self.steps = nn.Embedding(rows, config.categories - 1)  # β
        nn.init.zeros_(self.log_discrimination.weight)
        nn.init.zeros_(self.steps.weight)
        theta = grid()
        self.register_buffer("theta", theta.float(), persistent=False)  # (G,)
        self.register_buffer("log_prior", log_prior(theta).float(), persistent=False)  # (G,)
        self.tells = Table(self, self._tells, rows * config.categories)
        self.items = Table(self, self._item, rows)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, K) of every event, each from the events before it."""
        log_p = self._log_p(items)  # (B, T, G, K)
        w = (earlier(self._of(log_p, responses)) + self.log_prior).log_softmax(-1)
        return (w.unsqueeze(-1) + log_p).logsumexp(-2)

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        """What the items asked (B, M) will earn, the ability behind it, and the items themselves."""
        return self.ask(self.begin(items, responses, lengths), asked)

    def begin(self, items: Tensor, responses: Tensor, lengths: Tensor) -> State:
        """seen (B, G): the log probability of the ability and all answers; the answers (B, T).

        In double precision: what is added and taken out again over thousands of answers must cancel.
        """
        answers = items * self.config.categories + responses
        place = torch.arange(items.shape[1], device=items.device)
        (told,) = self.tells(answers)  # (B, T, G)
        told = told.masked_fill((place >= lengths.unsqueeze(1)).unsqueeze(-1), 0)
        seen = told.sum(1, dtype=torch.float64) + self.log_prior
        return {"seen": seen, "answers": newest_last(answers, lengths)}

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        return self.take(state, torch.add(responses, items, alpha=self.config.categories))

    def take(self, state: State, answer: Tensor) -> State:
        """The newest answer's log probability is added, that of the one that leaves the window taken out."""
        seen, answers = state["seen"], state["answers"]
        (told,) = self.tells(answer)
        seen = seen + told
        if answers.shape[1] == self.config.window:
            oldest = answers[:, 0]
            (left,) = self.tells(oldest)
            known = oldest >= self.config.categories  # padding told nothing
            seen = seen - left * known.unsqueeze(1)
        return {"seen": seen, "answers": enter(answers, answer, self.config.window)}

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        """As serve, from the posterior of a state."""
        w = self.posterior(state)
        ability, spread = self.moments(w)
        p, discrimination, steps = self.items(asked)
        p = p.view(*asked.shape, NODES, -1)
        return {
            "probabilities": (w[:, None, None] @ p).squeeze(2),
            "ability": ability.unsqueeze(1).expand(asked.shape),
            "ability_error": spread.unsqueeze(1).expand(asked.shape),
            "discrimination": discrimination.squeeze(-1),
            "steps": steps,
        }

    def posterior(self, state: State) -> Tensor:
        """w (B, G)."""
        return state["seen"].softmax(-1).to(self.theta.dtype)

    def posteriors(self, items: Tensor, responses: Tensor) -> Tensor:
        """w (B, T, G) at every event, each from the answers before it."""
        K = self.config.categories
        rows = self.config.items + RESERVED
        (seen,) = tabled(self._tells, items * K + responses, rows * K)  # (B, T, G)
        return (earlier(seen) + self.log_prior).softmax(-1)

    def moments(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (...) of the ability where w (..., G) says how likely each is."""
        mean = w @ self.theta
        return mean, (w * (self.theta - mean.unsqueeze(-1)) ** 2).sum(-1).sqrt()

    def _tells(self, answers: Tensor) -> tuple[Tensor]:
        """(..., G): the log probability of answers (...) at every ability."""
        K = self.config.categories
        return (self._of(self._log_p(answers // K), answers % K),)

    def _item(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P(k | θ, item) (..., G K), α (..., 1), β (..., K - 1)."""
        alpha = self.log_discrimination(items).exp()
        return self._log_p(items).exp().flatten(-2), alpha, self.steps(items)

    def _log_p(self, items: Tensor) -> Tensor:
        """(..., G, K): log P(k | θ, item) at every point of the grid."""
        alpha = self.log_discrimination(items).exp().unsqueeze(-2)  # (..., 1, 1)
        beta = self.steps(items).unsqueeze(-2)  # (..., 1, K - 1)
        return logits(self.theta.unsqueeze(1), alpha, beta).log_softmax(-1)

    def _of(self, log_p: Tensor, responses: Tensor) -> Tensor:
        """(..., G): the log probability of what was answered, responses (...)."""
        chosen = responses[..., None, None].expand(*responses.shape, NODES, 1)
        return log_p.gather(-1, chosen).squeeze(-1)


def items(model: Model) -> dict[str, Tensor]:
    """The parameters of the items, in the vocabulary's order."""
    known = slice(RESERVED, None)
    return tables(model.log_discrimination.weight[known], model.steps.weight[known])


def logits(theta: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """z (..., K) of abilities and discriminations (..., 1), steps (..., K - 1)."""
    return F.pad((alpha * (theta - beta)).cumsum(-1), (1, 0))


def earlier(x: Tensor) -> Tensor:
    """(B, T, G): at every event the sum of what precedes it."""
    return F.pad(x, (0, 0, 1, 0))[:, :-1].cumsum(1)


def grid() -> Tensor:
    """(G,) float64: the abilities that sums run over."""
    return torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)


def log_prior(theta: Tensor) -> Tensor:
    """(G,) the standard normal on the grid, as logs that sum to one."""
    return (-(theta**2) / 2).log_softmax(0)


def fit(model: Model, batches: Sequence[Batch]) -> None:
    """EM until the items stand still; a window counts as a student."""
    rows, K = model.config.items + RESERVED, model.config.categories
    answers = Answers(*flat(batches, K), rows * K)
    theta = grid()
    x = design(theta, K)  # (G, K, D)
    counts = answers.counts.view(rows, K)
    given = (counts[:, 1:] + 1).log() - (counts[:, :1] + 1).log()
    phi = torch.cat([torch.ones(rows, 1, dtype=torch.float64), given], 1)  # (rows, D): a, c
    seen = counts.sum(1) > 0
    for _ in range(ITERATIONS):
        log_p = torch.einsum("gkd,qd->qkg", x, phi).log_softmax(1)
        expected, shares = answers.expected(log_p.reshape(rows * K, NODES), log_prior(theta))
        moved = newton(phi, expected.view(rows, K, NODES), x, phi[seen].mean(0))
        moved = standardized(moved, theta, shares)
        moved[:, 0].clamp_(min=LEAST_SLOPE)
        change = float((moved - phi).abs().max())
        phi = moved
        if change < CONVERGED:
            break
    a, c = phi[:, :1], phi[:, 1:]
    with torch.no_grad():
        model.log_discrimination.weight.copy_(a.log())
        model.steps.weight.copy_(-c.diff(dim=1, prepend=torch.zeros_like(a)) / a)


def flat(batches: Sequence[Batch], categories: int) -> tuple[Tensor, Tensor]:
    """Codes item x K + response (E,), student after student, and lengths (P,)."""
    codes, lengths = [], []
    for items, responses, length in batches:
        event = torch.arange(items.shape[1]) < length.unsqueeze(1)
        codes.append((items * categories + responses)[event])
        lengths.append(length)
    return torch.cat(codes), torch.cat(lengths)


class Answers:
    """The answers of P students as codes, to be summed by student and by code."""

    def __init__(self, codes: Tensor, lengths: Tensor, kinds: int) -> None:
        self.codes = codes
        self.starts = lengths.cumsum(0) - lengths
        self.counts = torch.bincount(codes, minlength=kinds).double()
        student = torch.arange(len(lengths)).repeat_interleave(lengths)
        self.students = student[codes.argsort(stable=True)]
        self.code_starts = (self.counts.cumsum(0) - self.counts).long()

    def expected(self, log_p: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        """How many answers of each kind come from each ability (kinds, G), and how many students (G,).

        The E step. log_p: (kinds, G). Of the students, shares.
        """
        seen = F.embedding_bag(self.codes, log_p, self.starts, mode="sum")  # (P, G)
        w = (seen + log_prior).softmax(-1)
        return F.embedding_bag(self.students, w, self.code_starts, mode="sum"), w.mean(0)


def design(theta: Tensor, categories: int) -> Tensor:
    """(G, K, D = K): what a category's logit is made of, k θ and then a one for its intercept."""
    x = torch.zeros(len(theta), categories, categories, dtype=theta.dtype)
    x[:, :, 0] = theta.unsqueeze(1) * torch.arange(categories)
    x[:, range(1, categories), range(1, categories)] = 1
    return x


def standardized(phi: Tensor, theta: Tensor, shares: Tensor) -> Tensor:
    """phi for abilities of mean 0 and variance 1, where they have come out otherwise: shares (G,).

    Plain EM crawls along this direction: long histories hold abilities where they are and the prior
    pulls little (parameter expansion; Liu, Rubin and Wu 1998).
    """
    mean = shares @ theta
    spread = (shares @ (theta - mean) ** 2).sqrt()
    k = torch.arange(1, phi.shape[1])
    a, c = phi[:, :1], phi[:, 1:]
    return torch.cat([a * spread, c + k * a * mean], 1)


def newton(phi: Tensor, expected: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """phi (rows, D) after one Newton step of every item's M step.

    expected: (rows, K, G). x: (G, K, D). mean: (D,) of the prior.
    """
    G, K, D = x.shape
    spread = torch.full((D,), PRIOR_INTERCEPT, dtype=phi.dtype)
    spread[0] = PRIOR_SLOPE
    precision = spread**-2
    p = torch.einsum("gkd,qd->qkg", x, phi).softmax(1)
    n = expected.sum(1)  # (rows, G)
    features = x.transpose(0, 1).reshape(K * G, D)
    gradient = (expected - n.unsqueeze(1) * p).reshape(-1, K * G) @ features
    gradient -= precision * (phi - mean)
    squares = (features.unsqueeze(2) * features.unsqueeze(1)).view(K * G, D * D)
    curvature = ((n.unsqueeze(1) * p).reshape(-1, K * G) @ squares).view(-1, D, D)
    m = torch.einsum("qkg,gkd->qgd", p, x)
    curvature -= (m * n.unsqueeze(2)).transpose(1, 2) @ m
    step: Tensor = torch.linalg.solve(curvature + torch.diag(precision), gradient)
    return phi + step.clamp(-1, 1)  # far from the top a full step may overshoot
