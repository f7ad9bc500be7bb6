"""kt mastery update: how well every student masters each skill, as the active version of a model sees it now.

due       never measured or not to the end, older than `every`, another version active, or another file of skills
measure   students some at a time, those with like many answers together (models/answers.py, students/mastery.py)
write     all rows of some students in one transaction; who is gone from the data goes last (store/students.py)

One measures at a time on a machine. What is killed is due again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kt import locks
from kt.config import Mastery
from kt.deployments import audit
from kt.deployments.history import Held
from kt.errors import Invalid, Refused, Unavailable
from kt.jobs import watch
from kt.jobs.asked import Tell, iso
from kt.registry import load
from kt.registry.load import Loaded
from kt.staging import staging
from kt.store import connect, secret, students
from kt.store.database import Store
from kt.store.pseudonym import SIZE, Pseudonyms
from kt.store.students import Row, Run
from kt.students import mastery, skills
from kt.students.mastery import Skill
from kt.workspace import Workspace

AT_ONCE = 256  # students, whose rows are one transaction
Moved = Callable[[int], None]  # so many students more


@dataclass(frozen=True)
class Asked:
    """A [mastery.NAME] of kt.toml. force: also where it is not due."""

    workspace: Workspace
    name: str
    how: Mastery
    now: Callable[[], datetime]
    force: bool = False

    @property
    def model(self) -> str:
        return self.how.model or self.name

    @property
    def table(self) -> str:
        return f"mastery.{self.name}"

    @property
    def skills(self) -> Path | None:
        """The file of them; None where the data say."""
        return self.workspace.root / self.how.skills if self.how.skills else None


class Given(NamedTuple):
    """What is measured with: the active version, the answers, and the measure that fits both.

    unknown: skills of which the version knows no item. missing: how many items of skills it does not know.
    """

    version: str
    loaded: Loaded
    data: Any
    measure: mastery.Measure
    unknown: list[str]
    missing: int


class Done(NamedTuple):
    """why: it was due; empty where it was not, and nothing was done. given: nothing where it was not looked at."""

    asked: Asked
    why: str
    given: Given | None = None
    measured: Run | None = None


def update(
    asked: Asked,
    tell: Tell,
    counting: Callable[[int], AbstractContextManager[Moved]],
    *,
    dry_run: bool = False,
) -> Done:
    """Measure what is due. counting: is told how many students there are, and then as they come.

    Raises Refused where no version is active or the tables are switched off, Invalid where the settings, the
    skills, the data or the family do not allow it, Unavailable where another process measures.
    """
    with alone(asked):
        root, settings = asked.workspace.root, asked.workspace.settings
        active = active_of(asked)
        digest, now = skills.digest(asked.skills) if asked.skills else "", asked.now()
        there = connect.peek(root, settings)
        before = students.last(there, asked.name) if there else None
        why = "asked for" if asked.force else due(before, asked, active.version, digest, now)
        if not why:
            return Done(asked, "")
        tell("due", why)
        with staging(asked.workspace) as folder:
            sources = watch.named(
                asked.workspace, asked.table, asked.how.data, asked.model, iso(now)
            )
            hides = refuse_both(asked, sources)
            paths = list(chain.from_iterable(watch.collect(sources, folder / "data")))
            given = prepared(asked, active, paths)
        tell("students", f"{len(given.data.students):,}, {len(given.measure.items):,} items asked")
        if dry_run:
            return Done(asked, why, given)
        unit_of = hidden if hides else Pseudonyms(secret.ensure(root, now)).labelled
        store = connect.open(root, settings)
        one = Run(asked.name, asked.model, active.version, digest, at=int(now.timestamp()))
        one = students.begin(store, one)
        with counting(len(given.data.students)) as moved:
            written = sum(measured(store, one, given, unit_of, moved))
        ended = max(one.at, int(asked.now().timestamp()))
        one = replace(one, ended=ended, students=written)
        students.end(store, one)
        return Done(asked, why, given, one)


@contextmanager
def alone(asked: Asked) -> Iterator[None]:
    """Take turns with others of this machine."""
    path = asked.workspace.local / f"mastery-{asked.name}.lock"
    words = f"kt mastery update {asked.name}, since {iso(asked.now())}"
    with locks.holding(path, words, asked.workspace.settings.lock_wait) as holder:
        if holder:
            raise Unavailable(
                f"it is being measured: {holder}", do="wait for it to end: kt mastery"
            )
        yield


def due(before: Run | None, asked: Asked, version: str, skills: str, now: datetime) -> str:
    """Why it is time, as a clause; empty where it is not. skills: a digest."""
    if before is None:
        return "never measured"
    if not before.is_whole:
        return "the last run was cut off"
    if (before.model, before.version) != (asked.model, version):
        return f"{asked.model}@{version} is active"
    if before.skills != skills:
        return "the skills have changed"
    age = now - datetime.fromtimestamp(before.ended, now.tzinfo)
    if timedelta() <= age < timedelta(hours=asked.how.every):
        return ""
    return f"{age / timedelta(hours=1):.1f} h old (every {asked.how.every:g} h)"


def active_of(asked: Asked) -> Held:
    active = audit.read(asked.workspace)[1].serving(asked.model).active
    if active is None:
        raise Refused(
            f"no version of {asked.model} is active",
            where=f"kt.toml, {asked.table}",
            do="deploy one: kt deploy FILE; or name another model",
        )
    return active


def refuse_both(asked: Asked, sources: Sequence[watch.Source]) -> bool:
    """Whether the data know students by their pseudonyms alone.

    Raises Invalid where some sources do and others do not: one student would be two.
    """
    hide = {source.hides_units for source in sources}
    if len(hide) > 1:
        raise Invalid(
            "some of its data name students, others know only their pseudonyms",
            where=f"kt.toml, {asked.table}",
            do="measure by one kind of them",
        )
    return True in hide


def hidden(name: str) -> bytes:
    """Of outcomes: a request that named nobody stands under its own, shorter id."""
    unit = bytes.fromhex(name)
    return unit if len(unit) == 1 + SIZE else b""


def prepared(asked: Asked, active: Held, paths: Sequence[Path]) -> Given:
    """Raises Invalid where the version can tell nothing, or knows no item of any skill."""
    from kt.models import task
    from kt.models.family import is_trainable

    loaded = load.load(asked.workspace.root, asked.model, active.version, active.sha256)
    what = f"{asked.model}@{active.version}"
    room: Any = task.of(loaded.family) if is_trainable(loaded.family) else None
    if not hasattr(room, "standing"):
        raise Invalid(
            f"{what} predicts no answers of students to items",
            where=f"kt.toml, {asked.table}",
            do="name a model of knowledge tracing",
        )
    data = room.read(paths)
    found = skills.read(asked.skills) if asked.skills else skills.of(data)
    if not found:
        raise Invalid(
            "nothing says which items practise a skill",
            where=f"kt.toml, {asked.table}",
            do='name a file with the columns item,skill: skills = "skills.csv"',
        )
    signature: Any = loaded.signature
    known = mastery.skills(found, signature.items)
    if not known:
        raise Invalid(
            f"{what} knows no item of any of the {len(found):,} skills",
            where=str(asked.skills or data.source),
            do="name items as the data do that it was trained on",
        )
    measure = mastery.measure(known, data.names)
    unknown = sorted(found.keys() - {skill.name for skill in known})
    missing = len(set(chain.from_iterable(found.values()))) - len(measure.items)
    return Given(active.version, loaded, data, measure, unknown, missing)


def measured(
    store: Store, one: Run, given: Given, unit_of: Callable[[str], bytes], moved: Moved
) -> Iterator[int]:
    """How many students more have been written. Each model call is on one thread, so that it repeats."""
    from kt.models import task

    room: Any = task.of(given.loaded.family)
    data, measure = given.data, given.measure
    shown = [(skill, skill.digest) for skill in measure.skills]
    like_many = np.argsort(np.diff(data.offsets), kind="stable")
    for first in range(0, len(like_many), AT_ONCE):
        part = data.take(like_many[first : first + AT_ONCE])
        with load.one_thread():
            earned = room.standing(given.loaded.run, given.loaded.signature, part, measure.items)
        standings = measure.standings(earned, part.offsets, part.items, part.times)
        named = ((unit_of(name), told) for name, told in zip(part.students, standings, strict=True))
        rows = {unit: rows_of(one, unit, shown, told) for unit, told in named if unit}
        if rows:
            students.put(store, one.name, list(chain.from_iterable(rows.values())))
        moved(len(part.students))
        yield len(rows)


def rows_of(
    one: Run,
    unit: bytes,
    shown: Sequence[tuple[Skill, str]],
    told: Sequence[mastery.Standing],
) -> list[Row]:
    """One student's. shown: the skills with the digests of their items."""
    return [
        Row(
            unit,
            skill.name,
            one.version,
            standing.mastery,
            len(skill.asked),
            standing.answers,
            standing.last,
            one.at,
            digest,
        )
        for (skill, digest), standing in zip(shown, told, strict=True)
    ]
