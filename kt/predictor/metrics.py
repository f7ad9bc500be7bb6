"""GET /metrics: what the tables hold, for Prometheus; the same whichever process is asked.

Totals are sums over all rows of all processes, so that they rise over restarts and roll-ups. What a
process has counted within its last seconds is not in them yet. Where the tables do not answer, what this
process knows by itself is told, and kt_tables_up is 0.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import falcon

from kt import __version__, clock, http
from kt.errors import KtError
from kt.predictor.host import Host
from kt.predictor.tables import Tables

if TYPE_CHECKING:
    from prometheus_client import Metric

    from kt.store.observed import Observed

# Less than anybody's interval between two scrapes, which may reach different processes: what one of them
# repeats must not be less than what another has told since, or it passes for a restart.
FRESH = 2.0  # seconds

WHO = ("model", "version", "variant", "experiment")
COUNTS = {
    "assigned": "Requests given to a version, counted before it was asked.",
    "served": "Requests that the version answered.",
    "fallback": "Requests that the control answered in the version's place.",
}
FAILURES = {"exception": "failed", "timeout": "slow_out", "not_finite": "invalid"}
QUANTILES = (0.5, 0.95, 0.99)
JUDGED = ("ok", "degraded", "alerting")  # by their number


def add_routes(app: "http.Service", host: Host, tables: Tables) -> None:
    app.add_route("/metrics", Metrics(host, tables))


class Metrics(http.Readable):
    """A collector, as prometheus_client calls it, and the page that is made of it."""

    def __init__(self, host: Host, tables: Tables) -> None:
        self.host, self.tables = host, tables
        self._page = b""
        self._made = float("-inf")  # on the monotonic clock

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        from prometheus_client import CollectorRegistry, generate_latest

        if time.monotonic() - self._made > FRESH:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(self)
            self._page = generate_latest(registry)
            self._made = time.monotonic()
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = self._page

    def collect(self) -> "Iterator[Metric]":
        yield from own(self.host)
        try:
            with self.tables.open() as store:
                from kt.store import observed

                found = observed.read(store, int(clock.now().timestamp()) // 60)
        except KtError:
            yield gauge("tables_up", "Whether the tables answer.", 0)
            return
        yield gauge("tables_up", "Whether the tables answer.", 1)
        yield from traffic(found)
        yield from outcomes(found)
        yield from watching(found)


def own(host: Host) -> "Iterator[Metric]":
    """What this process knows by itself."""
    yield gauge("build_info", "The version of kt.", 1, version=__version__)
    seq = host.current.manifest.seq
    yield gauge("served_seq", "The last event of the history that is served.", seq)
    degraded = host.state.status != "ok"
    yield gauge("degraded", "Whether something is not served as it is deployed.", degraded)


def traffic(found: "Observed") -> "Iterator[Metric]":
    """Requests, failures and latencies."""
    from prometheus_client.core import HistogramMetricFamily

    for name, meaning in COUNTS.items():
        total = family("counter", f"predictions_{name}", meaning)
        for who, one in found.ever.items():
            total.add_metric(who, getattr(one, name))
        yield total
    failed = family("counter", "predictions_failed", "Requests that a version failed.", "kind")
    slow = HistogramMetricFamily(
        "kt_prediction_duration_seconds", "Of the model, by the two levels of slow.", labels=WHO
    )
    for who, one in found.ever.items():
        for kind, name in FAILURES.items():
            failed.add_metric((*who, kind), getattr(one, name))
        timed = one.served + one.slow_out  # who fails at once is not fast
        under = ("0.1", timed - one.over_limit), ("0.2", timed - one.over_alert), ("+Inf", timed)
        slow.add_metric(who, [(level, float(n)) for level, n in under], None)
    yield failed
    yield slow
    quantile = family(
        "gauge",
        "prediction_duration_recent_seconds",
        "Quantiles of the last five minutes.",
        "quantile",
    )
    for who, one in found.recent.items():
        for q in QUANTILES:
            if (value := one.latency.quantile(q)) is not None:
                quantile.add_metric((*who, f"{q:g}"), value / 1000)
    yield quantile


def outcomes(found: "Observed") -> "Iterator[Metric]":
    """What came of predictions."""
    total = family("counter", "outcomes", "Predictions whose outcome is known.")
    for who, one in found.outcomes.items():
        total.add_metric(who, one.n)
    yield total
    accuracy = family("gauge", "accuracy_ratio", "Of the last day's predictions, which were right.")
    known = family("gauge", "accuracy_outcomes", "Of so many outcomes.")
    for who, one in found.day.items():
        if one.n:
            accuracy.add_metric(who, one.right / one.n)
            known.add_metric(who, one.n)
    yield accuracy
    yield known


def watching(found: "Observed") -> "Iterator[Metric]":
    """Alerts, and what was lost or refused within the last hour."""
    from prometheus_client.core import GaugeMetricFamily

    alerts = GaugeMetricFamily(
        "kt_alert_firing", "1 for each alert that is open.", labels=("model", "slot", "metric")
    )
    for key in found.firing:
        alerts.add_metric(key, 1)
    yield alerts
    yield gauge("alerts_open", "How many alerts are open.", len(found.firing))
    yield from measured(found)
    yield gauge("last_check_timestamp_seconds", "When kt monitor looked last.", found.checked)
    lost = found.hour["dropped"]
    yield gauge("answers_unrecorded", "Answers of the last hour that were given up.", lost)
    refused = GaugeMetricFamily(
        "kt_outcomes_refused", "Outcomes of the last hour that were not used.", labels=("reason",)
    )
    for name, n in sorted(found.hour.items()):
        if name.startswith("refused_"):
            refused.add_metric([name.removeprefix("refused_")], n)
    yield refused


def measured(found: "Observed") -> "Iterator[Metric]":
    """What kt monitor found last: by outcomes, drift and the rest, as it judged them."""
    from prometheus_client.core import GaugeMetricFamily

    labels = ("model", "slot", "version", "metric")
    value = GaugeMetricFamily("kt_metric", "What kt monitor last measured.", labels=labels)
    count = GaugeMetricFamily("kt_metric_observations", "Of so many.", labels=labels)
    status = GaugeMetricFamily(
        "kt_metric_status",
        "How it judged that: 0 ok, 1 degraded, 2 beyond the alert level; nothing where it has no data.",
        labels=labels,
    )
    for one in found.measured:
        if not one.model:
            if one.metric == "health" and one.value is not None:
                meaning = "Of all that is watched: 0 ok, 1 warning, 2 critical, 3 unknown."
                yield gauge("health", meaning, one.value)
            continue
        who = (one.model, one.slot, one.version, one.metric)
        count.add_metric(who, one.n)
        if one.value is not None:
            value.add_metric(who, one.value)
        if one.status in JUDGED:
            status.add_metric(who, JUDGED.index(one.status))
    yield value
    yield count
    yield status


def family(kind: str, name: str, meaning: str, *more: str) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}[kind]
    return made(f"kt_{name}", meaning, labels=(*WHO, *more))


def gauge(name: str, meaning: str, value: float, **labels: str) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    made = GaugeMetricFamily(f"kt_{name}", meaning, labels=tuple(labels))
    made.add_metric(tuple(labels.values()), value)
    return made
