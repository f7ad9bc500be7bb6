"""What is so for a job: gathered from the journals, the tables and the job's data. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from kt import plugins
from kt.config import Job, Plugin
from kt.deployments import audit
from kt.errors import Invalid
from kt.jobs import drifted, runs
from kt.jobs.decide import Trigger
from kt.jobs.facts import Drifted, Facts
from kt.monitors import history
from kt.monitors.events import Alerts
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.deployments.history import State

HOLDS = ("Settings", "collect", "count", "new")
QUALITY = ("accuracy", "auc", "brier", "mae", "ece")
UNTIL = "until"  # the setting of a source that knows when its samples came
SOURCES, TRIGGERS = "jobs.sources", "jobs.triggers"


@dataclass(frozen=True)
class Source:
    """Where samples of a job come from, with its settings."""

    workspace: Workspace
    module: ModuleType
    settings: BaseModel

    def collect(self, folder: Path) -> list[Path]:
        """The files, made in `folder` where they are not there already."""
        found: list[Path] = self.module.collect(self.workspace, self.settings, folder)
        return found

    def count(self) -> int:
        """Samples that there are."""
        return int(self.module.count(self.workspace, self.settings))

    @property
    def hides_units(self) -> bool:
        """Whether it names units by their labelled pseudonyms, in hexadecimal."""
        return bool(getattr(self.module, "PSEUDONYMS", False))

    @property
    def tells_time(self) -> bool:
        """Whether it knows when each of its samples came, and writes it down with them."""
        return UNTIL in type(self.settings).model_fields

    def refuse_expired(self, learnt: int) -> None:
        """Raises Invalid where it keeps samples for a time, and not all are there that were `learnt` from."""
        if hasattr(self.module, "refuse_expired"):
            self.module.refuse_expired(self.workspace, self.settings, learnt)

    def new(self, before: int, since: datetime | None) -> int:
        """Samples that have come since there were `before`, which was then."""
        return int(self.module.new(self.workspace, self.settings, before, since))


def sources(
    workspace: Workspace, name: str, job: Job, until: str | None = None
) -> Sequence[Source]:
    """Those of a job. Raises Invalid where there are none, or with settings that they have not.

    until: the last moment that is counted, for those that know when their samples came.
    """
    return named(workspace, f"jobs.{name}", job.data, job.model or name, until)


def named(
    workspace: Workspace, table: str, data: Sequence[Plugin], model: str, until: str | None = None
) -> Sequence[Source]:
    """Those that a table of kt.toml names, of a model's data. Raises as `sources`."""
    if not data:
        raise Invalid(
            "it has no data",
            where=table,
            do=f'say where they are: [[{table}.data]], name = "files", paths = ["answers"]',
        )
    found = []
    for plugin in data:
        module = plugins.load(SOURCES, plugin.name, workspace.root, HOLDS)
        known = settings(module, plugin, f"{table}.data {plugin.name}", model=model, until=until)
        found.append(Source(workspace, module, known))
    return found


def collect(sources: Sequence[Source], folder: Path) -> list[list[Path]]:
    """The files of each source; those that it makes lie in a folder of its own, in `folder`."""
    found = []
    for number, source in enumerate(sources):
        own = folder / str(number)
        own.mkdir(parents=True)
        found.append(source.collect(own))
    return found


def triggers(workspace: Workspace, name: str, job: Job) -> Sequence[tuple[str, Trigger, BaseModel]]:
    """Those of kt.toml, with their settings."""
    found = []
    for plugin in job.trigger:
        module: Any = plugins.load(TRIGGERS, plugin.name, workspace.root, ("Settings", "due"))
        where = f"jobs.{name}.trigger {plugin.name}"
        found.append((plugin.name, module, settings(module, plugin, where)))
    return found


