"""What a predictor was asked and what came of it: requests that kt.toml has kept, with the outcomes told of them.

    [store]
    log_inputs = 1.0                        # of all units
    log_fields = ["items", "answers"]       # of a request

    [[jobs.nightly.data]]
    name = "outcomes"

A sample is an outcome, new where it was told since. Units go by their pseudonyms, in the order in which
they were first asked about, so that the newest are those whom nobody has learnt from. One that was away
for longer than requests are kept (store.log_days) counts as new again.
"""

import csv
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from kt import clock, plugins
from kt.errors import Invalid
from kt.registry import record
from kt.store import connect
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.store.database import Store
    from kt.store.requests import Told

FORM = ("Signature", "SAMPLE", "NEEDS", "sample")
Line = tuple[str, ...]


class Settings(BaseModel, extra="forbid"):
    model: str  # whose requests; those of the job's own model without


def collect(workspace: Workspace, settings: Settings, folder: Path) -> list[Path]:
    """A file of what was told by now, in the form of the model's family. Raises Invalid where there is nothing."""
    from kt.store import requests

    told = requests.outcomes(opened(workspace, settings), settings.model, clock.now().timestamp())
    teacher = Teacher(workspace, settings.model)
    units: dict[str, list[Line]] = {}
    for one in told:
        teacher.teach(units, one)
    if not units:
        raise teacher.refusal()
    path = folder / "outcomes.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(teacher.columns)
        for unit, lines in units.items():
            out.writerows((unit, *line) for line in lines)
    return [path]


def count(workspace: Workspace, settings: Settings) -> int:
    from kt.store import requests

    return requests.count(opened(workspace, settings), settings.model)


def new(workspace: Workspace, settings: Settings, before: int, since: datetime | None) -> int:
    from kt.store import requests

    told_after = since.timestamp() if since else -1.0
    return requests.count(opened(workspace, settings), settings.model, told_after)


def opened(workspace: Workspace, settings: Settings) -> "Store":
    """The tables. Raises Invalid where there are none, or nothing is kept in them."""
    store = connect.peek(workspace.root, workspace.settings)
    share, fields = workspace.settings.log_of(settings.model)
    if store is None or not share or not fields:
        raise Invalid(
            f"no request to {settings.model} is kept to learn from",
            where="kt.toml",
            do=f"keep them: [models.{settings.model}] log_inputs = 1.0, log_fields = [...];"
            " a predictor of this workspace writes them down",
        )
    return store


class Teacher:
    """Makes lines of data of outcomes, as the form of whichever version answered says."""

    def __init__(self, workspace: Workspace, model: str) -> None:
        self.workspace, self.model = workspace, model
        self._versions: dict[str, tuple[Any, Any]] = {}  # form and signature
        self._lacking: set[str] = set()

    @property
    def columns(self) -> Line:
        form, _ = next(iter(self._versions.values()))
        columns: Line = form.SAMPLE
        return columns

    def teach(self, units: dict[str, list[Line]], told: "Told") -> None:
        """Add what an outcome teaches to the lines of its unit."""
        form, signature = self.version(told.version)
        if lacking := [field for field in form.NEEDS if field not in told.request]:
            self._lacking.update(lacking)
            return
        unit = (told.unit or told.id).hex()
        lines = units.setdefault(unit, [])
        if not lines and hasattr(form, "past"):
            lines += form.past(told.request)
        lines.append(form.sample(told.request, told.place, told.outcome, signature))

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
