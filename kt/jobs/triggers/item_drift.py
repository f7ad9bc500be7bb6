"""Items have become harder or easier since the active version was trained, apart from who answers them.

    [[jobs.nightly.trigger]]
    name = "item_drift"

It counts items of which surely enough was answered before and after, by ten students and more; of those that
it calls drifted one in twenty is false at most (`level`), though it looks every day. `kt drift`, which looks once,
finds smaller ones, and tells by how much.
"""

from pydantic import BaseModel, Field

from kt.jobs.facts import Drifted, Facts


class Settings(BaseModel, extra="forbid"):
    # that have drifted, at least: one or two are no reason to train anew
    items: int = Field(3, ge=1)
    share: float = Field(0.05, ge=0, le=1)  # of the items that can be judged, at least
    level: float = Field(0.05, gt=0, le=Drifted.LEAST)  # of those called drifted, so many are false
    every: float = Field(24.0, ge=0, le=8_760)  # hours between two looks at the answers


def due(facts: Facts, settings: Settings) -> str:
    if facts.answered:
        return ""
    found = [item for item, q in facts.drifted.q.items() if q <= settings.level]
    if len(found) < max(settings.items, settings.share * facts.drifted.judged):
        return ""
    some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    return f"{len(found)} of {facts.drifted.judged:,} items have drifted: {some}"
