"""Rules for Prometheus that say what kt's own monitors say, by the levels of kt.toml, over the names of /metrics.

JSON, which is YAML: `kt export prometheus-rules > kt.rules.yml`. kt waits for certainty (three evaluations,
95 % bounds) before it opens an alert; KtAlert passes that on. The others are coarser, and hold where
kt monitor does not run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kt.config import Settings
from kt.monitors import thresholds
from kt.monitors.thresholds import Levels

Rule = dict[str, Any]

WHO = "model, version, variant, experiment"
WAIT = "3m"  # as long as three evaluations of kt's take
STALE = 3_600  # seconds without a check


def rules(settings: Settings) -> dict[str, Any]:
    """A file of rules."""
    return {
        "groups": [
            {"name": "kt", "rules": list(watching())},
            *(
                {"name": name, "rules": list(of_models(where, tables))}
                for name, where, tables in scopes(settings)
            ),
        ]
    }


def scopes(settings: Settings) -> Iterator[tuple[str, str, Sequence[thresholds.Table]]]:
    """Each model with levels of its own, and the others together: a name, a matcher, the tables."""
    own = sorted(name for name, model in settings.models.items() if model.threshold)
    for name in own:
        tables = [*settings.threshold, *settings.of(name).threshold]
        yield f"kt {name}", f'model="{name}"', tables
    # a dot of a name is any character to a matcher
    others = "|".join(own).replace(".", "\\\\.")
    yield "kt models", f'model!~"{others}"' if own else 'model!=""', [*settings.threshold]


def of_models(where: str, tables: Iterable[thresholds.Table]) -> Iterator[Rule]:
    """where: a matcher of the models that these tables are of."""
    tables = list(tables)
    errors, slow, right = (
        thresholds.levels(metric, tables) for metric in ("error_rate", "latency", "accuracy")
    )
    if errors.alert is not None:
        assigned = increase("kt_predictions_assigned_total", where, errors)
        failed = increase("kt_predictions_failed_total", where, errors)
        yield rule(
            "KtErrorRate",
            f"{failed} / {assigned} > {errors.alert:g} and {assigned} >= {errors.min_n}",
            errors.severity,
            "{{ $labels.model }} {{ $labels.version }} fails {{ $value | humanizePercentage }} of its requests",
        )
    if slow.alert is not None:
        p95 = f'kt_prediction_duration_recent_seconds{{{where},quantile="0.95"}}'
        yield rule(
            "KtLatency",
            f"{p95} > {slow.alert / 1000:g}",
            slow.severity,
            "{{ $labels.model }} {{ $labels.version }}: p95 is {{ $value | humanizeDuration }}",
        )
    if right.alert is not None:
        known = f"kt_accuracy_outcomes{{{where}}} >= {right.min_n}"
        yield rule(
            "KtAccuracy",
            f"kt_accuracy_ratio{{{where}}} < {right.alert:g} and {known}",
            right.severity,
            "{{ $labels.model }} {{ $labels.version }} is right in {{ $value | humanizePercentage }} of the last day",
            wait="45m",
        )


def increase(name: str, where: str, levels: Levels) -> str:
    return f"sum by ({WHO}) (increase({name}{{{where}}}[{levels.window}m]))"


def watching() -> Iterator[Rule]:
    """What kt's monitors say, and whether they say anything."""
    yield rule(
        "KtAlert",
        "max by (model, slot, metric) (kt_alert_firing) == 1",
        "warning",
        "{{ $labels.model }} ({{ $labels.slot }}): {{ $labels.metric }} is beyond its alert level; see kt alerts",
        wait="0s",
    )
    yield rule(
        "KtUnhealthy",
        "max(kt_health) == 2",
        "critical",
        "kt monitor says that something critical is wrong; see kt status",
    )
    yield rule(
        "KtMonitorSilent",
        f"time() - max(kt_last_check_timestamp_seconds) > {STALE}",
        "warning",
        "kt monitor has not looked for an hour",
    )
    yield rule(
        "KtTablesDown",
        "min by (instance) (kt_tables_up) == 0",
        "warning",
        "{{ $labels.instance }} cannot reach kt's tables; see kt doctor",
    )
    yield rule(
        "KtUnrecorded",
        "max(kt_answers_unrecorded) > 0",
        "warning",
        "{{ $value }} answers of the last hour were not recorded",
    )
    yield rule(
        "KtDegraded",
        "max by (instance) (kt_degraded) == 1",
        "warning",
        "{{ $labels.instance }} does not serve all that is deployed; see its /health",
    )


def rule(name: str, expression: str, severity: str, summary: str, wait: str = WAIT) -> Rule:
    labels: Mapping[str, str] = {"severity": severity}
    return {
        "alert": name,
        "expr": expression,
        "for": wait,
        "labels": labels,
        "annotations": {"summary": summary},
    }
