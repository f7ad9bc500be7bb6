"""A critical alert says that the model answers worse than it may. Errors and slowness are for a rollback."""

from pydantic import BaseModel

from kt.jobs.facts import Facts


class Settings(BaseModel, extra="forbid"):
    pass


def due(facts: Facts, settings: Settings) -> str:
    if facts.answered:  # its cure is there already
        return ""
    return f"critical alert: {', '.join(facts.alerts)}" if facts.alerts else ""
