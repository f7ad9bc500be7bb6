"""On the evaluation set the model's confidence holds: of what it gives 0.8, about eight in ten come true.

Of fewer than 1,000 answers nothing is said: on a hundred even a perfect model's error is 0.12.
"""

from pydantic import BaseModel, Field

from kt.models.family import is_trainable
from kt.registry.gate import Subject
from kt.registry.record import Verdict
from kt.stats import calibration

SAFETY = False
BINS = 10


class Settings(BaseModel, extra="forbid"):
    ece: float = Field(0.1, ge=0, le=1)  # the mean gap between confidence and accuracy, at most
    mce: float = Field(0.3, ge=0, le=1)  # the largest, of bins that hold enough, at most
    least: int = Field(1_000, ge=1)  # answers
    of_bin: int = Field(100, ge=1)  # answers that a bin holds, for its gap alone to count


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    if candidate.evaluation is None:
        return Verdict(
            gate="", passed=True, sentence="no evaluation set is set in kt.toml: not judged"
        )
    if not is_trainable(candidate.loaded.family):
        return Verdict(gate="", passed=True, sentence="brings no way to score it: not judged")
    from kt.models import calibrate
    from kt.models.metrics import Categorical

    predicted = candidate.predicted
    if not isinstance(predicted, Categorical):
        return Verdict(gate="", passed=True, sentence="gives no probabilities: not judged")
    n = len(predicted.outcomes)
    if n < settings.least:
        sentence = f"{n:,} answers, fewer than {settings.least:,}: not judged"
        return Verdict(gate="", passed=True, sentence=sentence)
    confidence, came_true = calibrate.confidence_of(predicted.probabilities, predicted.outcomes)
    bins = calibration.equal_width(confidence.tolist(), came_true.tolist(), BINS)
    ece = calibration.errors(bins).ece
    held = [each for each in bins if each.n >= settings.of_bin]
    mce = calibration.errors(held).mce if held else 0.0
    passed = ece <= settings.ece and mce <= settings.mce
    sentence = f"ECE {ece:.4f} (at most {settings.ece:g}), MCE {mce:.4f} (at most {settings.mce:g}) on {n:,} answers"
    return Verdict(
        gate="",
        passed=passed,
        measured=round(ece, 5),
        bound=settings.ece,
        sentence=sentence + ("" if passed else ": kt calibrate may mend it"),
    )
