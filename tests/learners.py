"""Learners who meet an experiment, written into the tables as a predictor and its outcomes would: in milliseconds.

Each comes back with answers of its own difficulty and keeps the variant that the manifest gives it.
"""

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kt.deployments import audit, courses, manifest
from kt.deployments.courses import Course
from kt.monitors.evidence import minute
from kt.stats.moments import Moments
from kt.store import buckets, connect, labels
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.streams import Stream
from kt.store.traffic import Batch, Traffic, append
from kt.workspace import Workspace


def course(place: Workspace, name: str = "x") -> Course:
    found = courses.of(audit.read(place)[0].events, name)
    assert found is not None
    return found


@dataclass
class World:
    """right: the chance of a right answer, in control and treatment. spread: of learners around it."""

    place: Workspace
    right: tuple[float, float] = (0.8, 0.8)
    spread: float = 0.1
    bad: tuple[float, float] = (0.0, 0.0)
    slow: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0  # of the treatment's requests, nobody hears
    named: bool = True  # whether requests say whose they are
    seed: int = 0
    number: int = 0
    drawn: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = random.Random(self.seed)

    @property
    def store(self) -> Store:
        return connect.open(self.place.root, self.place.settings)

    def meet(
        self,
        at: datetime,
        learners: int,
        each: int = 5,
        name: str = "x",
        within: timedelta = timedelta(hours=1),
    ) -> None:
        """Some of a thousand learners ask, so shortly before `at`, and their outcomes come."""
        running = course(self.place, name)
        _, state = audit.read(self.place)
        route = manifest.route(state.serving(running.model))
        assert route.experiment is not None
        traffic: dict[tuple[int, int], Traffic] = defaultdict(Traffic)
        units: dict[int, set[bytes]] = defaultdict(set)
        told: dict[tuple[int, int], Labels] = defaultdict(Labels)
        right: dict[tuple[int, str, int, int], Moments] = defaultdict(Moments)
        streams = {}
        for _ in range(learners):
            who = str(self.drawn.randrange(1000))
            treated = manifest.treatment_for(route.experiment, manifest.fraction(name, who))
            stream = Stream(
                running.model,
                treated.version if treated else running.control,
                "treatment" if treated else "control",
                name,
                route.seq,
                running.now.seq,
                running.now.share if treated else 100 - running.now.share,
                "probability",
            )
            streams[stream.id] = stream
            hashed = hashlib.sha256(who.encode()).digest()
            skill = random.Random(who).uniform(-self.spread, self.spread)
            side = 1 if treated else 0
            for _ in range(each):
                if treated and self.drawn.random() < self.lost:
                    continue
                then = minute(at - timedelta(seconds=self.drawn.uniform(0, within.total_seconds())))
                seen = traffic[stream.id, then]
                seen.assigned += 1
                if self.named:
                    units[stream.id].add(hashed[:8])
                if self.drawn.random() < self.bad[side]:
                    seen.failed += 1
                    continue
                seen.served += 1
                seen.over_alert += self.drawn.random() < self.slow[side]
                was = float(self.drawn.random() < self.right[side] + skill)
                right[stream.id, buckets.RIGHT, hashed[8] >> 1, then // 1440].add(was)
                told[stream.id, then].n += 1
                told[stream.id, then].right += int(was)
        self.number += 1
        batch = Batch(streams=streams, traffic=dict(traffic), units=dict(units))
        store = self.store
        append(store, "learners", self.number, batch, minute(at))
        with store.write() as connection:
            buckets.add(connection, right)
            labels.add(connection, told)
