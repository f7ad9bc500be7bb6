"""Weights and answers are finite, and probabilities sum to one, on requests drawn from the signature."""

import numpy as np
from pydantic import BaseModel

from kt.models.family import problem
from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = True


class Settings(BaseModel, extra="forbid"):
    requests: int = 8  # drawn from the shortest to the longest that the signature allows
    tolerance: float = 1e-3  # of a sum of probabilities


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    if broken := [
        name
        for name, tensor in loaded.module.state_dict().items()
        if not bool(tensor.isfinite().all())
    ]:
        return Verdict(
            gate="", passed=False, sentence=f"{broken[0]} holds values that are not finite"
        )
    requests = loaded.form.example(loaded.signature, np.random.default_rng(0), settings.requests)
    try:
        outputs = loaded.run(loaded.form.collate(requests, loaded.signature))
    except Exception as error:  # noqa: BLE001  # a family's code may raise anything; it is the verdict
        return Verdict(
            gate="",
            passed=False,
            sentence=f"it does not answer a request of its own form: {type(error).__name__}: {str(error)[:200]}",
        )
    wrong = problem(outputs, loaded.form.PROBABILITIES, settings.tolerance)
    return Verdict(
        gate="",
        passed=not wrong,
        sentence=wrong or f"{len(requests)} requests answered, all finite and in range",
    )
