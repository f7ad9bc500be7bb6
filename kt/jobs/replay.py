"""What the triggers of a job would have decided at times gone by. Pure: what was so then is in the arguments.

Each retraining is taken to end well and at once, as `kept` does too: what it came to moves no trigger.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from kt.jobs.decide import Due, Pace, Trigger, decide
from kt.jobs.facts import Facts


@dataclass(frozen=True)
class Look:
    at: datetime
    due: Due


def replay(
    times: Iterable[datetime],
    begin: Facts,
    samples: Callable[[datetime | None, datetime], int],
    quality: Callable[[datetime], dict[str, Any]],
    triggers: Sequence[tuple[str, Trigger, BaseModel]],
    pace: Pace,
) -> Iterator[Look]:
    """A look at each time. begin: how the job stood before the first.

    samples: how many came after the one time and not after the other. quality: the facts of a time that
    are about answers: alerts, calibration.
    """
    facts, cut_off = begin, begin.last_success
    for now in times:
        facts = replace(facts, now=now, samples=samples(cut_off, now), **quality(now))
        due = decide(facts, triggers, pace)
        yield Look(now, due)
        if due.yes:
            facts = replace(facts, last_success=now, last_attempt=now, failures=0)
            cut_off = now
