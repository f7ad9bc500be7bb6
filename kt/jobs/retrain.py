"""kt retrain: is it due, train, compare, gate, register or deploy; each turn written down with its reasons.

lock of the job      kernel lock, so that two daemons, a cron line and a person train once
run that was cut     written down as interrupted: its process is gone, its lock is free
experiment           of an earlier run: promoted or ended where it is time, and written down how it ended
facts -> due?        no: nothing but jobs/last_check.json is written
journal: started     the workspace's lock is held for this write and for those at the end alone
train, compare       in processes of their own
gates, register, deploy
journal: finished    kept, registered or deployed
alert                opened where the job is on hold or fails again and again, ended where it does not
"""

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from kt import change, files
from kt.change import staging
from kt.config import Job
from kt.deployments import audit, courses, deploy
from kt.deployments.events import Canary
from kt.deployments.history import State
from kt.deployments.plan import Stamp
from kt.errors import Invalid, KtError, Refused
from kt.jobs import alarm, book, drifted, runs, watch
from kt.jobs.decide import Due, Pace, decide
from kt.jobs.runs import LAST_CHECK, Comparison, Failed, Finished, Held, Learnt, Settled, Started
from kt.jobs.training import Failure, Training, digest
from kt.registry import door, gate, record, register
from kt.workspace import Workspace

LOGS = "runs"  # in .kt/: what each training told
KEPT_LOGS = 50
Tell = Callable[[str, str], None]


class Trainer(Protocol):
    """What trains and compares: `Training`, in processes of their own."""

    @property
    def out(self) -> Path: ...
    @property
    def log(self) -> Path: ...
    def train(self) -> dict[str, Any]: ...
    def compare(self, active: Sequence[str]) -> dict[str, Any]: ...


Make = Callable[[Workspace, str, Job, str, str, Sequence[Path], Path, Path], Trainer]
Admit = Callable[
    [Workspace, register.Request, Mapping[str, str], Tell],
    AbstractContextManager[register.Prepared],
]


