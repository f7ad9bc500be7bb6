"""Whether a retraining is due, and why; and what stands in its way. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import BaseModel, Field

from kt.jobs.facts import Facts
from kt.jobs.runs import times

FIRST = timedelta(hours=1)  # that a failed run is waited for; each further one doubles it


class Trigger(Protocol):
    """A file in kt/jobs/triggers, or a module of the user's own."""

    Settings: type[BaseModel]

    def due(self, facts: Facts, settings: BaseModel) -> str:
        """Why a retraining is due, as a clause; empty where it is not."""


class Pace(BaseModel, extra="forbid", frozen=True, strict=True):
    """How soon one attempt may follow another."""

    cooldown: float = Field(24.0, ge=0)  # hours after an attempt that ended well
    backoff: float = Field(24.0, ge=0)  # hours at most after attempts that failed


@dataclass(frozen=True)
class Due:
    """reasons: by trigger, why it is time. blocked: by what, and until when. at: when the blocks end."""

    reasons: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    at: datetime | None = None

    @property
    def yes(self) -> bool:
        return bool(self.reasons) and not self.blocked


def decide(
    facts: Facts,
    triggers: Sequence[tuple[str, Trigger, BaseModel]],
    pace: Pace = Pace(),  # noqa: B008  # frozen
    *,
    force: bool = False,
) -> Due:
    """Ask every trigger. force: all but a training that is running stands back."""
    if force:
        running = {"running": facts.running} if facts.running else {}
        return Due({"force": "asked for"}, running)
    asked = {name: trigger.due(facts, settings) for name, trigger, settings in triggers}
    blocked, at = blocks(facts, pace)
    return Due({name: why for name, why in asked.items() if why}, blocked, at)


def blocks(facts: Facts, pace: Pace) -> tuple[dict[str, str], datetime | None]:
    """What stands in the way, and when the last of it ends, where that can be told."""
    found = {}
    if facts.running:
        found["running"] = facts.running
    if facts.held:
        found["held"] = facts.held
    wait, name, what = pause(facts, pace)
    last = facts.last_attempt
    if last is None or facts.is_ahead(last, wait) or facts.since(last) >= wait:
        return found, None
    found[name] = what
    return found, facts.now + wait - facts.since(last)


def pause(facts: Facts, pace: Pace) -> tuple[timedelta, str, str]:
    """How long after the last attempt the next may begin, and what that is called."""
    if not facts.failures:
        return timedelta(hours=pace.cooldown), "cooldown", f"{pace.cooldown:g} h after the last run"
    longest = timedelta(hours=pace.backoff)
    wait = min(FIRST * 2 ** min(facts.failures - 1, 20), longest)
    return wait, "backoff", f"it has failed {times(facts.failures)}"
