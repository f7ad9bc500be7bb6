"""So many labelled samples have come since the last successful training."""

from pydantic import BaseModel, Field

from kt.jobs.facts import Facts


class Settings(BaseModel, extra="forbid"):
    count: int = Field(100, ge=1)


def due(facts: Facts, settings: Settings) -> str:
    if facts.samples < settings.count:
        return ""
    return f"{facts.samples:,} new labelled samples (limit {settings.count:,})"
