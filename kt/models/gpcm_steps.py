"""gpcm's advance and ask in loops compiled by Numba, where items are static; on a processor.

To start fifty small operations takes torch longer than to do them. What follows from items and answers alone
stands in the model's tables, so that an event is arithmetic on one student's memory. The equations are those
of gpcm.Model and kt/models/sliding.py.

Importing this raises what importing kt/models/fused.py does.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kt.models.family import State
from kt.models.fused import compiled
from kt.models.partial_credit import ABILITY_SCALE
from kt.models.sliding import STRIDE

Arrays = tuple[np.ndarray, ...]
NONE = np.iinfo(np.int64).max  # no answer is as large


class Steps:
    """Those of a gpcm.Model, as its parameters stand."""

    def __init__(self, model: Any) -> None:
        self.window, self.categories = model.config.window, model.config.categories
        head, D, here = model.head, model.config.d_value, torch.device("cpu")
        self.writes = arrays(model.writes.kept(here))  # w, e, a by answer
        (self.tells,) = arrays(head.standing.tells.kept(here))  # of θ, by answer
        self.items = arrays(model.items.kept(here))  # w, summary, log α, β by item
        summary = model.summary.weight[:, :D]
        ability = ABILITY_SCALE * torch.cat([head.ability.weight[0], head.ability.bias])
        self.head = arrays([summary, ability, head.trust, head.standing.theta])
        (self.first,) = arrays([model.memory])

    def examples(self, rng: torch.Generator) -> Iterator[State]:
        """States of two students, before a window is full and then."""
        N, D = self.first.shape
        for T in {1, self.window} - {self.window - 1}:
            draw = {
                name: torch.rand(2, N, D, dtype=torch.float64, generator=rng)
                for name in ("memory", "share")
            }
            answers = torch.randint(len(self.tells), (2, T), generator=rng)
            seen = torch.rand(2, self.tells.shape[1], dtype=torch.float64, generator=rng)
            yield {
                **draw,
                "strides": (draw["memory"] > 0.5).double(),
                "seen": seen,
                "answers": answers,
            }

    def takes(self, state: State) -> bool:
        """All but the one that an answer fills the window of: what is kept must be found there."""
        return bool(state["answers"].shape[1] + 1 != self.window)

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        memory, seen, answers = arrays([state[name] for name in ("memory", "seen", "answers")])
        full = answers.shape[1] == self.window
        answer = items.numpy() * self.categories + responses.numpy()  # (B,)
        after = {
            "memory": np.empty_like(memory),
            "seen": np.empty_like(seen),
            "answers": np.empty((len(answers), answers.shape[1] + (not full)), np.int64),
        }
        enter(answers, answer, after["answers"])
        least = self.categories if full else NONE
        tell(seen, answers, answer, least, self.tells, after["seen"])
        if full:
            kept = arrays([state["share"], state["strides"]])
            left = np.empty_like(memory), np.empty_like(memory)
            first = self.first
            slide(memory, kept, first, answers, answer, self.writes, after["memory"], left)
            after |= zip(("share", "strides"), left, strict=True)
        else:
            write(memory, answer, self.writes, after["memory"])
        return {name: torch.from_numpy(array) for name, array in after.items()}

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        shape = asked.shape
        out = {
            "probabilities": np.empty((*shape, self.categories), np.float32),
            "ability": np.empty(shape, np.float32),
            "discrimination": np.empty(shape, np.float32),
            "steps": np.empty((*shape, self.categories - 1), np.float32),
        }
        memory, seen, items = arrays([state["memory"], state["seen"], asked])
        ask(memory, seen, items, self.items, self.head, tuple(out.values()))
        return {name: torch.from_numpy(array) for name, array in out.items()}


def arrays(tensors: Iterable[Tensor]) -> Arrays:
    return tuple(x.contiguous().numpy(force=True) for x in tensors)


@compiled
def enter(answers: np.ndarray, answer: np.ndarray, out: np.ndarray) -> None:
    """answers (B, T), the newest last, with one more, as many as out has room for."""
    B, T = out.shape
    drop = answers.shape[1] + 1 - T
    for b in range(B):
        for t in range(T - 1):
            out[b, t] = answers[b, t + drop]
        out[b, T - 1] = answer[b]


@compiled
def tell(
    seen: np.ndarray,
    answers: np.ndarray,
    answer: np.ndarray,
    least: int,
    tells: np.ndarray,
    out: np.ndarray,
) -> None:
    """seen (B, G) with what an answer tells, without what the oldest did where that is `least` or more."""
    B, G = seen.shape
    for b in range(B):
        old, new = answers[b, 0], answer[b]
        for g in range(G):
            out[b, g] = seen[b, g] + tells[new, g]
            if old >= least:
                out[b, g] -= tells[old, g]


@compiled
def write(memory: np.ndarray, answer: np.ndarray, writes: Arrays, out: np.ndarray) -> None:
    """As sliding.written."""
    w, e, a = writes
    B, N, D = memory.shape
    for b in range(B):
        new = answer[b]
        for i in range(N):
            share = w[new, i]
            for d in range(D):
                m = memory[b, i, d]
                out[b, i, d] = m - share * (m * e[new, d] - a[new, d])


@compiled
def slide(
    memory: np.ndarray,
    kept: Arrays,
    first: np.ndarray,
    answers: np.ndarray,
    answer: np.ndarray,
    writes: Arrays,
    out: np.ndarray,
    left: Arrays,
) -> None:
    """As sliding.slid."""
    w, e, a = writes
    share, strides = kept
    B, N, D = memory.shape
    for b in range(B):
        old, new = answers[b, 0], answer[b]
        for i in range(N):
            gone, here = np.float64(w[old, i]), np.float64(w[new, i])
            for d in range(D):
                later = share[b, i, d] / (1 - gone * e[old, d])
                lasts = later if strides[b, i, d] == 0 else 0.0
                m = memory[b, i, d] + lasts * gone * (first[i, d] * e[old, d] - a[old, d])
                out[b, i, d] = m - here * (m * e[new, d] - a[new, d])
                now = later * (1 - here * e[new, d])
                low, high = now < 1 / STRIDE, now > 2
                left[0][b, i, d] = now * STRIDE if low else now / STRIDE if high else now
                left[1][b, i, d] = strides[b, i, d] + low - high


@compiled
def ask(
    memory: np.ndarray,
    seen: np.ndarray,
    asked: np.ndarray,
    items: Arrays,
    head: Arrays,
    out: Arrays,
) -> None:
    """out: what gpcm.Model.ask gives, in its order."""
    w, summary, log_alpha, beta = items
    of_read, of_f, trust, grid = head
    probabilities, ability, discrimination, steps = out
    B, N, D = memory.shape
    H, K = summary.shape[1], probabilities.shape[2]
    read, z = np.empty(D), np.empty(K)
    for b in range(B):
        likely = np.exp(seen[b] - seen[b].max())
        standing = (likely * grid).sum() / likely.sum()
        for j in range(asked.shape[1]):
            q = asked[b, j]
            read[:] = 0
            for i in range(N):
                for d in range(D):
                    read[d] += w[q, i] * memory[b, i, d]
            theta = of_f[H] + trust[0] * standing
            for h in range(H):
                f = np.float64(summary[q, h])
                for d in range(D):
                    f += of_read[h, d] * read[d]
                theta += of_f[h] * math.tanh(f)
            alpha = math.exp(log_alpha[q, 0])
            z[0] = 0
            for k in range(K - 1):
                z[k + 1] = z[k] + alpha * (theta - beta[q, k])
                steps[b, j, k] = beta[q, k]
            p = np.exp(z - z.max())
            probabilities[b, j] = p / p.sum()
            ability[b, j], discrimination[b, j] = theta, alpha
