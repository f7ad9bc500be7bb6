"""Not worse than the active version on the model's own evaluation set, by more than chance and a tolerance.

Both versions predict the same, so what makes a student hard to predict cancels; the interval
is over students, or whatever the task's units are. One-sided: an improvement never fails.
"""

from pydantic import BaseModel, Field

from kt.models.family import is_trainable
from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False


class Settings(BaseModel, extra="forbid"):
    tolerance: float = Field(0.02, ge=0)  # how much worse it may be, in the metric's own unit
    metric: str = ""  # the family's own without


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    if candidate.evaluation is None:
        return Verdict(
            gate="", passed=True, sentence="no evaluation set is set in kt.toml: not compared"
        )
    if baseline is None:
        return Verdict(gate="", passed=True, sentence="the first version: nothing to compare with")
    families = (baseline.loaded.family, candidate.loaded.family)
    if not all(map(is_trainable, families)):
        return Verdict(
            gate="", passed=True, sentence="a program brings no way to score it: not compared"
        )
    if families[0].TASK != families[1].TASK:
        return Verdict(
            gate="", passed=True, sentence=f"{baseline.name} learnt another task: not compared"
        )
    from kt.models import metrics

    metric = settings.metric or candidate.loaded.family.METRIC
    better = 1 if metrics.higher_is_better(metric) else -1
    difference = metrics.difference(metric, baseline.predicted, candidate.predicted)
    low, high = sorted((better * difference.low, better * difference.high))
    gain = better * difference.value
    return Verdict(
        gate="",
        passed=gain >= -settings.tolerance or high >= 0,
        measured=round(gain, 5),
        bound=-settings.tolerance,
        sentence=f"{metric} {gain:+.4f} [{low:+.4f}, {high:+.4f}] against {baseline.name} (may lose {settings.tolerance:g})",
    )
