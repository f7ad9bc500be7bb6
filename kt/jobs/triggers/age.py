"""The last successful training is so old, and something new can be learnt."""

from datetime import timedelta

from pydantic import BaseModel, Field

from kt.jobs.facts import Facts


class Settings(BaseModel, extra="forbid"):
    days: float = Field(7.0, gt=0, le=3_650)


def due(facts: Facts, settings: Settings) -> str:
    if not facts.samples:
        return ""
    if facts.last_success is None:
        return "never trained"
    limit = timedelta(days=settings.days)
    if facts.is_ahead(facts.last_success, limit):
        return "last trained before the clock was set back"
    age = facts.since(facts.last_success)
    if age < limit:
        return ""
    return f"last trained {age / timedelta(days=1):.1f} d ago (limit {settings.days:g} d)"
