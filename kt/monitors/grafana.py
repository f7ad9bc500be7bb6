"""A dashboard for Grafana over the names of /metrics: traffic, failures, latencies, outcomes, alerts."""

from typing import Any

SCHEMA = 39  # of Grafana 10 and later
WIDTH, HEIGHT = 12, 8  # of a panel; the page is 24 wide
SOURCE = {"type": "prometheus", "uid": "${source}"}
WHO = "{{version}} {{variant}}"
MONITORED = "{{version}} {{slot}}"
OF = '{model=~"$model"}'
BY = "sum by (model, version, variant)"


def rate(name: str) -> str:
    return f"{BY} (rate({name}{OF}[$__rate_interval]))"


# title, unit, expression, legend
PANELS = (
    ("Requests", "reqps", rate("kt_predictions_assigned_total"), WHO),
    (
        "Failed",
        "percentunit",
        f"{rate('kt_predictions_failed_total')} / {rate('kt_predictions_assigned_total')}",
        WHO,
    ),
    (
        "Latency of the model, p95",
        "s",
        'kt_prediction_duration_recent_seconds{model=~"$model",quantile="0.95"}',
        WHO,
    ),
    (
        "Slower than 200 ms",
        "percentunit",
        f"1 - {BY} (rate(kt_prediction_duration_seconds_bucket"
        '{model=~"$model",le="0.2"}[$__rate_interval])) / '
        f'{BY} (rate(kt_prediction_duration_seconds_bucket{{model=~"$model",le="+Inf"}}[$__rate_interval]))',
        WHO,
    ),
    ("Right, of the last day", "percentunit", f"kt_accuracy_ratio{OF}", WHO),
    ("Calibration error", "short", 'kt_metric{model=~"$model",metric="ece"}', MONITORED),
    (
        "Drift",
        "short",
        'kt_metric{model=~"$model",metric=~"drift.*"}',
        f"{MONITORED} {{{{metric}}}}",
    ),
    ("Outcomes", "cps", rate("kt_outcomes_total"), WHO),
    ("Answered by the control instead", "reqps", rate("kt_predictions_fallback_total"), WHO),
    ("Outcomes refused, last hour", "short", "max by (reason) (kt_outcomes_refused)", "{{reason}}"),
    (
        "Alerts",
        "short",
        "max by (model, slot, metric) (kt_alert_firing)",
        "{{model}} {{slot}} {{metric}}",
    ),
    ("Event served", "short", "kt_served_seq", "{{instance}}"),
)


def dashboard() -> dict[str, Any]:
    """To be imported in Grafana, which asks for the source."""
    return {
        "uid": "kt",
        "title": "kt",
        "schemaVersion": SCHEMA,
        "tags": ["kt"],
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "1m",
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "model",
                    "label": "Model",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(kt_predictions_assigned_total, model)",
                    "includeAll": True,
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                },
            ]
        },
        "panels": [panel(place, *one) for place, one in enumerate(PANELS)],
    }


def panel(place: int, title: str, unit: str, expression: str, legend: str) -> dict[str, Any]:
    row, column = divmod(place, 24 // WIDTH)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": "A", "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        ],
    }
