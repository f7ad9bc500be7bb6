"""Weights and answers are finite, probabilities sum to one, and the same request gets the same answer.

Asked are requests drawn from the signature.
"""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from kt.models.family import problem
from kt.registry.gate import Subject
from kt.registry.record import Verdict

if TYPE_CHECKING:
    import torch

SAFETY = True


class Settings(BaseModel, extra="forbid"):
    requests: int = 8  # drawn from the shortest to the longest that the signature allows
    tolerance: float = 1e-3  # of a sum of probabilities


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    if broken := [
        name for name, tensor in loaded.module.state_dict().items() if not finite(tensor)
    ]:
        return Verdict(
            gate="", passed=False, sentence=f"{broken[0]} holds values that are not finite"
        )
    requests = loaded.form.example(loaded.signature, np.random.default_rng(0), settings.requests)
    try:
        arrays = loaded.form.collate(requests, loaded.signature)
        outputs, again = loaded.run(arrays), loaded.run(arrays)
    except Exception as error:  # noqa: BLE001  # a family's code may raise anything; it is the verdict
        return Verdict(
            gate="",
            passed=False,
            sentence=f"it does not answer a request of its own form: {type(error).__name__}: {str(error)[:200]}",
        )
    if changed := [name for name in outputs if not same(outputs[name], again[name])]:
        sentence = f"{changed[0]} differs when the same requests are asked again"
        return Verdict(gate="", passed=False, sentence=sentence)
    wrong = problem(outputs, loaded.form.PROBABILITIES, settings.tolerance)
    return Verdict(
        gate="",
        passed=not wrong,
        sentence=wrong or f"{len(requests)} requests answered, all finite and in range",
    )


def finite(tensor: "torch.Tensor") -> bool:
    """Without a temporary of the weights' size: what is not finite shows in the least or the greatest."""
    return not tensor.numel() or all(bool(bound.isfinite()) for bound in tensor.aminmax())


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the last digits, which may depend on how a sum was split."""
    return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-5, equal_nan=True))
