"""Whether what a live version says of its confidence still holds, by its outcomes. Pure."""

from typing import Literal

Decision = Literal["ok", "warn", "recalibrate", "no_data"]

LEAST = 1_000  # outcomes: a perfect model's error is 0.04 on these, and 0.12 on a hundred
HIGH = 0.1  # an error above this is shown
WORSE = 0.1  # by which it has to have grown
USUAL = 0.05  # in place of an error that nobody measured before the deployment


def decide(n: int, ece: float, baseline: float | None) -> Decision:
    """n: outcomes behind ece; baseline: the same error on held-out answers before it was deployed."""
    if n < LEAST:
        return "no_data"
    if ece - (USUAL if baseline is None else baseline) > WORSE:
        return "recalibrate"
    return "warn" if ece > HIGH else "ok"
