"""A prediction depends on what was answered before, and on nothing else.

The form draws pairs of requests: some that differ in what was answered, of which the predictions
cannot all agree; some that differ beside the point, of which they must. A family that looks at no
history on purpose says so: BLIND = True. Where a family can be trained, its task looks at what
training sees: a model that is shown the answer it predicts scores well and knows nothing.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from kt.models.family import is_trainable
from kt.registry.asking import apart, ask
from kt.registry.gate import Subject
from kt.registry.load import Loaded
from kt.registry.record import Verdict

SAFETY = False


class Settings(BaseModel, extra="forbid"):
    moved: float = Field(1e-6, gt=0)  # from here on another number, in the answer's own unit
    still: float = Field(1e-4, gt=0)  # up to here the same number: sums are split otherwise


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    if not hasattr(loaded.form, "unlike"):
        return Verdict(gate="", passed=True, sentence="its form says nothing of a past: not judged")
    rng = np.random.default_rng(0)
    blind = getattr(loaded.family, "BLIND", False)
    moved = 0.0 if blind else movement(loaded, loaded.form.unlike(loaded.signature, rng))
    if not blind and moved <= settings.moved:
        wrong = f"it ignores {loaded.form.PAST}: as unlike as can be, it gets one prediction"
    elif movement(loaded, loaded.form.alike(loaded.signature, rng)) > settings.still:
        wrong = "the answer to one question depends on what else is asked"
    else:
        wrong = seen_in_training(loaded, rng)
    if wrong:
        return Verdict(gate="", passed=False, sentence=wrong)
    if blind:
        return Verdict(gate="", passed=True, sentence="looks at no history, as its family says")
    return Verdict(
        gate="",
        passed=True,
        measured=round(moved, 5),
        bound=settings.moved,
        sentence=f"predictions follow {loaded.form.PAST}, and nothing else",
    )


def movement(loaded: Loaded, pairs: list[tuple[Any, Any]]) -> float:
    """How far the first predictions of a pair lie apart, the most of all pairs."""
    answers = [ask(loaded, pair) for pair in pairs]
    return max((apart(one[0], other[0]) for one, other in answers), default=0.0)


def seen_in_training(loaded: Loaded, rng: np.random.Generator) -> str:
    """What the family's task finds that forward must not see; empty where nothing, or nothing to look at."""
    if not is_trainable(loaded.family):
        return ""
    from kt.models import task

    room = task.of(loaded.family)
    if not hasattr(room, "sees_ahead"):
        return ""
    try:
        wrong: str = room.sees_ahead(loaded.module, loaded.signature, rng)
    except Exception as error:  # noqa: BLE001  # a family's code may raise anything; it is the verdict
        return f"it cannot be trained as it stands: {type(error).__name__}: {str(error)[:200]}"
    return wrong
