"""kt backtest: what a job would have done in times gone by, and what that would have gained.

look      at each time the triggers are asked with what was so then (replay.py): data that had come (past.py),
          alerts that were open
train     each retraining on the data known then, side by side (compute.py)
compare   in order, as the job does: candidate and the version active before it, on the newest units
gain      the two, and the version that was active at the beginning, on what came next: until the
          retraining after it

Nothing is registered, deployed or written down.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kt import compute
from kt.config import Job
from kt.deployments import audit
from kt.errors import Invalid
from kt.jobs import book, past, runs, trainer, watch
from kt.jobs.asked import iso
from kt.jobs.candidate import better, sentence
from kt.jobs.decide import Pace
from kt.jobs.facts import Facts
from kt.jobs.past import Past
from kt.jobs.replay import Look, replay
from kt.jobs.runs import Comparison
from kt.monitors import events, history
from kt.registry import load, register
from kt.registry.load import Loaded
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.deployments.history import Held
    from kt.models.task import Parts

MOST = 10_000  # looks


@dataclass(frozen=True)
class Asked:
    """A job, and the times at which it is looked at."""

    workspace: Workspace
    name: str
    job: Job
    begin: datetime
    end: datetime
    every: timedelta

    @property
    def model(self) -> str:
        return self.job.model or self.name


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


@dataclass(frozen=True)
class Backtest:
    """began: the version that was active at the beginning, if one was. held: why the job would have been
    put on hold in the end."""

    began: str
    looks: list[Look]
    retrainings: list[Retraining]
    held: str = ""

    def mean(self, score: Callable[[Gain], float]) -> float | None:
        """A score over all that came next, each prediction counting alike."""
        known = [one.gain for one in self.retrainings if one.gain]
        total = sum(gain.n for gain in known)
        return sum(gain.n * score(gain) for gain in known) / total if total else None


def backtest(
    asked: Asked,
    *,
    on_looks: Callable[[Sequence[Look]], None] = lambda _: None,
    on_retraining: Callable[[Retraining], None] = lambda _: None,
) -> Backtest:
    """Raises Invalid where the job's data do not say when they came, or where there is nothing to train."""
    if asked.job.command:
        raise Invalid(
            "a program of your own trains it, which knows only the data of now",
            where=f"jobs.{asked.name}.command",
            do="name a family in its place",
        )
    if (asked.end - asked.begin) / asked.every > MOST:
        raise Invalid(f"more than {MOST:,} looks", where="--every", do="look less often")
    with TemporaryDirectory(prefix="kt-") as folder:
        made = Path(folder)
        known = past.read(collected(asked, made))
        looks = list(looked(asked, known))
        due = [look for look in looks if look.due.yes]
        on_looks(looks)
        held = active(asked)
        began = loaded(asked, held) if held else None
        found = walk(asked, known, due, order_of(asked, began), began, made, on_retraining)
        retrainings = list(found)
    said = must_hold(retrainings)
    return Backtest(held.version if held else "", looks, retrainings, said)


def collected(asked: Asked, folder: Path) -> list[Path]:
    """The data of the job as they are now."""
    sources = watch.sources(asked.workspace, asked.name, asked.job)
    return list(chain.from_iterable(watch.collect(sources, folder / "data")))


def looked(asked: Asked, known: Past) -> Iterator[Look]:
    """What the triggers say at each time."""
    workspace, job = asked.workspace, asked.job
    journal = history.read(workspace)[0]
    alerts = [events.one.validate_python(event) for event in journal.events]
    deployed, _ = audit.read(workspace)
    confident = any(one.name == "calibration" for one in job.trigger)

    def quality(now: datetime) -> dict[str, Any]:
        open_then = events.fold(alert for alert in alerts if alert.at <= iso(now))
        then = audit.fold(audit.at_time(deployed, iso(now)))
        said: dict[str, Any] = {"alerts": tuple(watch.critical(open_then, then, asked.model))}
        if confident:
            error = watch.confidence(workspace, asked.model, now, then)
            said |= {"ece": error.ece, "baseline_ece": error.baseline, "labelled": error.outcomes}
        return said

    return replay(
        past.times(asked.begin, asked.end, asked.every),
        standing(asked),
        lambda since, now: known.count(now, since),
        quality,
        watch.triggers(workspace, asked.name, job),
        Pace(cooldown=job.cooldown, backoff=job.backoff),
    )


def standing(asked: Asked) -> Facts:
    """How the job stood at the beginning, by its runs until then."""
    journal, _ = book.read(asked.workspace)
    until = [event for event in journal.events if event["at"] <= iso(asked.begin)]
    before = runs.fold(runs.one.validate_python(event) for event in until).job(asked.name)
    return Facts(
        now=asked.begin,
        last_success=before.last_success,
        last_attempt=before.last_attempt,
        failures=before.failures,
    )


def active(asked: Asked) -> "Held | None":
    """The version that was active at the beginning."""
    deployed, _ = audit.read(asked.workspace)
    state = audit.fold(audit.at_time(deployed, iso(asked.begin)))
    return state.serving(asked.model).active


def loaded(asked: Asked, held: "Held") -> Loaded:
    return load.load(asked.workspace.root, asked.model, held.version, held.sha256)


