"""What the triggers of a job look at, gathered once. Pure: the gathering is in `watch.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar


@dataclass(frozen=True)
class Drifted:
    """Of how many items it could be said whether they have drifted since the active version was trained.

    q: of those that may have, the most likely first: the false discovery rate at which each is called so.
    """

    LEAST: ClassVar = 0.2  # items above it are not kept

    judged: int = 0
    q: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is so for a job now.

    last_success: when its last successful training began; "kept" is a success too. last_attempt: its
    last run's end, however that was. failures: those in a row since the last success.
    samples: labelled ones that came after the cut-off of the last success.
    alerts: metrics of quality whose critical alert is firing. answered: the better version that the last
    success made for the active one, as long as its experiment runs or it waits for a person.
    ece, baseline_ece: the calibration error now, over `labelled` outcomes, and at deployment.
    """

    now: datetime
    last_success: datetime | None = None
    last_attempt: datetime | None = None
    failures: int = 0
    samples: int = 0
    alerts: tuple[str, ...] = ()
    answered: str = ""
    ece: float | None = None
    baseline_ece: float | None = None
    labelled: int = 0
    drifted: Drifted = Drifted()  # as was found last
    running: str = ""  # who trains, as they say it
    held: str = ""  # why a person, or kt, has put a hold on it

    def since(self, when: datetime) -> timedelta:
        """How long ago that was. A clock that was set back makes it no time at all."""
        return max(self.now - when, timedelta())

    def is_ahead(self, when: datetime, most: timedelta) -> bool:
        """Whether it lies further ahead than `most`, which who asks would wait after it: the clock was wrong then.

        Else a run of 2036, by a clock that has been set right since, would be waited for until 2036.
        """
        return when - self.now > most
