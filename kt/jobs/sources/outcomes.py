"""What a predictor was asked and what came of it: requests that kt.toml has kept, with the outcomes told of them.

    [store]
    log_inputs = 1.0                        # of all units
    log_fields = ["items", "answers"]       # of a request

    [[jobs.nightly.data]]
    name = "outcomes"

A sample is an outcome, new where it was told since. Units go by their pseudonyms; the newest are those of
whom something was told last for the first time. One of whom nothing is kept any more (store.log_days) is
new again when it comes back.

A line has the time at which it came, and one by which a unit's lines stand in the order in which it was asked,
whatever was told first. With `until` the file is what it was then, as long as its requests are kept: what a
version has learnt from is made anew to reproduce it; where some are gone, that is said.
"""

import csv
import math
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import AwareDatetime, BaseModel

from kt import clock, plugins
from kt.errors import Invalid
from kt.registry import record
from kt.store import connect
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.store.database import Store
    from kt.store.requests import Told

PSEUDONYMS = True  # are the units
FORM = ("Signature", "SAMPLE", "NEEDS", "sample")


class Line(NamedTuple):
    """A line of data. time: its place, not before that of its unit's line above. came: when it was known.
    cells: the unit, and what the form makes of an outcome."""

    time: int
    came: int
    cells: tuple[str, ...]


class Settings(BaseModel, extra="forbid"):
    model: str  # whose requests; those of the job's own model without
    until: AwareDatetime | None = None  # only what was told by then; all without


def collect(workspace: Workspace, settings: Settings, folder: Path) -> list[Path]:
    """A file of what was told, in the form of the model's family. Raises Invalid where there is nothing."""
    from kt.store import requests

    store = opened(workspace, settings)
    until = (settings.until or clock.now()).timestamp()
    teacher = Teacher(workspace, settings.model)
    units: dict[str, list[Line]] = {}
    for one in requests.outcomes(store, settings.model, until) if store else ():
        teacher.teach(units, one)
    if not units:
        raise teacher.refusal()
    path = folder / "outcomes.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("time", "came", *teacher.columns))
        lines = sorted(chain.from_iterable(units.values()), key=lambda line: line.time)
        out.writerows((line.time, line.came, *line.cells) for line in lines)
    return [path]


def count(workspace: Workspace, settings: Settings) -> int:
    return new(workspace, settings, 0, None)


def new(workspace: Workspace, settings: Settings, before: int, since: datetime | None) -> int:
    from kt.store import requests

    store = opened(workspace, settings)
    after = since.timestamp() if since else -1.0
    until = settings.until.timestamp() if settings.until else math.inf
    return requests.count(store, settings.model, after, until) if store else 0


def refuse_expired(workspace: Workspace, settings: Settings, learnt: int) -> None:
    """Raises Invalid where not all are kept any more that a run has `learnt` from."""
    gone = learnt - count(workspace, settings)
    if gone <= 0:
        return
    days = workspace.settings.store.log_days
    first = clock.now() - timedelta(days=days)
    raise Invalid(
        f"{gone:,} of the {learnt:,} outcomes that it learnt from are gone: requests of before"
        f" {first:%Y-%m-%d} are not kept any more ([store] log_days = {days:g}), nor those of whom"
        " kt privacy erased",
        where=f"requests to {settings.model}",
        do="bring back the tables of then from a copy, or give the file of then: --data outcomes.csv;"
        " of what is trained from now on more is kept with a larger log_days",
    )


def opened(workspace: Workspace, settings: Settings) -> "Store | None":
    """The tables, if there are any yet. Raises Invalid where kt.toml keeps nothing to learn from."""
    share, fields = workspace.settings.log_of(settings.model)
    if not share or not fields:
        raise Invalid(
            f"no request to {settings.model} is kept to learn from",
            where="kt.toml",
            do=f"keep them: [models.{settings.model}] log_inputs = 1.0, log_fields = [...]",
        )
    return connect.peek(workspace.root, workspace.settings)


class Teacher:
    """Makes lines of data of outcomes, as the form of whichever version answered says."""

    def __init__(self, workspace: Workspace, model: str) -> None:
        self.workspace, self.model = workspace, model
        self._versions: dict[str, tuple[Any, Any]] = {}  # form and signature
        self._lacking: set[str] = set()

    @property
    def columns(self) -> tuple[str, ...]:
        form, _ = next(iter(self._versions.values()))
        columns: tuple[str, ...] = form.SAMPLE
        return columns

    def teach(self, units: dict[str, list[Line]], told: "Told") -> None:
        """Add what an outcome teaches to the lines of its unit."""
        form, signature = self.version(told.version)
        if lacking := [field for field in form.NEEDS if field not in told.request]:
            self._lacking.update(lacking)
            return
        unit = (told.unit or told.id).hex()
        lines = units.setdefault(unit, [])
        before = form.past(told.request) if not lines and hasattr(form, "past") else []
        now = form.sample(told.request, told.place, told.outcome, signature)
        time = max(told.told, lines[-1].time if lines else 0)
        lines += [Line(time, told.told, (unit, *rest)) for rest in (*before, now)]

    def version(self, name: str) -> tuple[Any, Any]:
        """Raises Invalid, also where outcomes teach nothing to this form."""
        if name not in self._versions:
            spec = record.read(self.workspace, self.model, name).spec
            form = plugins.load("models", spec.form, self.workspace.root, FORM)
            self._versions[name] = form, form.Signature.model_validate(spec.signature)
        return self._versions[name]

    def refusal(self) -> Invalid:
        if self._lacking:
            fields = ", ".join(f'"{field}"' for field in sorted(self._lacking))
            return Invalid(
                f"no request to {self.model} was kept with what is learnt from",
                where="kt.toml",
                do=f"keep it from now on: [models.{self.model}] log_fields = [{fields}]",
            )
        return Invalid(
            f"no outcome was told of the requests to {self.model} that were kept",
            do="tell them: POST /feedback, or kt feedback",
        )
