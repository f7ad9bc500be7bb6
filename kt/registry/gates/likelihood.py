"""What is served is what was trained and scored, and tells more than frequencies alone.

Where a family can be trained, its task compares forward, serve and loss on a few drawn answers: softmax
applied twice, or a loss over some of the answers only, shows there. On the evaluation set of kt.toml the
mean -log p of what is served must not be above that of frequencies alone (how often the other students
gave an item each response) by more than a tolerance and chance. Without one, what the checkpoint says
of itself must not be worse than to call all responses equally likely.
"""

import math

import numpy as np
from pydantic import BaseModel, Field

from kt.models.family import is_trainable
from kt.registry.asking import ask
from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False


class Settings(BaseModel, extra="forbid"):
    tolerance: float = Field(0.02, ge=0)  # nats an answer, by which frequencies may be better


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    if not is_trainable(candidate.loaded.family):
        return Verdict(gate="", passed=True, sentence="brings no way to score it: not judged")
    if wrong := learnt_otherwise(candidate):
        return Verdict(gate="", passed=False, sentence=wrong)
    measured = on_evaluation(candidate) or as_trained(candidate)
    if measured is None:
        sentence = "serves what it learnt; no evaluation set is set in kt.toml: not compared"
        return Verdict(gate="", passed=True, sentence=sentence)
    nll, floor, excess, what = measured
    passed = excess <= settings.tolerance
    return Verdict(
        gate="",
        passed=passed,
        measured=round(nll, 5),
        bound=round(floor + settings.tolerance, 5),
        sentence=f"nll {nll:.4f} {what} {floor:.4f}" + ("" if passed else ": it knows less"),
    )


def learnt_otherwise(candidate: Subject) -> str:
    """What the family's task finds wrong with how it learns; empty where nothing, or no way to tell."""
    from kt.models import task

    loaded = candidate.loaded
    room = task.of(loaded.family)
    if not hasattr(room, "learns_otherwise"):
        return ""
    try:
        wrong: str = room.learns_otherwise(
            loaded.family, loaded.module, loaded.signature, np.random.default_rng(0)
        )
    except Exception as error:  # noqa: BLE001  # a family's code may raise anything; it is the verdict
        return f"it cannot be trained as it stands: {type(error).__name__}: {str(error)[:200]}"
    return wrong


Measured = tuple[float, float, float, str]
"""The model's nll, what it is compared with, by how much it surely is above, and both in words."""


def on_evaluation(candidate: Subject) -> Measured | None:
    from kt.models import metrics, task

    room = task.of(candidate.loaded.family)
    if candidate.evaluation is None or not hasattr(room, "floor"):
        return None
    predicted = candidate.predicted
    floor = room.floor(predicted)
    nll, of_frequencies = (metrics.score("nll", each) for each in (predicted, floor))
    excess = metrics.difference("nll", floor, predicted).low
    return nll, of_frequencies, excess, "on the evaluation set, frequencies alone have"


def as_trained(candidate: Subject) -> Measured | None:
    """What a checkpoint says of itself, if it does; its interval stands for chance."""
    loaded = candidate.loaded
    (answers,) = ask(loaded, loaded.form.example(loaded.signature, np.random.default_rng(0), 1))
    try:
        chance = math.log(len(answers[0]["probabilities"]))
        nll = float(candidate.scores["nll"])
        low = float(candidate.scores["intervals"]["nll"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return nll, chance, low - chance, "as trained, guessing has"
