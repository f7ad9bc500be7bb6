"""Whether training sees what serving sees, and learns from every answer: what gates ask of a family's own code.

A model may be scored by its `forward` and trained by its `loss`, but it is `serve` that people meet. Four
mistakes are common, leave no trace in the weights, and show in milliseconds on a few drawn answers:

    forward sees the answer that it predicts, or what follows (a mask turned round, a step too many)
    forward says something else than serve (probabilities where logits belong)
    a state that is kept forgets
    loss leaves answers out, counts padding, or applies softmax twice: its terms are then bounded, and
        a model that is sure and right is hardly told from one that guesses

Each function says what is wrong as a clause; empty where nothing is.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kt.models.family import Incremental, is_incremental
from kt.models.tracing import RESERVED, UNKNOWN, Signature

STEPS = 12  # answers of a drawn history, where the window takes so many
PADDED = 3  # and so many places more, where it has them
SAME = 1e-4  # numbers this close are equal but for how sums were split
ALIKE = 1e-3  # of probabilities that serve and forward came to on their own ways
CLEAR = 0.05  # nats between two responses that a loss must tell apart


def sees_ahead(model: torch.nn.Module, signature: Signature, rng: np.random.Generator) -> str:
    """Whether another response or item at step s moves what forward says where it cannot be known yet.

    Row 0 of one batch is the history as it is; row 1 + s has another response at s, row 1 + T + s another item.
    """
    items, responses = history(signature, rng)
    T, K = len(items), signature.categories
    step = torch.arange(T)
    batch, given = items.repeat(2 * T + 1, 1), responses.repeat(2 * T + 1, 1)
    given[1 + step, step] = (responses + math.ceil(K / 2)) % K
    batch[1 + T + step, step] = other_items(items, signature)
    with still(model):
        told = model(batch, given, torch.full((2 * T + 1,), T))  # (2T + 1, T, K)
    moved = ((told - told[0]).abs() > SAME * (1 + told[0].abs())).any(-1)
    by_response, by_item = moved[1 : T + 1], moved[T + 1 :]  # (T, T): s, t
    for moves, what in (
        (by_response.tril(-1), "what is answered later"),
        (by_response.tril(), "the very answer that it predicts"),
        (by_item.tril(-1), "which items come later"),
    ):
        if bool(moves.any()):
            s, t = (int(place) + 1 for place in moves.nonzero()[0])
            return f"in training it sees {what}: another one at step {s} moves its prediction of step {t}"
    return ""


def serves_otherwise(model: torch.nn.Module, signature: Signature, rng: np.random.Generator) -> str:
    """Whether serve says of each item of a history something else than the softmax of forward there."""
    items, responses = history(signature, rng)
    T = len(items)
    before = torch.arange(T)  # answers before each step
    seen = before < before.unsqueeze(1)  # (T, T)
    with still(model):
        told = model(items[None], responses[None], torch.tensor([T]))[0]  # (T, K)
        serve: Any = model.serve
        served = serve(
            items=torch.where(seen, items, 0),
            responses=torch.where(seen, responses, 0),
            lengths=before,
            asked=items[:, None],
        )["probabilities"][:, 0]
    apart = float((told.softmax(-1) - served).abs().max())
    if apart <= ALIKE:
        return ""
    if float((told.sum(-1) - 1).abs().max()) < ALIKE and float(told.min()) >= 0:
        return (
            "its forward gives probabilities where logits belong: softmax is applied to them again"
        )
    return f"what is trained and scored is not what is served: probabilities differ by up to {apart:.2g}"


def learns_otherwise(
    family: Any, model: torch.nn.Module, signature: Signature, rng: np.random.Generator
) -> str:
    """Whether serve, forward, a state and the loss, as far as there are such, are not of one mind."""
    wrong = serves_otherwise(model, signature, rng)
    if not wrong and is_incremental(type(model)):
        wrong = remembers_otherwise(model, signature, rng)
    return wrong or (misses(family, model, signature, rng) if hasattr(family, "loss") else "")


def remembers_otherwise(
    model: torch.nn.Module, signature: Signature, rng: np.random.Generator
) -> str:
    """Whether a state that took answers one by one says something else than serve says of all of them."""
    items, responses = history(signature, rng)
    asked, keeper = items[None, -1:], cast("Incremental", model)
    serve: Any = model.serve
    with still(model):
        state = keeper.begin(items[None, :1], responses[None, :1], torch.tensor([1]))
        for t in range(1, len(items)):
            state = keeper.advance(state, items[t : t + 1], responses[t : t + 1])
        remembered = keeper.ask(state, asked)["probabilities"]
        lengths = torch.tensor([len(items)])
        served = serve(items=items[None], responses=responses[None], lengths=lengths, asked=asked)
    apart = float((remembered - served["probabilities"]).abs().max())
    if apart <= ALIKE:
        return ""
    return f"its state says something else than the whole history: probabilities differ by up to {apart:.2g}"


def misses(
    family: Any, model: torch.nn.Module, signature: Signature, rng: np.random.Generator
) -> str:
    """Whether the loss is something else than -log p over every answer, in a way that is known to cost.

    Only how it changes with the last response is looked at: terms of its own, a prior or a penalty,
    do not matter.
    """
    items, responses = history(signature, rng)
    T = len(items)

    def loss(given: Tensor, asked: Tensor = items, length: int = T) -> float:
        with still(model):
            return float(family.loss(model, asked[None], given[None], torch.tensor([length])))

    with still(model):
        log_p = model(items[None], responses[None], torch.tensor([T]))[0, -1].log_softmax(-1)
    likely, unlikely = responses.clone(), responses.clone()
    likely[-1], unlikely[-1] = log_p.argmax(), log_p.argmin()
    should = float(log_p.max() - log_p.min())
    if should < CLEAR:
        return ""  # too flat to tell
    does = loss(unlikely) - loss(likely)
    if abs(does) < SAME * should:
        return f"its loss looks at {looked_at(loss, responses, signature)} of {T} answers"
    padding = torch.zeros(min(PADDED, signature.window - T), dtype=torch.int64)
    padded = loss(torch.cat([likely, padding]), torch.cat([items, padding]))
    if abs(padded - loss(likely)) > ALIKE * (1 + abs(padded)):
        return "its loss counts what stands in the padding"
    if close(does, should):
        return ""
    if close(does, should / T):
        return "its loss is a mean, not a sum: an answer of a short history weighs more"
    best, worst = float(log_p.max().exp()), float(log_p.min().exp())
    if close(does, best - worst) or close(does, (best - worst) / T):
        return f"its loss applies softmax twice: p = {worst:.2f} in place of {best:.2f} costs {does:.2f} nats, not {should:.2f}"
    return ""


def looked_at(loss: Any, responses: Tensor, signature: Signature) -> int:
    """After how many answers another response no longer changes the loss."""
    usual = loss(responses)
    for t in reversed(range(len(responses))):
        other = responses.clone()
        other[t] = (other[t] + 1) % signature.categories
        if abs(loss(other) - usual) > SAME * (1 + abs(usual)):
            return t + 1
    return 0


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 0.02 * abs(other)


def history(signature: Signature, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Items and responses (T,), drawn."""
    T = max(1, min(STEPS, signature.window - PADDED))
    items = rng.integers(RESERVED, RESERVED + len(signature.items), T)
    return torch.from_numpy(items), torch.from_numpy(rng.integers(signature.categories, size=T))


def other_items(items: Tensor, signature: Signature) -> Tensor:
    """Of each item the next one; of the last, or the only one, the unknown item."""
    last = RESERVED + len(signature.items) - 1
    return torch.where(items < last, items + 1, UNKNOWN)


@contextmanager
def still(model: torch.nn.Module) -> Iterator[None]:
    """In eval mode, without gradients, with the same chance each time; a forward that turns training on is undone."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        try:
            yield
        finally:
            model.eval()
