"""A workspace left alone for weeks: learners ask, outcomes come, and kt's commands are called as the daemon
would call them, in this process, hour by hour of a clock that is an argument.

What decides, journals, deploys, watches and tells is kt's own. Stand-ins: who trains (a candidate knows
the world as it is at that hour) and the door (a version without torch).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import forge
import numpy as np

from kt import staging
from kt.config import Job
from kt.deployments import audit, manifest
from kt.deployments.history import Serving
from kt.jobs import book, retrain
from kt.jobs.asked import Asked
from kt.jobs.runs import Run
from kt.jobs.training import Failure
from kt.monitors import check, history
from kt.monitors.live import Live, live
from kt.registry import gate, record
from kt.registry.register import Prepared, Request
from kt.stats.moments import Moments
from kt.store import buckets, connect, labels
from kt.store.batch import Batch, Traffic
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.traffic import append
from kt.workspace import Workspace

START = datetime(2026, 1, 12, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = 24
LEARNERS, ASKED = 400, 80  # people, and how many requests they make an hour
WELL, ILL = 0.85, 0.62  # right answers, of a version that knows the world and of one that does not
BETTER = 0.95
EVENT = 3 * DAY  # when something happens, in hours
LATER = 6 * DAY
FAST, SLOW = 5.0, 300.0  # milliseconds
SETTINGS = """
git = "off"
[monitor]
interval = {fast}
slow_interval = {slow}
[[sink]]
name = "file"
path = "told.jsonl"
[jobs.nightly]
model = "m"
command = ["stand-in"]
traffic = 20.0
auto_promote = true
[[jobs.nightly.data]]
name = "files"
paths = ["answers.csv"]
"""


@dataclass(frozen=True)
class Ran:
    """A run as the journal tells it. at: hours since the start; None where that is not fixed."""

    at: int | None
    why: str
    outcome: str


@dataclass(frozen=True)
class Situation:
    """What happens in the world, by the hour, and how that must end.

    samples: that come in an hour. right: the share of right answers of a version born at an hour, at an
    hour. slow: of a candidate's answers. crashes, refused: whether a training at an hour does, whether the
    latency gate lets its candidate through.
    hourly: whether the job is looked at each hour. runs, alerts (in order), active, held: what the journals
    must say. days: after which it has come to its end.
    """

    name: str
    runs: Sequence[Ran]
    active: str
    alerts: Sequence[str] = ()
    held: bool = False
    days: int = 8
    hourly: bool = False
    samples: Mapping[int, int] = field(default_factory=dict)
    right: Callable[[int, int], float] = lambda born, hour: WELL
    slow: float = 0.0
    crashes: Callable[[int], bool] = lambda hour: False
    refused: Callable[[int], bool] = lambda hour: False


def drifted(born: int, hour: int) -> float:
    """The world changes, and what was learnt before is of little use from then on."""
    return ILL if born < EVENT <= hour else WELL


def for_good(born: int, hour: int) -> float:
    return ILL if hour >= EVENT else WELL


def improved(born: int, hour: int) -> float:
    return BETTER if born else WELL


FIRST = Ran(0, "age samples", "deployed")
BACKOFF = [EVENT + hours for hours in (0, 1, 3, 7, 15, 31, 55, 79)]  # 1 h, 2, 4, 8, 16, 24, 24
SITUATIONS = (
    Situation("nothing happens", [FIRST], "v1", days=3),
    Situation(
        "7 days pass",
        [FIRST, *(Ran(day * DAY, "age", "kept") for day in (7, 14, 21, 28))],
        "v1",
        samples={day * DAY: 10 for day in range(1, 30)},
    ),
    Situation(
        "150 samples",
        [FIRST, Ran(EVENT, "samples", "promoted")],
        "v2",
        days=5,
        samples={EVENT: 150},
        right=improved,
    ),
    Situation(
        "a drift that retraining cures",
        [FIRST, Ran(None, "alert", "promoted")],
        "v2",
        alerts=["accuracy opened", "accuracy superseded"],
        days=6,
        right=drifted,
    ),
    Situation(
        "a drift that it does not cure",
        [FIRST, Ran(None, "alert", "kept"), Ran(None, "alert", "kept")],
        "v1",
        alerts=["accuracy opened", "retraining_nightly opened"],
        held=True,
        days=6,
        right=for_good,
    ),
    Situation(
        "a training that crashes",
        [
            FIRST,
            *(Ran(at, "samples", "failed") for at in BACKOFF[:-1]),
            Ran(BACKOFF[-1], "samples", "kept"),
        ],
        "v1",
        alerts=["retraining_nightly opened", "retraining_nightly resolved"],
        days=7,
        hourly=True,
        samples={EVENT: 150},
        crashes=lambda hour: 0 < hour < BACKOFF[-1],
    ),
    Situation(
        "a better model that is slow",
        [FIRST, Ran(EVENT, "samples", "aborted"), Ran(LATER, "samples", "kept")],
        "v1",
        alerts=["guardrail opened", "guardrail superseded"],
        days=7,
        samples={EVENT: 150, LATER: 150},
        right=improved,
        slow=0.6,
        refused=lambda hour: hour >= LATER,
    ),
)


@dataclass
class Found:
    """What the journals say at the end."""

    runs: list[Ran]
    alerts: list[str]
    active: str
    held: str
    told: list[str]  # what the sink heard
    lines: list[str]  # every event of the three journals, in the order of time

    def differs(self, situation: Situation, hours: int) -> list[str]:
        """Where it did not end as it must after so long."""
        out = []
        due = [must for must in situation.runs if must.at is None or must.at <= hours]
        if len(self.runs) != len(due) or any(
            (found.why, found.outcome) != (must.why, must.outcome)
            or must.at not in (None, found.at)
            for found, must in zip(self.runs, due, strict=False)
        ):
            out.append(f"runs: {self.runs}")
        if self.alerts != list(situation.alerts):
            out.append(f"alerts: {self.alerts}")
        if (self.active, bool(self.held)) != (situation.active, situation.held):
            out.append(f"active: {self.active}, hold: {self.held!r}")
        heard = {text.split()[0] for text in self.alerts}
        if any(not any(metric.replace("_", " ") in one for one in self.told) for metric in heard):
            out.append(f"told: {self.told}")
        return out


class LeftAlone:
    """A workspace, and the world around it. step: hours between two looks of the daemon."""

    def __init__(self, root: Path, situation: Situation, step: int = 1) -> None:
        self.situation, self.step, self.hour = situation, step, 0
        made = forge.workspace(root)
        text = SETTINGS.format(fast=3_600.0, slow=step * 3_600.0)
        (made.root / "kt.toml").write_text(text)
        self.place = Workspace(made.root)
        self.answers = made.root / "answers.csv"
        self.answers.write_text("student_id,item,response\n" + "s,1,1\n" * 400)
        self.draw = np.random.default_rng(1)
        self.number = 0

    @property
    def now(self) -> datetime:
        return START + self.hour * HOUR

    @cached_property
    def store(self) -> Store:
        return connect.open(self.place.root, self.place.settings)

    def live_through(self, hours: int) -> Found:
        """So long, with a look each `step`; what the journals say then."""
        asked = Asked(
            self.place,
            "nightly",
            self.place.settings.jobs["nightly"],
            "kt",
            lambda: self.now,
            deploy=True,
            make=lambda *given: StandIn(self, *given),
            admit=self.admit,
        )
        while self.hour <= hours:
            self.learn()
            if self.hour % self.step == 0:
                self.ask()
                check.check(self.place, self.now)
            if self.situation.hourly or self.hour % self.step == 0:
                retrain.retrain(asked, lambda *_: None)
            self.hour += 1
        return self.found()

    def learn(self) -> None:
        """The samples that have come in this hour."""
        with self.answers.open("a") as file:
            file.write("s,1,1\n" * self.situation.samples.get(self.hour, 0))

    # Learners

    @cached_property
    def hashes(self) -> list[bytes]:
        return [hashlib.sha256(str(who).encode()).digest() for who in range(LEARNERS)]

    def ask(self) -> None:
        """The requests since the last look, in two minutes of each hour; their outcomes come at once."""
        _, state = audit.read(self.place)
        serving = state.serving("m")
        if serving.active is None:
            return
        who = self.draw.integers(0, LEARNERS, ASKED * self.step)
        treated = self.fractions(serving)[who] < (
            serving.experiment.traffic / 100 if serving.experiment else 0
        )
        batch, last = Batch(), int(self.now.timestamp()) // 60 - 1
        told: dict[tuple[int, int], Labels] = {}
        moments: dict[tuple[int, str, int, int], Moments] = {}
        minutes = last - 30 * (np.arange(len(who)) % (2 * self.step))
        for each in live(state):
            ours = treated == (each.slot == "treatment")
            for minute in np.unique(minutes[ours]).tolist():
                asked = who[ours & (minutes == minute)]
                self.answer(each, asked, minute, batch, told, moments)
        self.number += 1
        append(self.store, "learners", self.number, batch, last + 1)
        with self.store.write() as connection:
            labels.add(connection, told)
            buckets.add(connection, moments)

    def fractions(self, serving: Serving) -> np.ndarray:
        """(LEARNERS,) where each lies in [0, 1) of the experiment that runs."""
        if serving.experiment is None:
            return np.ones(LEARNERS)
        name = serving.experiment.name
        return np.array([manifest.fraction(name, str(who)) for who in range(LEARNERS)])

    def answer(
        self,
        each: Live,
        asked: np.ndarray,
        minute: int,
        batch: Batch,
        told: dict[tuple[int, int], Labels],
        moments: dict[tuple[int, str, int, int], Moments],
    ) -> None:
        stream, n = each.stream, len(asked)
        born = int(record.read(self.place, "m", stream.version).scores["born"])
        right = self.draw.random(n) < self.situation.right(born, self.hour)
        slow = int(self.draw.binomial(n, self.situation.slow)) if born else 0
        seen = Traffic(assigned=n, served=n, over_alert=slow, over_limit=slow)
        for place in range(n):
            seen.latency.add(SLOW if place < slow else FAST)
        batch.streams[stream.id] = stream
        batch.traffic[stream.id, minute] = seen
        batch.units[stream.id] = {self.hashes[who][:8] for who in asked}
        told[stream.id, minute] = Labels(n, int(right.sum()))
        if stream.variant:
            for who, was in zip(asked, right, strict=True):
                key = stream.id, buckets.RIGHT, self.hashes[who][8] >> 1, minute // 1440
                moments.setdefault(key, Moments()).add(float(was))

    # The door

    @contextmanager
    def admit(
        self, workspace: Workspace, request: Request, active: Mapping[str, str], tell: Any
    ) -> Iterator[Prepared]:
        if self.situation.refused(self.hour):
            raise gate.NotPassed("candidate.pt does not pass: latency: p95 300 ms (bound 100)")
        with staging.staging(workspace) as folder:
            staged = folder / "version"
            staged.mkdir()
            draft = forge.draft(staged, "m", f"born {self.hour}")
            marks = {"version": "", "scores": {"born": self.hour}, "parent": active.get("m")}
            ready = draft.model_copy(update=marks)
            yield Prepared("m", "", "", active.get("m"), forced=False, draft=ready, staged=staged)

    # What came of it

    def found(self) -> Found:
        _, state = book.read(self.place)
        alerts, _ = history.read(self.place)
        told = self.place.root / "told.jsonl"
        serving = audit.read(self.place)[1].serving("m")
        job = state.job("nightly")
        return Found(
            runs=[self.ran(run) for run in job.runs],
            alerts=[f"{one['metric']} {one['kind']}" for one in alerts.events],
            active=serving.active.version if serving.active else "",
            held=job.held,
            told=[json.loads(line)["title"] for line in told.read_text().splitlines()]
            if told.exists()
            else [],
            lines=self.lines(),
        )

    def ran(self, run: Run) -> Ran:
        began = datetime.fromisoformat(run.started.at)
        return Ran(int((began - START) / HOUR), " ".join(run.started.reasons), run.outcome)

    def lines(self) -> list[str]:
        from kt.deployments import events as deployed
        from kt.jobs import runs
        from kt.monitors import events as told

        books = (
            (audit.read(self.place)[0], deployed.describe),
            (history.read(self.place)[0], told.describe),
            (book.read(self.place)[0], runs.describe),
        )
        found = [
            (one["at"], place, f"{describe(one)}{f': {why}' if (why := one['reason']) else ''}")
            for place, (journal, describe) in enumerate(books)
            for one in journal.events
        ]
        return [f"{when(at)}  {text}" for at, _, text in sorted(found, key=lambda one: one[:2])]


def when(at: str) -> str:
    hours = int((datetime.fromisoformat(at) - START) / HOUR)
    return f"day {hours // DAY:2} {hours % DAY:2} h"


@dataclass(frozen=True)
class StandIn:
    """Trains in no time. A candidate is as good as the world lets a version be that is born now."""

    world: LeftAlone
    workspace: Workspace
    name: str
    job: Job
    model: str
    family: str
    paths: Sequence[Path]
    folder: Path
    log: Path

    @property
    def out(self) -> Path:
        return self.folder / "candidate.pt"

    def train(self) -> dict[str, Any]:
        if self.world.situation.crashes(self.world.hour):
            raise Failure("failed", "exit 1: no such table: answers")
        return {"accuracy": self.good(self.world.hour)}

    def compare(self, active: Sequence[str]) -> dict[str, Any]:
        candidate = self.good(self.world.hour)
        found: dict[str, Any] = {"scores": {"accuracy": candidate}, "comparison": None}
        if not active:
            return found
        before = self.good(int(record.read(self.workspace, "m", active[1]).scores["born"]))
        gain = candidate - before
        return found | {
            "comparison": {
                "metric": "accuracy",
                "candidate": candidate,
                "active": before,
                "gain": gain,
                "low": gain - 0.01,
                "units": 80,
            }
        }

    def good(self, born: int) -> float:
        return self.world.situation.right(born, self.world.hour)