def settings(module: Any, plugin: Plugin, where: str, **known: str | None) -> BaseModel:
    """A plugin's settings. known: what it need not be told, of the settings that it has."""
    given = {key: value for key, value in known.items() if key in module.Settings.model_fields}
    try:
        found: BaseModel = module.Settings.model_validate(given | plugin.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise Invalid(
            f"{key}: {first['msg']}",
            where=f"kt.toml, {where}",
            do="mend it in kt.toml; see: kt config jobs",
        ) from error
    return found


def facts(
    workspace: Workspace, name: str, job: Job, done: runs.Job, running: str, now: datetime
) -> Facts:
    """running: who trains now, as they say it."""
    learnt = done.success.started.data if done.success else None
    since = runs.time(learnt.until) if learnt else None
    asked = any(one.name == "calibration" for one in job.trigger)  # the tables are slow to open
    error = confidence(workspace, job.model or name, now) if asked else Confidence()
    return Facts(
        now=now,
        last_success=done.last_success,
        last_attempt=done.last_attempt,
        failures=done.failures,
        samples=sum(
            one.new(learnt.counts[place] if learnt and place < len(learnt.counts) else 0, since)
            for place, one in enumerate(sources(workspace, name, job))
        ),
        alerts=tuple(
            critical(history.read(workspace)[1], audit.read(workspace)[1], job.model or name)
        ),
        answered=answered(workspace, job.model or name, done.success),
        ece=error.ece,
        baseline_ece=error.baseline,
        labelled=error.outcomes,
        drifted=drifts(workspace, name, job),
        running=running,
        held=done.held,
    )


def hours_between_looks(workspace: Workspace, name: str, job: Job) -> float | None:
    """At the items of the active version; None where the job does not ask for it."""
    found = {which: settings for which, _, settings in triggers(workspace, name, job)}
    return getattr(found.get("item_drift"), "every", None)


def drifts(workspace: Workspace, name: str, job: Job) -> Drifted:
    """What the last look at the items of the active version has found, where the job asks for it."""
    if not any(one.name == "item_drift" for one in job.trigger):
        return Drifted()
    look = drifted.last(workspace, name)
    active = audit.read(workspace)[1].serving(job.model or name).active
    return look.found if active and active.version == look.version else Drifted()


def answered(workspace: Workspace, model: str, success: runs.Run | None) -> str:
    """The version that a run has made, while it is undecided whether it takes over."""
    ended = success.ended if success else None
    if success is None or not isinstance(ended, runs.Finished) or not ended.version:
        return ""
    serving = audit.read(workspace)[1].serving(model)
    if ended.outcome == "registered":
        active = serving.active
        waits = active is not None and active.version == success.started.parent
    else:
        trial = serving.experiment
        waits = trial is not None and trial.name == ended.experiment
    return ended.version if waits else ""


class Confidence(NamedTuple):
    """The calibration error of what answers now, over so many outcomes; and on held-out data before."""

    ece: float | None = None
    outcomes: int = 0
    baseline: float | None = None


def confidence(
    workspace: Workspace, model: str, now: datetime, then: "State | None" = None
) -> Confidence:
    """Of the active version, as `kt monitor` measures it. then: what was deployed, where `now` has gone by."""
    from kt.monitors.live import live
    from kt.monitors.measure import Gauge
    from kt.store import connect
    from kt.store.streams import streams

    store = connect.peek(workspace.root, workspace.settings)
    if store is None:
        return Confidence()
    state = then or audit.read(workspace)[1]
    for who in live(state, streams(store)):
        if who.stream.model == model and who.slot == "active":
            gauge = Gauge(store, workspace, who, int(now.timestamp()) // 60)
            sample = gauge.calibration().sample
            reference = gauge.record.reference if gauge.record else None
            return Confidence(sample.value, sample.n, reference.ece if reference else None)
    return Confidence()


def critical(known: Alerts, deployed: "State", model: str) -> Iterator[str]:
    """The metrics of quality whose critical alert is open on the active version; not on a treatment, which is
    ended and not trained anew, nor on a version that has been replaced, of which no monitor has heard yet."""
    active = deployed.serving(model).active
    for alert in known.open.values():
        about = alert.model, alert.version, alert.variant != "treatment"
        ours = active is not None and about == (model, active.version, True)
        if ours and alert.severity == "critical" and alert.metric in QUALITY:
            yield alert.metric