@dataclass(frozen=True)
class Asked:
    """A job, and how it is to be run. deploy: whether a better candidate gets traffic. by, reason: who
    asks, and why. make, admit: what trains, and what lets the candidate into the registry."""

    workspace: Workspace
    name: str
    job: Job
    by: str
    now: Callable[[], datetime]
    reason: str = ""
    force: bool = False
    deploy: bool = False
    make: Make = Training
    admit: Admit = door.prepared

    @property
    def model(self) -> str:
        return self.job.model or self.name

    @property
    def at(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Done:
    """What came of a job. run: its number; ended: the event that ended it. Neither where it was not due."""

    due: Due
    run: int = 0
    ended: Finished | Failed | None = None
    held: str = ""


def check(asked: Asked) -> Due:
    """Whether the job is due. Writes when it was looked at, and nothing else."""
    with alone(asked) as holder:
        due = look(asked, holder)
    remember(asked, due)
    return due


def retrain(asked: Asked, tell: Tell) -> Done:
    """Run the job if it is due. Raises Invalid for a job that cannot run; a training that fails is an answer."""
    with alone(asked) as holder:
        if not holder:
            sweep(asked)
            settled(asked, tell)
            alarmed(asked, tell)
            drift(asked, tell)
        due = look(asked, holder)
        remember(asked, due)
        if not due.yes:
            return Done(due)
        tell("due", "; ".join(due.reasons.values()))
        done = run(asked, due, tell)
        alarmed(asked, tell)
        return done


def look(asked: Asked, holder: str) -> Due:
    _, state = book.read(asked.workspace)
    job = asked.job
    found = watch.facts(
        asked.workspace, asked.name, job, state.job(asked.name), holder, asked.now()
    )
    pace = Pace(cooldown=job.cooldown, backoff=job.backoff)
    asks = watch.triggers(asked.workspace, asked.name, job)
    return decide(found, asks, pace, force=asked.force)


@contextlib.contextmanager
def alone(asked: Asked) -> Iterator[str]:
    """Hold the job's lock for the block; or who holds it, where it is held."""
    path = asked.workspace.local / f"retrain-{asked.name}.lock"
    with change.holding(path, f"process {os.getpid()}, since {asked.at}") as holder:
        yield holder


def sweep(asked: Asked) -> None:
    """Write down the end of a run whose process is gone; what it had made already is what came of it.
    Under the job's lock."""

    def ended(journal: Any, state: runs.State) -> list[runs.AnyEvent]:
        cut = state.job(asked.name).open
        if cut is None:
            return []
        fields = common(asked, journal, "its process ended before it could tell how")
        if found := made(asked, cut.number):
            return [Finished(**fields, run=cut.number, **found)]
        return [Failed(**fields, run=cut.number, how="interrupted")]

    _, state = book.read(asked.workspace)
    if state.job(asked.name).open:
        book.write(asked.workspace, ended)


def made(asked: Asked, number: int) -> dict[str, Any]:
    """What a run has brought into the registry or into traffic; nothing where it had not come so far."""
    history, serving = audit.read(asked.workspace)
    if tried := courses.of(history.events, trial(asked, number)):
        return {"outcome": "deployed", "version": tried.treatment, "experiment": tried.name}
    for version in reversed(record.versions(asked.workspace, asked.model)):
        if record.read(asked.workspace, asked.model, version).reason == title(asked, number):
            active = serving.serving(asked.model).active
            first = active is not None and active.version == version
            return {"outcome": "deployed" if first else "registered", "version": version}
    return {}


def title(asked: Asked, number: int) -> str:
    """What a run gives as the reason of what it does."""
    return f"run {number} of job {asked.name}"


def trial(asked: Asked, number: int) -> str:
    """The name of a run's experiment."""
    return f"{asked.name}-{number}"


def settled(asked: Asked, tell: Tell) -> None:
    """Promote or end the job's experiment, where the job says so and its verdict is in; write down how it
    ended, whoever ended it."""
    job = book.read(asked.workspace)[1].job(asked.name)
    if job.trial is None:
        return
    from kt.jobs import settle

    if asked.job.auto_promote:
        said = settle.settle(asked.workspace, job, asked.by, asked.now())
        if said:
            tell("settled", said)
    if ended := settle.over(asked.workspace, job.trial):
        how, why = ended
        more = {"reason": why, "run": job.trial.number, "how": how}
        append(asked, lambda common: Settled.model_validate(common | more))


def alarmed(asked: Asked, tell: Tell) -> None:
    """Bring the job's alert in line with how it stands. The next look does it where it cannot be done now."""
    job = book.read(asked.workspace)[1].job(asked.name)
    try:
        alarm.agree(asked.workspace, asked.name, asked.model, job, Stamp(asked.by, asked.at, ""))
    except KtError as error:
        tell("alert", f"it is not written yet: {error}")


def drift(asked: Asked, tell: Tell) -> None:
    """Look for items that have drifted, where the job asks for it and it is time."""
    workspace = asked.workspace
    every = watch.hours_between_looks(workspace, asked.name, asked.job)
    if every is None:
        return
    job = book.read(workspace)[1].job(asked.name)
    active = audit.read(workspace)[1].serving(asked.model).active
    if active is None or job.held:
        return
    learnt = drifted.learnt(job, active.version)
    sources = watch.sources(workspace, asked.name, asked.job)
    counts = [one.count() for one in sources]
    if len(learnt) != len(counts) or sum(counts) <= sum(learnt):
        return
    look = drifted.Look(asked.at, active.version, sum(counts))
    before = drifted.last(workspace, asked.name)
    if not before.is_due(active.version, look.samples, asked.now(), every):
        return
    tell("drift", f"of items, since {asked.model}@{active.version} was trained")
    log = log_of(workspace, f"drift-{asked.name}")
    room_for_log(workspace)
    files.discard(log)
    with staging(workspace) as folder:
        given = watch.collect(sources, folder / "data")
        parts = list(zip(given, learnt, strict=True))
        training = Training(workspace, asked.name, asked.job, asked.model, "", [], folder, log)
        try:
            found = training.drift((asked.model, active.version, active.sha256), parts)
            look = replace(look, judged=found["judged"], q=found["q"])
        except Failure as failure:
            look = replace(look, why=str(failure))
            tell("drift", f"nobody can tell: {failure}")
    drifted.remember(workspace, asked.name, look)


def run(asked: Asked, due: Due, tell: Tell) -> Done:
    """From the event that begins it to the one that ends it."""
    began = time.monotonic()
    workspace = asked.workspace
    with staging(workspace) as folder:
        sources = watch.sources(workspace, asked.name, asked.job)
        until = asked.at  # before anything is read: what comes meanwhile is new the next time
        paths = list(chain.from_iterable(watch.collect(sources, folder / "data")))
        learnt = Learnt(
            source=", ".join(one.name for one in asked.job.data),
            sha256=digest(paths),
            counts=[one.count() for one in sources],
            until=until,
        )
        room_for_log(workspace)
        number = start(asked, due, learnt)
        training = asked.make(
            workspace,
            asked.name,
            asked.job,
            asked.model,
            family_of(asked),
            paths,
            folder,
            log_of(workspace, number),
        )
        try:
            tell("training", f"run {number}; {training.log}")
            found = outcome(asked, training, number, tell)
            ended: Finished | Failed = found.model_copy(
                update={
                    "seconds": round(time.monotonic() - began, 1),
                    "made_with": versions(workspace),
                }
            )
        except Failure as failure:
            ended = failed(asked, number, failure.how, str(failure))
        except KtError as error:
            ended = failed(asked, number, "failed", str(error))
        except KeyboardInterrupt:
            finish(asked, failed(asked, number, "stopped", "it was told to stop"))
            raise
    held = finish(asked, ended)
    return Done(due, number, ended, held)


def start(asked: Asked, due: Due, learnt: Learnt) -> int:
    """The number of the run that begins now."""
    _, serving = audit.read(asked.workspace)
    active = serving.serving(asked.model).active

    def started(journal: Any, _: runs.State) -> list[runs.AnyEvent]:
        return [
            Started(
                **common(asked, journal, asked.reason),
                model=asked.model,
                reasons=due.reasons,
                data=learnt,
                seed=asked.job.seed,
                parent=active.version if active else "",
            )
        ]

    journal, _ = book.write(asked.workspace, started)
    return journal.seq


def outcome(asked: Asked, training: Trainer, number: int, tell: Tell) -> Finished:
    """Train, compare with what is active now, and give the candidate what it has earned. Raises Failure."""
    scores = training.train()
    _, state = audit.read(asked.workspace)
    active = state.serving(asked.model).active
    known = (asked.model, active.version, active.sha256) if active else ()
    compared = training.compare(known)
    common_fields = {
        **common(asked, None),
        "run": number,
        "scores": compared["scores"] or scores,
    }
    found = compared["comparison"]
    comparison = Comparison.model_validate(found) if found else None
    if comparison:
        tell("compared", sentence(comparison))
        if not better(comparison, asked.job.margin):
            why = f"the candidate is not better by {asked.job.margin:g} beyond chance: {sentence(comparison)}"
            return Finished(
                **{**common_fields, "reason": why}, outcome="kept", comparison=comparison
            )
    return adopted(asked, training, state, {**common_fields, "comparison": comparison}, tell)


def better(comparison: Comparison, margin: float) -> bool:
    """By the margin or more, and surely by more than nothing."""
    return comparison.gain >= margin and comparison.low > 0


def sentence(found: Comparison) -> str:
    return (
        f"{found.metric} {found.candidate:.4f} against {found.active:.4f} of the active version,"
        f" {found.gain:+.4f} (surely more than {found.low:+.4f}) on {found.units:,} held-out units"
    )


def adopted(
    asked: Asked, training: Trainer, state: State, fields: dict[str, Any], tell: Tell
) -> Finished:
    """Through the door and the gates into the registry, and where it was asked for into traffic. One that
    a gate refuses is kept out: to train the same again would not mend it."""
    workspace = asked.workspace
    request = register.Request(
        training.out,
        model=asked.model,
        by=asked.by,
        at=asked.at,
        reason=title(asked, fields["run"]),
    )
    active = {name: held.active.version for name, held in state.models.items() if held.active}
    try:
        with asked.admit(workspace, request, active, tell) as ready:
            return taken_in(asked, ready, state, fields)
    except gate.NotPassed as refusal:
        return Finished(**{**fields, "reason": refusal.what}, outcome="kept")


def taken_in(
    asked: Asked, ready: register.Prepared, state: State, fields: dict[str, Any]
) -> Finished:
    """What becomes of a candidate that passed the gates."""
    why_not = refused(asked, state)
    if asked.deploy and not why_not:
        done = give_traffic(asked, ready, state, int(fields["run"]))
        event = done.event or {}
        said = {"version": done.version, "experiment": str(event.get("experiment", ""))}
        return Finished(**{**fields, **said}, outcome="deployed")
    done = deploy.register(asked.workspace, ready, dry_run=False)
    fields = {**fields, "reason": why_not, "version": done.version}
    return Finished(**fields, outcome="registered")


def refused(asked: Asked, state: State) -> str:
    """Why a candidate that is better gets no traffic, or nothing."""
    running = state.serving(asked.model).experiment
    if not asked.deploy or asked.job.then == "register":
        return "registered only, as the job says" if asked.deploy else ""
    return f"experiment {running.name} is running" if running else ""


def give_traffic(asked: Asked, ready: register.Prepared, state: State, number: int) -> deploy.Done:
    """An experiment or a canary; all of it where the model serves nothing yet."""
    job = asked.job
    first = state.serving(asked.model).active is None
    canary = None if first or job.then != "canary" else Canary(steps=job.steps, every=job.every)
    share = None if first or canary else job.traffic
    stamp = Stamp(asked.by, asked.at, asked.reason or title(asked, number))
    return deploy.deploy(
        asked.workspace,
        ready,
        stamp,
        traffic=share,
        experiment="" if first else trial(asked, number),
        canary=canary,
        dry_run=False,
    )


def failed(asked: Asked, number: int, how: Any, why: str) -> Failed:
    return Failed(**common(asked, None, why), run=number, how=how)


def finish(asked: Asked, ended: Finished | Failed) -> str:
    """Write the end of a run. Returns why there is a hold now, if there is one."""
    return append(asked, lambda common: ended.model_copy(update=common | {"reason": ended.reason}))


def append(asked: Asked, event: Callable[[dict[str, Any]], runs.AnyEvent]) -> str:
    """Write an event, of its common fields; and a hold where training anew does not help. Returns why
    there is one."""
    held: list[str] = []

    def planned(journal: Any, state: runs.State) -> list[runs.AnyEvent]:
        last = event(common(asked, journal))
        after = runs.fold([last], state).job(asked.name)
        held[:] = [why] if not after.held and (why := runs.must_hold(after)) else []
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


def family_of(asked: Asked) -> str:
    """What is trained. Raises Invalid where nothing says so."""
    if asked.job.family or asked.job.command:
        return asked.job.family
    _, state = audit.read(asked.workspace)
    active = state.serving(asked.model).active
    if active is None:
        raise Invalid(
            "nothing says what it trains, and no version is active",
            where=f"jobs.{asked.name}.family",
            do="name a family, or a command of your own",
        )
    return record.read(asked.workspace, asked.model, active.version).spec.family


def log_of(workspace: Workspace, number: int | str) -> Path:
    """What a run tells, as it goes. On this machine alone."""
    return workspace.local / LOGS / f"{number}.log"


def room_for_log(workspace: Workspace) -> None:
    """A folder for logs; those of the oldest runs go."""
    folder = workspace.local / LOGS
    with files.named("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    old = sorted(
        (path for path in folder.glob("*.log") if path.stem.isdigit()),
        key=lambda one: int(one.stem),
    )
    for path in old[: 1 - KEPT_LOGS]:
        files.discard(path)


def versions(workspace: Workspace) -> dict[str, str]:
    """Of what a run's numbers rest on; commit: of the workspace, whose code may have trained."""
    import importlib.metadata

    from kt import __version__

    torch = importlib.metadata.version("torch")
    found = {"kt": __version__, "torch": torch, "python": platform.python_version()}
    commit = change.commit_of(workspace)
    return found | ({"commit": commit} if commit else {})


def remember(asked: Asked, due: Due) -> None:
    """That the job was looked at, so that a dead cron shows. A witness: where it cannot be written, so be it."""
    path = asked.workspace.root / LAST_CHECK
    known = checks(asked.workspace)
    known[asked.name] = {
        "at": asked.at,
        "due": due.yes,
        "reasons": due.reasons,
        "blocked": due.blocked,
    }
    with contextlib.suppress(KtError):
        files.write_whole(path, json.dumps(known, indent=1).encode() + b"\n")


def checks(workspace: Workspace) -> dict[str, Any]:
    """When each job was last looked at, and what was found; nothing where nobody has."""
    try:
        known = json.loads(files.read(workspace.root / LAST_CHECK))
    except (OSError, KtError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def named(workspace: Workspace, name: str, *, several: bool) -> list[tuple[str, Job]]:
    """The job of this name; without one all of them, or if not several the only one. Raises Invalid."""
    jobs = workspace.settings.jobs
    if not jobs:
        raise Invalid(
            "there are no jobs", where="kt.toml", do="write one: [jobs.NAME], see: kt config"
        )
    if not name and (several or len(jobs) == 1):
        return list(jobs.items())
    if name not in jobs:
        raise Invalid(
            f"there is no job {name[:64]}" if name else "there are several jobs",
            do=f"name one: {', '.join(jobs)}",
        )
    return [(name, jobs[name])]


def hold(asked: Asked, *, on: bool) -> None:
    """Stop triggers from starting a job, or let them again. Raises Refused where it is so already."""
    kind = Held if on else runs.Released

    def planned(journal: Any, state: runs.State) -> list[runs.AnyEvent]:
        if bool(state.job(asked.name).held) == on:
            said = "is on hold already" if on else "is not on hold"
            raise Refused(f"{asked.name} {said}", do="see: kt jobs")
        return [kind(**common(asked, journal, asked.reason))]

    book.write(asked.workspace, planned)
    alarmed(asked, lambda *_: None)
