"""Weights and answers are finite, probabilities sum to one, and a request's answer is its own.

Asked are requests drawn from the signature: some alone, all together, and one of those again.
Whatever the answers differ by then was not in the request: chance, a memory of those before, or the
requests of others that ran with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from kt.models.family import problem
from kt.registry.asking import apart
from kt.registry.gate import Subject
from kt.registry.load import Loaded
from kt.registry.record import Verdict

if TYPE_CHECKING:
    import torch

    from kt.models.family import Arrays

SAFETY = True
LARGE = 100_000_000  # parameters, from which a request may take a tenth of a second
FEW = 3  # requests of a large model: those that are asked alone as well


class Settings(BaseModel, extra="forbid"):
    requests: int = 8  # drawn from the shortest to the longest that the signature allows
    tolerance: float = 1e-3  # of a sum of probabilities, and between two answers to one request


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    if broken := [
        name for name, tensor in loaded.module.state_dict().items() if not finite(tensor)
    ]:
        return Verdict(
            gate="", passed=False, sentence=f"{broken[0]} holds values that are not finite"
        )
    large = sum(tensor.numel() for tensor in loaded.module.parameters()) >= LARGE
    count = min(settings.requests, FEW) if large else settings.requests
    requests = loaded.form.example(loaded.signature, np.random.default_rng(0), count)
    chosen = places(len(requests))
    try:
        first = run(loaded, requests[-1:])
        outputs = run(loaded, requests)
        alone = [run(loaded, [requests[b]]) for b in chosen]  # the last of them is the first again
        answers = loaded.form.answer(outputs, requests, loaded.signature)
        by_itself = [
            loaded.form.answer(output, [requests[b]], loaded.signature)[0]
            for b, output in zip(chosen, alone, strict=True)
        ]
    except Exception as error:  # noqa: BLE001  # a family's code may raise anything; it is the verdict
        return Verdict(
            gate="",
            passed=False,
            sentence=f"it does not answer a request of its own form: {type(error).__name__}: {str(error)[:200]}",
        )
    if changed := [name for name in first if not same(first[name], alone[-1][name])]:
        sentence = f"{changed[0]} differs when the same request is asked again"
        return Verdict(gate="", passed=False, sentence=sentence)
    wrong = problem(outputs, loaded.form.PROBABILITIES, settings.tolerance)
    if not wrong and apart([answers[b] for b in chosen], by_itself) > settings.tolerance:
        wrong = "the answer to a request depends on the requests that run with it"
    return Verdict(
        gate="",
        passed=not wrong,
        sentence=wrong or f"{len(requests)} requests answered, all finite and in range",
    )


def run(loaded: Loaded, requests: Sequence[Any]) -> "Arrays":
    return loaded.run(loaded.form.collate(requests, loaded.signature))


def places(count: int) -> list[int]:
    """The shortest, a middle and the longest of so many requests."""
    return sorted({0, count // 2, count - 1})


def finite(tensor: "torch.Tensor") -> bool:
    """Without a temporary of the weights' size: what is not finite shows in the least or the greatest."""
    return not tensor.numel() or all(bool(bound.isfinite()) for bound in tensor.aminmax())


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the last digits, which may depend on how a sum was split."""
    return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-5, equal_nan=True))
