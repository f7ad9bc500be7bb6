"""An event of a job, written down; and the hold that follows where trying again does not help."""

from collections.abc import Callable
from typing import Any

from kt.jobs import book, runs
from kt.jobs.asked import Asked
from kt.jobs.runs import AnyEvent, Held, State
from kt.journal import Journal


def append(asked: Asked, event: Callable[[dict[str, Any]], AnyEvent]) -> str:
    """Write an event, of its common fields; and a hold where trying again does not help. Returns why
    there is one."""
    held: list[str] = []

    def planned(journal: Journal, state: State) -> list[AnyEvent]:
        last = event(common(asked, journal))
        after = runs.fold([last], state).job(asked.name)
        why = "" if after.held else runs.must_hold(after, asked.job.retries)
        held[:] = [why] if why else []
        return [
            last,
            *(Held(**common(asked, journal, why) | {"seq": last.seq + 1}) for why in held),
        ]

    book.write(asked.workspace, planned)
    return held[0] if held else ""


def common(asked: Asked, journal: Any, reason: str = "") -> dict[str, Any]:
    """The fields that every event has."""
    at = {"at": asked.at, "by": asked.by, "job": asked.name, "reason": reason}
    return {"seq": 1, "prev": "", **at, **(numbered(journal) if journal is not None else {})}


def numbered(journal: Any) -> dict[str, Any]:
    return {"seq": journal.seq + 1, "prev": journal.head}
