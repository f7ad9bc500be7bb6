"""What the active version says of its confidence holds no more: its calibration error has grown since it was deployed.

The rule is that of `kt monitor`, which proposes `kt calibrate`: cheaper, and enough where only confidence
has drifted.
"""

from pydantic import BaseModel

from kt.jobs.facts import Facts
from kt.monitors import recalibration


class Settings(BaseModel, extra="forbid"):
    pass


def due(facts: Facts, settings: Settings) -> str:
    if facts.answered or facts.ece is None:
        return ""
    if recalibration.decide(facts.labelled, facts.ece, facts.baseline_ece) != "recalibrate":
        return ""
    before = "" if facts.baseline_ece is None else f", {facts.baseline_ece:.3f} before"
    return f"calibration error {facts.ece:.3f} on {facts.labelled:,} outcomes{before}"
