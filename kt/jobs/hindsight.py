"""One retraining of a backtest in hindsight: what it would have come to, and what it would have gained.

It is compared as the job does, on the newest units of what was known; and then by what came next.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from kt.config import Job
from kt.errors import Invalid
from kt.jobs import trainer
from kt.jobs.candidate import better, sentence
from kt.jobs.past import Past
from kt.jobs.replay import Look
from kt.jobs.runs import Comparison
from kt.registry import register
from kt.registry.load import Loaded
from kt.workspace import Workspace


@dataclass(frozen=True)
class Gain:
    """What came next, until the retraining after it: `difference` is the candidate's lead over the version
    before it, with the middle 95 % of it over units.

    candidate, before, first, after: scores; first: of the version active at the beginning, after: of the
    one that would have answered. n: predictions.
    """

    metric: str
    candidate: float
    before: float
    first: float
    after: float
    difference: float
    low: float
    high: float
    n: int
    units: int


@dataclass(frozen=True)
class Retraining:
    """outcome: "first" (nothing was active), "better", "kept" or "failed". gain: None where nothing came next."""

    at: datetime
    until: datetime
    reasons: dict[str, str]
    outcome: str
    why: str = ""
    comparison: Comparison | None = None
    gain: Gain | None = None

    @property
    def takes_over(self) -> bool:
        return self.outcome in ("first", "better")


@dataclass(frozen=True)
class Judge:
    """order: what a training is told, as of the job. folder: for its files."""

    workspace: Workspace
    job: Job
    known: Past
    order: dict[str, Any]
    folder: Path

    def judge(
        self, look: Look, made: bytes | str, before: Loaded | None
    ) -> tuple[Retraining, Loaded | None]:
        """What came of a training, and the candidate, if it is one. made: a checkpoint, or why there is none."""

        def ended(outcome: str, why: str, comparison: Comparison | None = None) -> Retraining:
            return Retraining(look.at, look.at, look.due.reasons, outcome, why, comparison)

        if isinstance(made, str):
            return ended("failed", made), None
        path = self.folder / "candidate.pt"
        path.write_bytes(made)
        candidate, _ = register.opened(self.workspace, path)
        try:
            comparison = self.compared(look.at, candidate, before)
        except Invalid as error:
            return ended("failed", str(error)), None
        if comparison is None:
            why = "nothing was active" if before is None else "another task was learnt before"
            return ended("first", why), candidate
        outcome = "better" if better(comparison, self.job.margin) else "kept"
        return ended(outcome, sentence(comparison), comparison), candidate

    def compared(self, at: datetime, candidate: Loaded, before: Loaded | None) -> Comparison | None:
        """On the newest units of what was known."""
        from kt.models import task

        paths = self.known.files(self.folder / "known", at)
        room = task.of(candidate.family)
        _, newest = trainer.apart(room.read(paths), self.job.holdout)
        found = trainer.compared(self.order, candidate, before, newest)["comparison"]
        return Comparison.model_validate(found) if found else None

    def followed(
        self,
        one: Retraining,
        end: datetime,
        candidate: Loaded | None,
        before: Loaded | None,
        first: Loaded | None,
    ) -> Retraining:
        """The retraining with what it gained until the end."""
        one = replace(one, until=end)
        if candidate is None:
            return one
        kept = one.outcome == "kept"
        try:
            gain = self.gain(one.at, end, candidate, before or candidate, first or candidate, kept)
        except Invalid as error:
            return replace(one, why=f"{one.why}; what came next cannot be told: {error}")
        return replace(one, gain=gain)

    def gain(
        self,
        at: datetime,
        end: datetime,
        candidate: Loaded,
        before: Loaded,
        first: Loaded,
        kept: bool,
    ) -> Gain | None:
        """On what came until the end, each told from all that was known before it."""
        from kt.models import metrics, task

        room = task.of(candidate.family)
        after = self.known.files(self.folder / "after", end, since=at)
        if not after or before.family.TASK != candidate.family.TASK:
            return None
        came = room.read(after)
        whole: Any = getattr(room, "since", None)
        if whole:
            names = set(came.units)
            everything = room.read(self.known.files(self.folder / "whole", end))
            came = everything.take([unit in names for unit in everything.units])
            earlier = room.read(self.known.files(self.folder / "earlier", at))

        def told(version: Loaded) -> Any:
            predicted = room.predict(version.module, version.signature, came)
            return whole(predicted, earlier) if whole else predicted

        metric = trainer.metric_of(self.order, candidate)
        new, old = told(candidate), told(before)
        if not len(new.unit):
            return None
        apart = metrics.difference(metric, old, new)
        up = metrics.higher_is_better(metric)
        ours, theirs = metrics.score(metric, new), metrics.score(metric, old)
        return Gain(
            metric,
            candidate=ours,
            before=theirs,
            first=metrics.score(metric, told(first)),
            after=theirs if kept else ours,
            difference=apart.value if up else -apart.value,
            low=apart.low if up else -apart.high,
            high=apart.high if up else -apart.low,
            n=len(new.unit),
            units=len(came.units),
        )
