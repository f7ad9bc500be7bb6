"""Facts for the dashboard: of a workspace where nothing is, and of one where everything happens."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kt.monitors.dashboard.facts import (
    Alert,
    Bin,
    Case,
    Dashboard,
    Line,
    Look,
    Mark,
    Model,
    Now,
    Point,
    Predictor,
    Reliability,
    Shadow,
    Shape,
    Span,
    Trend,
    Trial,
    Variant,
)

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
HOURS = 7 * 24
DAY = 1_440  # minutes
EVIL = "</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e\x1b[2J'\"&"


def iso(hours: float) -> str:
    """So many hours ago."""
    return (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


NOTHING = Dashboard(
    workspace="tutor",
    at=iso(0),
    since=iso(HOURS),
    health="unknown",
    last=None,
    checked=None,
    models=(),
)


def deployed() -> Dashboard:
    """A version that nobody has asked yet."""
    active = Variant("", "v1", 1.0, iso(1), (), None, None, None, None, 0)
    return replace(NOTHING, models=(Model("sakt", (active,)),), marks=(mark(1, 1, "deploy v1"),))


def shadowed(compared: int = 1204) -> Dashboard:
    """A shadow beside a version that answers."""
    active = Variant("active", "v4", 1.0, iso(130), (), 412, 0.0031, 2.9, 0.742, 1210)
    ids = ("AQH7nVqk3Lm2bF8sXw0dUeRzT5yKc9GpJ4iOaQ1v6hNtBlCfMjSgWuExYrDkZ2Po7", "AQG0t")
    worst = tuple(Case(name, 0.41 / (1 + n)) for n, name in enumerate(ids)) if compared else ()
    beside = Shadow(
        experiment="bigger-memory",
        control="v4",
        version="v5",
        since=iso(60),
        compared=compared,
        predictions=2 * compared,
        agreement=0.974 if compared else None,
        mean_difference=0.021 if compared else None,
        worst_difference=0.41 if compared else None,
        latency=4.2 if compared else None,
        failed=3 if compared else 0,
        invalid=0,
        slow=0,
        dropped=17 if compared else 0,
        worst=worst,
    )
    return replace(NOTHING, models=(Model("sakt", (active,), shadow=beside),))


def mark(seq: int, ago: float, what: str, reason: str = "") -> Mark:
    return Mark(seq, iso(ago), "sakt", "ana", what, reason)


def busy(chance: random.Random, model: str = "sakt", reason: str = "") -> Dashboard:
    """An experiment, an alert that is open and one that is over, every kind of chart."""
    trends = (
        trend(chance, "requests", 250, 25, 40),
        trend(chance, "error_rate", 0.003, 0.004, 0.002, (0.01, 0.05)),
        trend(chance, "latency", 2.4, 3.1, 0.4, (100, 200)),
        replace(
            trend(chance, "accuracy", 0.81, 0.85, 0.01, (0.8, 0.75), fall=0.06, band=0.02),
            now=(
                Now("active", "v4", "alerting", 0.742, 1210, 200, DAY),
                Now("treatment", "v5", "no_data", None, 160, 200, DAY),
            ),
            firing=(Span(iso(12)),),
        ),
        trend(chance, "auc", 0.78, 0.8, 0.01),
        trend(chance, "brier", 0.14, 0.13, 0.01),
        trend(chance, "ece", 0.04, 0.03, 0.01, (0.1, None)),
        trend(chance, "drift", 0.03, 0.02, 0.01, (0.1, 0.1), fall=-0.1),
        trend(chance, "drift_answers", 0.03, 0.02, 0.01, (0.1, 0.1)),
    )
    shapes = tuple(
        Shape(
            of=name,
            role="active",
            version="v4",
            reference="its evaluation",
            edges=tuple(k * scale / 20 for k in range(21)),
            before=bell(0.7, 0.15),
            now=bell(middle, 0.18),
            n_before=4211,
            n_now=9000,
            psi=psi,
            status=status,
        )
        for name, scale, middle, psi, status in (
            ("scores", 1.0, 0.6, 0.132, "degraded"),
            ("answers", 100.0, 0.68, 0.011, "ok"),
        )
    )
    looks = tuple(
        Look(iso(ago), 0.025, 0.025 - spread, 0.025 + spread, 9 * (60 - ago), 60 - ago)
        for ago in range(56, 0, -2)
        for spread in (0.5 / math.sqrt(6 * (60 - ago)),)
    )
    return Dashboard(
        workspace="tutor",
        at=iso(0),
        since=iso(HOURS),
        health="critical",
        last=iso(0.02),
        checked=iso(0.05),
        models=(
            Model(
                model,
                variants=(
                    Variant(
                        "control",
                        "v4",
                        0.9,
                        iso(130),
                        ("ab-winner-x",),
                        412,
                        0.0031,
                        2.9,
                        0.742,
                        1210,
                    ),
                    Variant("treatment", "v5", 0.1, iso(60), (), 44, 0.004, 3.6, None, 160),
                ),
                trends=trends,
                reliability=(
                    Reliability("active", "v4", 1210, 0.043, bins(0.88)),
                    Reliability("treatment", "v5", 160, None, bins(1.02)),
                ),
                shapes=shapes,
                trial=Trial(
                    experiment="bigger-memory",
                    control="v4",
                    treatment="v5",
                    traffic=0.1,
                    since=iso(60),
                    metric="right",
                    verdict="collecting",
                    sentence="About 1,900 more outcomes decide: 3 days at today's rate.",
                    alpha=0.05,
                    looks=looks,
                ),
            ),
        ),
        predictors=(Predictor(411, "http://127.0.0.1:8600", "ok", "", 12, iso(60)),),
        alerts=(
            Alert(model, "v4", "control", "accuracy", "critical", iso(12), None, 0.742, 0.75),
            Alert(model, "v3", "", "latency", "warning", iso(150), iso(148), 240, 200),
        ),
        marks=(
            mark(11, 130, "deploy v4", reason),
            mark(12, 60, "start bigger-memory: v5 at 10 %"),
        ),
        counts={"dropped": 0, "refused_forged": 3},
    )


def trend(
    chance: random.Random,
    metric: str,
    active: float,
    treatment: float,
    noise: float,
    levels: tuple[float | None, float | None] = (None, None),
    fall: float = 0.0,
    band: float | None = None,
) -> Trend:
    """A week of it. fall: in the last day."""

    def line(role: str, version: str, middle: float, first: int, last: int) -> Line:
        points = []
        for ago in range(first, last, -1):
            value = middle + chance.gauss(0, noise / 2) - fall * max(0, 24 - ago) / 24
            bounds = (value - band, value + band) if band else (None, None)
            points.append(Point(iso(ago - 1), value, 200, *bounds))
        return Line(role, version, tuple(points))

    return Trend(
        metric,
        over=DAY,
        lines=(
            line("active", "v3", active, HOURS, 130),
            line("active", "v4", active, 130, 0),
            line("treatment", "v5", treatment, 60, 0),
        ),
        now=(Now("active", "v4", "ok", active, 1210, 200, DAY),),
        limit=levels[0],
        alert=levels[1],
    )


def bell(middle: float, width: float) -> tuple[float, ...]:
    weights = [math.exp(-((((k + 0.5) / 20 - middle) / width) ** 2) / 2) for k in range(20)]
    return tuple(weight / sum(weights) for weight in weights)


def bins(slope: float) -> tuple[Bin, ...]:
    found = []
    for k in range(10):
        share = min(1.0, (k + 0.5) / 10 * slope)
        found.append(Bin(20 * (k + 1), (k + 0.5) / 10, share, max(0.0, share - 0.05), share + 0.05))
    return tuple(found)
