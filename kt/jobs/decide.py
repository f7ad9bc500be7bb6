"""Whether to retrain now, why, and what stands in the way. Pure.

due        time, data or health; nothing is trained again without a new outcome
blocked    by a training that runs, by a hold, by a cooldown, or after failures by a backoff
"""

from dataclasses import dataclass
from typing import Literal

HOUR = 3_600
DAY = 24 * HOUR

Reason = Literal["force", "time", "data", "health"]
Block = Literal["running", "held", "cooldown", "backoff"]


@dataclass(frozen=True, slots=True)
class Policy:
    """age, cooldown, first_wait, longest_wait: seconds; samples: outcomes."""

    age: float = 7 * DAY
    samples: int = 100
    cooldown: float = DAY
    first_wait: float = HOUR  # doubled with each failure in a row
    longest_wait: float = DAY


@dataclass(frozen=True, slots=True)
class Facts:
    """Times in seconds. failures: in a row, since the last success. new_samples: outcomes that came after
    the last successful training's data ended. quality_critical: a critical alert on quality is open."""

    now: float
    last_success_at: float | None
    last_attempt_at: float | None
    failures: int
    new_samples: int
    quality_critical: bool
    running: bool
    held: bool
    force: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    reasons: tuple[Reason, ...]
    blocked: tuple[Block, ...]

    @property
    def should(self) -> bool:
        return bool(self.reasons) and not self.blocked


def retrain(facts: Facts, policy: Policy = Policy()) -> Decision:  # frozen
    if facts.force:
        return Decision(("force",), ("running",) if facts.running else ())
    return Decision(tuple(_reasons(facts, policy)), tuple(_blocked(facts, policy)))


def _reasons(facts: Facts, policy: Policy) -> list[Reason]:
    age = _since(facts.last_success_at, facts.now)
    found: dict[Reason, bool] = {
        "time": facts.new_samples > 0 and (age is None or age >= policy.age),
        "data": facts.new_samples >= policy.samples,
        "health": facts.quality_critical,
    }
    return [reason for reason, holds in found.items() if holds]


def _blocked(facts: Facts, policy: Policy) -> list[Block]:
    since = _since(facts.last_attempt_at, facts.now)
    wait = policy.cooldown
    if facts.failures:
        wait = min(policy.first_wait * 2.0 ** min(facts.failures - 1, 30), policy.longest_wait)
    early = since is not None and since < wait
    found: dict[Block, bool] = {
        "running": facts.running,
        "held": facts.held,
        "backoff": early and facts.failures > 0,
        "cooldown": early and not facts.failures,
    }
    return [block for block, holds in found.items() if holds]


def _since(then: float | None, now: float) -> float | None:
    """A clock that was set back makes nothing longer ago."""
    return None if then is None else max(0.0, now - then)
