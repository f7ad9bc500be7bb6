"""kt backtest: what a job would have done in times gone by, and what that would have gained.

look      at each time the triggers are asked with what was so then (replay.py): data that had come (past.py),
          alerts that were open, items that had drifted (past_items.py)
train     each retraining on the data known then, side by side (compute.py); one after another where it is
          asked whether items drift: which version is active decides that
compare   in order, as the job does: candidate and the version active before it, on the newest units
gain      the two, and the version that was active at the beginning, on what came next: until the
          retraining after it (hindsight.py)

Nothing is registered, deployed or written down.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
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
from kt.jobs import book, drifted, past, runs, trainer, watch
from kt.jobs.asked import iso
from kt.jobs.decide import Pace
from kt.jobs.facts import Facts
from kt.jobs.hindsight import Gain, Judge, Retraining
from kt.jobs.past import Past
from kt.jobs.past_items import Items
from kt.jobs.replay import Look, replay
from kt.monitors import events, history
from kt.registry import load
from kt.registry.load import Loaded
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.deployments.history import Held
    from kt.models.task import Parts

MOST = 10_000  # looks
Train = Callable[[Look], bytes | str]  # a checkpoint, or why there is none


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
class Backtest:
    """began: the version that was active at the beginning, if one was. looks: until a hold. held: why the job would have been
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
    on_unknown: Callable[[datetime, str], None] = lambda *_: None,
) -> Backtest:
    """Raises Invalid where the job's data do not say when they came, or where there is nothing to train.

    on_unknown: is given when nobody could have told whether items had drifted, and why.
    """
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
        held = active(asked)
        began = loaded(asked, held) if held else None
        items = watched(asked, known, began, held.version if held else "", on_unknown)
        looks: Iterable[Look] = looked(asked, known, items)
        due = None
        if items is None:
            looks = list(looks)
            due = [look for look in looks if look.due.yes]
            on_looks(looks)
        seen = list[Look]()
        order = order_of(asked, began)
        with trainings(asked, known, order, due) as train:
            scene = Scene(asked, known, order, made, train, items)
            retrainings = list(scene.walk(noted(looks, seen), began, on_retraining))
    return Backtest(held.version if held else "", seen, retrainings, must_hold(retrainings))


def noted(looks: Iterable[Look], seen: list[Look]) -> Iterator[Look]:
    """Those that are due; all are put down as they are made."""
    for look in looks:
        seen.append(look)
        if look.due.yes:
            yield look


def collected(asked: Asked, folder: Path) -> list[Path]:
    """The data of the job as they are now."""
    sources = watch.sources(asked.workspace, asked.name, asked.job)
    return list(chain.from_iterable(watch.collect(sources, folder / "data")))


def looked(asked: Asked, known: Past, items: Items | None) -> Iterator[Look]:
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
        if items:
            said["drifted"] = items.at(now)
        return said

    return replay(
        past.times(asked.begin, asked.end, asked.every),
        standing(asked),
        lambda since, now: known.count(now, since),
        quality,
        watch.triggers(workspace, asked.name, job),
        Pace(cooldown=job.cooldown, backoff=job.backoff),
    )


def watched(
    asked: Asked,
    known: Past,
    began: Loaded | None,
    version: str,
    on_unknown: Callable[[datetime, str], None],
) -> Items | None:
    """The items of the version that was active at the beginning, where the job asks for them."""
    every = watch.hours_between_looks(asked.workspace, asked.name, asked.job)
    if every is None:
        return None
    learnt = drifted.learnt(before(asked), version)
    until = runs.time(learnt.until) if learnt else None
    return Items(known, every, on_unknown, began, until)


def standing(asked: Asked) -> Facts:
    """How the job stood at the beginning, by its runs until then."""
    then = before(asked)
    return Facts(
        now=asked.begin,
        last_success=then.last_success,
        last_attempt=then.last_attempt,
        failures=then.failures,
    )


def before(asked: Asked) -> runs.Job:
    """The job's runs until the beginning."""
    journal, _ = book.read(asked.workspace)
    until = [event for event in journal.events if event["at"] <= iso(asked.begin)]
    return runs.fold(runs.one.validate_python(event) for event in until).job(asked.name)


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


@contextmanager
def trainings(
    asked: Asked, known: Past, order: dict[str, Any], due: Sequence[Look] | None
) -> Iterator[Train]:
    """What trains at a look. due: all that are, in order, where that is known before: side by side then."""
    how, family = asked.workspace.settings.compute, trainer.family_of(order)

    def job(look: Look) -> tuple[dict[str, Any], "Parts | str"]:
        return order, parts_at(family, known, look.at, asked.job.holdout)

    def alone(look: Look) -> bytes | str:
        (made,) = compute.each(attempt, [job(look)], how)
        return made

    if due is None:
        yield alone
        return
    with closing(compute.each(attempt, map(job, due), how)) as results:
        yield lambda _: next(results)


@dataclass(frozen=True)
class Scene:
    """items: those of the version that is active, where the job asks whether they drift. folder: for files."""

    asked: Asked
    known: Past
    order: dict[str, Any]
    folder: Path
    train: Train
    items: Items | None

    def walk(
        self,
        due: Iterator[Look],
        began: Loaded | None,
        on_retraining: Callable[[Retraining], None],
    ) -> Iterator[Retraining]:
        """From retraining to retraining, until the job would have been put on hold."""
        active, first, told = began, began, list[Retraining]()
        look = next(due, None)
        while look:
            made = self.train(look)
            with TemporaryDirectory(dir=self.folder) as place:
                judge = Judge(
                    self.asked.workspace, self.asked.job, self.known, self.order, Path(place)
                )
                one, candidate = judge.judge(look, made, active)
                told.append(one)
                self.came_of(one, candidate)
                look = None if must_hold(told) else next(due, None)
                one = judge.followed(
                    one, look.at if look else self.asked.end, candidate, active, first
                )
            on_retraining(one)
            yield one
            if one.takes_over:
                active = candidate
            first = first or candidate

    def came_of(self, one: Retraining, candidate: Loaded | None) -> None:
        """What the next look is to know of a retraining."""
        if self.items and one.takes_over and candidate:
            self.items.take_over(candidate, one.at)
        elif self.items and one.comparison:
            self.items.compared(one.at)


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


def must_hold(told: Sequence[Retraining]) -> str:
    """Why the job would have been put on hold: as of its runs, training again did not cure it. Pure."""
    kept = 0
    for one in told:
        kept = kept + runs.cures(one.reasons) if one.outcome == "kept" else 0
    return runs.no_cure(runs.Job(kept=kept))
