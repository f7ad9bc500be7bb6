"""From the workspace to the dashboard's facts: reads the history, the tables and the alerts, and decides nothing."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from kt.deployments import audit
from kt.deployments.events import describe
from kt.deployments.history import Serving
from kt.monitors.dashboard.facts import (
    TREATMENT,
    WINDOWS,
    Dashboard,
    Mark,
    Model,
    Predictor,
    Variant,
)
from kt.workspace import Workspace


def gather(
    workspace: Workspace, window: str, now: datetime, predictors: Sequence[Predictor] = ()
) -> Dashboard:
    """Everything on the page, over a window that ends now. predictors: those that run on this machine."""
    back, _ = WINDOWS[window]
    book, state = audit.read(workspace)
    since = iso(now - timedelta(seconds=back))
    marks = tuple(
        Mark(
            event["seq"], event["at"], event["model"], event["by"], describe(event), event["reason"]
        )
        for event in book.events
        if since <= event["at"] <= iso(now)
    )
    models = tuple(
        Model(name, tuple(variants(serving))) for name, serving in sorted(state.models.items())
    )
    return Dashboard(
        workspace=workspace.root.name,
        at=iso(now),
        since=since,
        health="unknown",
        last=None,
        checked=None,
        models=models,
        predictors=tuple(predictors),
        marks=marks,
    )


def variants(serving: Serving) -> Iterator[Variant]:
    """Those that answer; a shadow does not."""
    active, trial = serving.active, serving.experiment
    if active is None:
        return
    share = 0.0 if trial is None or trial.shadow else trial.traffic / 100
    name = "control" if trial and not trial.shadow else "active"
    yield variant(serving, name, active.version, 1 - share, active.since)
    if trial and not trial.shadow:
        yield variant(serving, TREATMENT, trial.version, share, trial.since)


def variant(serving: Serving, name: str, version: str, share: float, since: str) -> Variant:
    return Variant(
        variant=name,
        version=version,
        traffic=share,
        since=since,
        labels=serving.labels.get(version, ()),
        requests=None,
        error_rate=None,
        latency=None,
        accuracy=None,
        labelled=0,
    )


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
