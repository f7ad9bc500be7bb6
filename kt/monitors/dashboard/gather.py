"""From the workspace to the dashboard's facts: the history, the tables, the alerts and what `kt monitor` measures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kt.deployments import audit
from kt.deployments.events import describe
from kt.deployments.history import Serving, State
from kt.errors import KtError
from kt.monitors import check, history
from kt.monitors.dashboard import series, trials
from kt.monitors.dashboard.facts import (
    TREATMENT,
    WINDOWS,
    Alert,
    Dashboard,
    Mark,
    Model,
    Predictor,
    Shadow,
    Trial,
    Variant,
)
from kt.monitors.dashboard.recorded import Recorded
from kt.store import connect, counters
from kt.store.database import Store
from kt.store.tally import Report as Compared
from kt.workspace import Workspace


def gather(
    workspace: Workspace,
    window: str,
    now: datetime,
    predictors: Sequence[Predictor] = (),
    compared: Sequence[Compared] = (),
) -> Dashboard:
    """Everything on the page, over a window that ends now. predictors: those that run on this machine.
    compared: what is known of shadows.

    Tables that cannot be read are told on the page: what is deployed is known without them.
    """
    book, state = audit.read(workspace)
    back, *_ = WINDOWS[window]
    since = iso(now - timedelta(minutes=back))
    base = deployed(workspace.root.name, book.events, state, since, iso(now), compared)
    base = replace(base, predictors=tuple(predictors))
    try:
        base = replace(base, alerts=tuple(alerts(workspace, base.since, base.at)))
        store = connect.peek(workspace.root, workspace.settings)
        return base if store is None else measured(workspace, store, book.events, base, window, now)
    except KtError as error:
        told = f"{error}; {error.do}" if error.do else str(error)
        return replace(base, attention=(*base.attention, told))


def deployed(
    name: str,
    events: Sequence[Mapping[str, Any]],
    state: State,
    since: str,
    until: str,
    compared: Sequence[Compared],
) -> Dashboard:
    """What is known without the tables."""
    return Dashboard(
        workspace=name,
        at=until,
        since=since,
        health="unknown",
        last=None,
        checked=None,
        models=tuple(
            Model(
                model,
                tuple(variants(serving)),
                shadow=beside(events, model, since, compared),
            )
            for model, serving in sorted(state.models.items())
        ),
        marks=tuple(
            Mark(
                event["seq"],
                event["at"],
                event["model"],
                event["by"],
                describe(event),
                event["reason"],
            )
            for event in events
            if since <= event["at"] <= until
        ),
    )


def measured(
    workspace: Workspace,
    store: Store,
    events: Sequence[Mapping[str, Any]],
    base: Dashboard,
    window: str,
    now: datetime,
) -> Dashboard:
    """With what the tables tell of the window. Raises KtError."""
    back, *_ = WINDOWS[window]
    # with the minute that is not over: it shows a first request
    until = int(now.timestamp()) // 60 + 1
    report = check.look(workspace, store, now)
    found = [
        Recorded(store, workspace, model, window, report.rows, base.alerts, until)
        for model in base.models
    ]
    models = tuple(
        replace(
            each.whole(),
            trial=about(store, workspace, events, each.model.model, base.since, now),
        )
        for each in found
    )
    newest = max((each.newest for each in found), default=0)
    judged = max(report.last.values(), default=None)
    return replace(
        base,
        health=check.health(report.rows) if judged else "unknown",
        last=series.iso(newest) if newest else None,
        checked=iso(datetime.fromtimestamp(judged, UTC)) if judged else None,
        models=models,
        counts=dict(counters.counters(store, until - back, until + 1)),
    )


def about(
    store: Store,
    workspace: Workspace,
    events: Sequence[Mapping[str, Any]],
    model: str,
    since: str,
    now: datetime,
) -> Trial | None:
    course = trials.latest(events, model, since)
    if course is None or course.now.shadow:
        return None
    return trials.trial(store, workspace.settings, course, now)


def beside(
    events: Sequence[Mapping[str, Any]], model: str, since: str, compared: Sequence[Compared]
) -> Shadow | None:
    course = trials.latest(events, model, since)
    return trials.shadow(course, compared) if course and course.now.shadow else None


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
    """Without its numbers."""
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


def alerts(workspace: Workspace, since: str, now: str) -> Iterator[Alert]:
    """Those that are open, the worst first; then those that ended since, the newest first."""
    _, known = history.read(workspace)
    for opened in sorted(
        known.all.values(),
        key=lambda one: (
            one.seq not in known.open,
            one.seq in known.open and one.severity != "critical",
            -one.seq,
        ),
    ):
        ended = known.ended.get(opened.seq)
        if ended and ended.at < since:
            continue
        silence = None if ended else known.silence_on(opened, now)
        yield Alert(
            model=opened.model,
            version=opened.version,
            variant=opened.variant,
            metric=opened.metric,
            severity=opened.severity,
            since=opened.at,
            until=ended.at if ended else None,
            value=opened.value,
            level=opened.level,
            silenced=silence.until if silence else "",
        )


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
