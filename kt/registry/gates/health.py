"""What a model says of students who differ as people do varies, within what can be believed.

The form draws the students. Looked at is what the answers hold under the names below: a family that
gives an ability, a discrimination or an uncertainty is held to what the word means, and one that does
not is not asked for it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from kt.registry.asking import ask
from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False
STUDENTS = 64
SIGMAS = 3.0  # by which chance alone may pass a share


class Settings(BaseModel, extra="forbid"):
    positive: tuple[str, ...] = ("discrimination",)  # below zero a better student does worse
    varies: tuple[str, ...] = ("confidence", "ability_error", "uncertainty", "epistemic")
    least: float = Field(1e-6, ge=0)  # the standard deviation of each of these, over all answers
    spread: float = Field(1e-3, ge=0)  # that of ability, over students who are asked the same
    # A standard normal ability passes 4 six times in 100,000; past 3, honest models put one in ten.
    reach: float = Field(4.0, gt=0)  # of |ability|
    outside: float = Field(0.05, ge=0, le=1)  # the share of students that may lie beyond


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    if not hasattr(loaded.form, "population"):
        return Verdict(gate="", passed=True, sentence="its form draws no students: not judged")
    rng = np.random.default_rng(0)
    answers = ask(loaded, loaded.form.population(loaded.signature, rng, STUDENTS))
    wrong = problem(answers, settings)
    return Verdict(
        gate="",
        passed=not wrong,
        sentence=wrong
        or f"what it says of {len(answers)} drawn students varies and lies within bounds",
    )


def problem(answers: Sequence[Sequence[dict[str, Any]]], settings: Settings) -> str:
    """What cannot be believed, as a sentence; empty where nothing. answers: of each student, the same thing first."""
    for name in settings.positive:
        values = column(answers, name)
        if len(values) and values.min() <= 0:
            item = min(
                (each for row in answers for each in row), key=lambda each: np.min(each[name])
            )
            return (
                f"{name} is {values.min():.3g} for {item.get('item', 'one')}: it must be above zero"
            )
    for name in settings.varies:
        values = column(answers, name)
        if len(values) and values.std() < settings.least:
            return f"{name} is {values.mean():.4g} whatever is asked about whom: it tells nothing"
    same = column([row[:1] for row in answers], "ability")
    if not len(same):
        return ""
    if same.std() < settings.spread:
        return f"ability is {same.mean():.4g} for everybody: it has collapsed"
    far = float((np.abs(column(answers, "ability")) > settings.reach).mean())
    p = settings.outside
    if far > p + SIGMAS * math.sqrt(p * (1 - p) / len(answers)):
        return (
            f"{far:.0%} of abilities lie outside ±{settings.reach:g}, of a standard normal's 0.01 %"
        )
    return ""


def column(answers: Sequence[Sequence[dict[str, Any]]], name: str) -> np.ndarray:
    """All values of this name; none where the model does not say it."""
    found = [each[name] for row in answers for each in row if name in each]
    return np.array(found, float).ravel()
