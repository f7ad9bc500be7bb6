"""What came of the copies that a shadow got. Processes keep such counts, and they add up. Pure."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CASES = 5  # that are kept
WIDTH = math.log(1.1)  # of a bucket of times: each is a tenth longer than the one before


@dataclass(frozen=True)
class Tally:
    """compared: answers. predictions: what stands in them; agreed: those on which both agree.
    numbers: how many were compared; difference: the sum of their absolute differences; worst: the
    largest of those, in the answer of that prediction_id; cases: answers with the largest, and their ids.
    failed, invalid (not finite, or no probabilities), slow, dropped (never run): copies.
    took: copies that came back, by the bucket of how long they took.
    """

    compared: int = 0
    predictions: int = 0
    agreed: int = 0
    numbers: int = 0
    difference: float = 0.0
    worst: float = 0.0
    worst_id: str = ""
    cases: Sequence[tuple[float, str]] = ()
    failed: int = 0
    invalid: int = 0
    slow: int = 0
    dropped: int = 0
    took: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        worse = max(self, other, key=lambda one: one.worst)
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in NAMES
            if name not in ("worst", "worst_id", "cases", "took")
        }
        took = dict(Counter(self.took) + Counter(other.took))
        cases = tuple(sorted([*self.cases, *other.cases], key=lambda case: -case[0])[:CASES])
        return Tally(**sums, worst=worse.worst, worst_id=worse.worst_id, cases=cases, took=took)

    @property
    def copies(self) -> int:
        """Whatever came of them."""
        return self.compared + self.failed + self.invalid + self.slow + self.dropped

    def card(self) -> dict[str, Any]:
        """As it is written down."""
        return dataclasses.asdict(self)


NAMES = [one.name for one in dataclasses.fields(Tally)]
Key = tuple[str, str, str, int]  # of a shadow: model, experiment, version and phase


def read(card: Mapping[str, Any]) -> Tally:
    """A tally as it was written down; of nothing where nothing was. Raises KeyError, TypeError or ValueError."""
    took = {int(place): count for place, count in card.get("took", {}).items()}
    cases = tuple((float(apart), str(name)) for apart, name in card.get("cases", ()))
    return Tally(**{**card, "took": took, "cases": cases})


def bucket(seconds: float) -> int:
    return math.floor(math.log(max(seconds, 1e-6)) / WIDTH)


def percentile(took: Mapping[int, int], share: float) -> float | None:
    """Seconds that this share of them took at most, to a tenth; None of none."""
    left = share * sum(took.values())
    for place in sorted(took):
        left -= took[place]
        if left <= 0:
            return math.exp((place + 1) * WIDTH)
    return None


@dataclass(frozen=True)
class Report:
    """A shadow's tally. phase: the number of the event that made it a shadow."""

    model: str
    experiment: str
    version: str
    phase: int
    tally: Tally

    @property
    def shadow(self) -> Key:
        return self.model, self.experiment, self.version, self.phase

    def card(self) -> dict[str, Any]:
        """As it is written down, all of it."""
        return dataclasses.asdict(self)

    def summary(self) -> dict[str, Any]:
        """For people and programs: shares and means; None where there is nothing to tell of."""
        tally = self.tally
        return {
            "model": self.model,
            "experiment": self.experiment,
            "version": self.version,
            "compared": tally.compared,
            "predictions": tally.predictions,
            "agreement": tally.agreed / tally.predictions if tally.predictions else None,
            "mean_difference": tally.difference / tally.numbers if tally.numbers else None,
            "worst_difference": tally.worst if tally.numbers else None,
            "worst_prediction_id": tally.worst_id or None,
            "worst_cases": [
                {"prediction_id": name, "difference": apart} for apart, name in tally.cases
            ],
            "failed": tally.failed,
            "invalid": tally.invalid,
            "slow": tally.slow,
            "dropped": tally.dropped,
            "p95": percentile(tally.took, 0.95),  # seconds
        }


def reports(cards: Iterable[Mapping[str, Any]]) -> Iterator[Report]:
    """Reports as they were written down; those that another kt wrote otherwise are left out."""
    for card in cards:
        with suppress(KeyError, TypeError, ValueError):
            yield Report(**{**card, "tally": read(card["tally"])})


def merged(reports: Iterable[Report]) -> list[Report]:
    """One report a shadow."""
    of: dict[Key, Report] = {}
    for one in reports:
        before = of.get(one.shadow)
        of[one.shadow] = dataclasses.replace(one, tally=before.tally + one.tally) if before else one
    return list(of.values())