def order_of(asked: Asked, began: Loaded | None) -> dict[str, Any]:
    """What a training is told, as of the job. Raises Invalid where nothing says what it trains."""
    job = asked.job
    family = job.family or (began.spec.family if began else "")
    if not family:
        raise Invalid(
            "nothing says what it trains, and no version was active at --from",
            where=f"jobs.{asked.name}.family",
            do="name a family",
        )
    return {
        "root": str(asked.workspace.root),
        "job": asked.name,
        "family": family,
        "size": job.size,
        "settings": job.settings,
        "options": job.options,
        "seed": job.seed,
        "metric": job.metric,
    }


def walk(
    asked: Asked,
    known: Past,
    due: Sequence[Look],
    order: dict[str, Any],
    began: Loaded | None,
    folder: Path,
    on_retraining: Callable[[Retraining], None],
) -> Iterator[Retraining]:
    """From retraining to retraining, until the job would have been put on hold."""
    family = trainer.family_of(order)
    before, first, told = began, began, list[Retraining]()
    ends = [*(look.at for look in due[1:]), asked.end]
    jobs = ((order, parts_at(family, known, look.at, asked.job.holdout)) for look in due)
    with closing(compute.each(attempt, jobs, asked.workspace.settings.compute)) as results:
        for look, end, made in zip(due, ends, results, strict=True):
            with TemporaryDirectory(dir=folder) as place:
                judge = Judge(asked, known, order, look, end, Path(place))
                one, candidate = judge.judge(made, before, first)
            told.append(one)
            on_retraining(one)
            yield one
            if one.outcome in ("first", "better"):
                before = candidate
            first = first or candidate
            if must_hold(told):
                return


def parts_at(family: Any, known: Past, at: datetime, holdout: float) -> "Parts | str":
    """What is trained on at a time, in memory; or why nothing can be."""
    from kt.models import task

    with TemporaryDirectory(prefix="kt-") as folder:
        try:
            return trainer.parted(task.of(family), known.files(Path(folder), at), holdout)
        except Invalid as error:
            return str(error)


def attempt(order: dict[str, Any], parts: "Parts | str") -> bytes | str:
    """A checkpoint, trained in a process of its own perhaps elsewhere; or why there is none."""
    if isinstance(parts, str):
        return parts
    with TemporaryDirectory(prefix="kt-") as folder:
        out = Path(folder) / "candidate.pt"
        try:
            trainer.taught(order, trainer.family_of(order), parts, out)
        except Invalid as error:
            return str(error)
        return out.read_bytes()


@dataclass(frozen=True)
class Judge:
    """Compares at one time: as the job does, and by what came next."""

    asked: Asked
    known: Past
    order: dict[str, Any]
    look: Look
    end: datetime
    folder: Path

    def judge(
        self, made: bytes | str, before: Loaded | None, first: Loaded | None
    ) -> tuple[Retraining, Loaded | None]:
        """What came of a training, and the candidate, if it is one."""
        if isinstance(made, str):
            return self.ended("failed", made), None
        path = self.folder / "candidate.pt"
        path.write_bytes(made)
        candidate, _ = register.opened(self.asked.workspace, path)
        try:
            comparison = self.compared(candidate, before)
            kept = comparison and not better(comparison, self.asked.job.margin)
            gain = self.gain(candidate, before or candidate, first or candidate, bool(kept))
        except Invalid as error:
            return self.ended("failed", str(error)), None
        if comparison is None:
            why = "nothing was active" if before is None else "another task was learnt before"
            return self.ended("first", why, gain=gain), candidate
        outcome = "kept" if kept else "better"
        return self.ended(outcome, sentence(comparison), comparison, gain), candidate

    def ended(
        self,
        outcome: str,
        why: str,
        comparison: Comparison | None = None,
        gain: Gain | None = None,
    ) -> Retraining:
        at, reasons = self.look.at, self.look.due.reasons
        return Retraining(at, self.end, reasons, outcome, why, comparison, gain)

    def compared(self, candidate: Loaded, before: Loaded | None) -> Comparison | None:
        """On the newest units of what was known."""
        from kt.models import task

        paths = self.known.files(self.folder / "known", self.look.at)
        room = task.of(candidate.family)
        _, newest = trainer.apart(room.read(paths), self.asked.job.holdout)
        found = trainer.compared(self.order, candidate, before, newest)["comparison"]
        return Comparison.model_validate(found) if found else None

    def gain(self, candidate: Loaded, before: Loaded, first: Loaded, kept: bool) -> Gain | None:
        """On what came until the end, each told from all that was known before it."""
        from kt.models import metrics, task

        at, room = self.look.at, task.of(candidate.family)
        after = self.known.files(self.folder / "after", self.end, since=at)
        if not after or before.family.TASK != candidate.family.TASK:
            return None
        came = room.read(after)
        whole: Any = getattr(room, "since", None)
        if whole:
            names = set(came.units)
            everything = room.read(self.known.files(self.folder / "whole", self.end))
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


def must_hold(told: Sequence[Retraining]) -> str:
    """Why the job would have been put on hold: as of its runs, training again did not cure it. Pure."""
    kept = 0
    for one in told:
        kept = kept + runs.cures(one.reasons) if one.outcome == "kept" else 0
    return runs.no_cure(runs.Job(kept=kept))
