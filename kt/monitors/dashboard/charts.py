"""The dashboard's charts: facts -> Vega-Lite -> SVG, drawn here by vl-convert, so that a page needs no script.

Of three libraries tried, the one whose pictures pass a policy without unsafe-inline: Bokeh writes style
elements as it starts and paints on a canvas, which neither a screen reader nor a style sheet reaches.
A colour is a variable of page.css, which knows light from dark.

Every plot has the same frame, so that page.js knows where a time lies in it: see WIDTH.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any

from markupsafe import Markup

from kt.errors import Invalid
from kt.monitors.dashboard.facts import Line, Look, Mark, Reliability, Shape, Trend

Spec = dict[str, Any]

WIDTH, HEIGHT = 330, 150  # of the plot itself, in the picture's own unit
PADDING = {"left": 46, "top": 16, "right": 14, "bottom": 22}
SQUARE = {"left": 46, "top": 8, "right": 14, "bottom": 36}
COLOURS = {"active": "var(--active)", "treatment": "var(--treatment)"}
CONFIG = {
    "aria": False,  # the picture is one image with a title; its numbers are in the table behind it
    "background": "transparent",
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": "var(--line)",
        "labelColor": "var(--soft)",
        "labelFontSize": 11,
        "labelPadding": 6,
        "labelAngle": 0,
        "title": None,
        "titleColor": "var(--soft)",
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "line": {"strokeWidth": 2, "strokeCap": "round", "strokeJoin": "round"},
}


@cache
def library() -> ModuleType:
    """Raises Invalid where it is not installed: asked before the work, not after it."""
    try:
        import vl_convert
    except ImportError as error:
        raise Invalid(
            "the page's charts need vl-convert",
            do="pip install 'kt[dashboard]'; the numbers alone: kt dashboard --json",
        ) from error
    return vl_convert


def draw(spec: Spec, key: str) -> Markup:
    """A chart as an SVG element, named by the element KEY-name and described by KEY-said."""
    svg: str = library().vegalite_to_svg(spec, vl_version="5.20")
    found = re.match(r'<svg[^>]* viewBox="([\d. ]+)">', svg)
    assert found
    opening = Markup(
        '<svg role="img" aria-labelledby="{0}-name" aria-describedby="{0}-said" viewBox="{1}">'
    ).format(key, found[1])
    return opening + Markup(svg[found.end() :])  # noqa: S704  # Vega escapes what it writes


def place(at: str, since: str, until: str) -> float:
    """Where a time lies between two others, 0 to 1."""
    return (ms(at) - ms(since)) / (ms(until) - ms(since))


def ms(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000


def trend(of: Trend, marks: Sequence[Mark], since: str, until: str, form: str) -> Spec:
    """A metric over time: what chance leaves open as a band, levels as dashes, alerts behind. form: of numbers."""
    fit = scale(of)
    layers = [*fired(of, since, until), *changes(marks), *levels(of, fit)]
    for line in of.lines:
        layers += course(line)
    return over_time(layers, since, until, fit, form)


def effect(
    looks: Sequence[Look], marks: Sequence[Mark], since: str, until: str, form: str, times: int
) -> Spec:
    """The treatment less the control, with its always-valid interval. times: 100 for points of a percentage."""
    rows = [
        {
            "at": ms(one.at),
            "value": one.estimate * times,
            "lower": one.lower * times,
            "upper": one.upper * times,
        }
        for one in looks
    ]
    colour = COLOURS["treatment"]
    bounds = [bound for row in rows for bound in (row["lower"], row["upper"])]
    fit = [min([0.0, *bounds]), max([0.0, *bounds])]
    layers = [
        *changes(marks),
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "stroke": "var(--soft)"},
            "encoding": {"y": {"datum": 0}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "area", "color": colour, "opacity": 0.16},
            "encoding": {**AT, **value("lower"), "y2": {"field": "upper"}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "line", "color": colour, "point": {"color": colour, "size": 14}},
            "encoding": {**AT, **value("value")},
        },
    ]
    return over_time(layers, since, until, fit, form)


def reliability(of: Sequence[Reliability]) -> Spec:
    """What was predicted against what came true; a dot's size tells how many predictions it stands for."""
    layers: list[Spec] = [
        {
            "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
            "mark": {
                "type": "line",
                "color": "var(--soft)",
                "strokeWidth": 1,
                "strokeDash": [4, 4],
            },
            "encoding": {**number("x", "predicted"), **number("y", "came true", channel="y")},
        }
    ]
    for one in of:
        rows = [
            {"x": b.predicted, "y": b.observed, "n": b.n, "lower": b.lower, "upper": b.upper}
            for b in one.bins
        ]
        xy = {**number("x", "predicted"), **number("y", "came true", channel="y")}
        layers += [
            {
                "data": {"values": rows},
                "mark": {"type": "rule", "stroke": COLOURS[one.role], "opacity": 0.45},
                "encoding": {
                    **xy,
                    **number("lower", "came true", channel="y"),
                    "y2": {"field": "upper"},
                },
            },
            {
                "data": {"values": rows},
                "mark": {
                    "type": "circle",
                    "color": COLOURS[one.role],
                    "opacity": 1,
                    "stroke": "var(--card)",
                },
                "encoding": {
                    **xy,
                    "size": {
                        "field": "n",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"range": [30, 150]},
                    },
                },
            },
        ]
    return framed(layers, SQUARE)


def shape(of: Shape) -> Spec:
    """Two histograms on one axis: the reference as an outline, now as bars."""
    rows = [
        {"left": left, "right": right, "before": before, "now": now}
        for left, right, before, now in zip(of.edges, of.edges[1:], of.before, of.now, strict=False)
    ]
    outline = [{"x": row["left"], "y": row["before"]} for row in rows]
    outline.append({"x": of.edges[-1], "y": of.before[-1]})
    across = {
        "type": "quantitative",
        "scale": {"domain": [of.edges[0], of.edges[-1]], "nice": False, "zero": False},
        "axis": {"grid": False, "tickCount": 5},
    }
    up = {"type": "quantitative", "axis": {"tickCount": 4, "format": "%"}}
    return framed(
        [
            {
                "data": {"values": rows},
                "mark": {"type": "rect", "color": COLOURS[of.role], "opacity": 0.55},
                "encoding": {
                    "x": {"field": "left", **across},
                    "x2": {"field": "right"},
                    "y": {"field": "now", **up},
                    "y2": {"datum": 0},
                },
            },
            {
                "data": {"values": outline},
                "mark": {
                    "type": "line",
                    "interpolate": "step-after",
                    "color": "var(--ink)",
                    "strokeWidth": 1.5,
                },
                "encoding": {"x": {"field": "x", **across}, "y": {"field": "y", **up}},
            },
        ],
        PADDING,
    )


AT = {"x": {"field": "at", "type": "temporal"}}


def value(field: str) -> Spec:
    return {"y": {"field": field, "type": "quantitative"}}


def number(field: str, title: str, channel: str = "x") -> Spec:
    return {
        channel: {
            "field": field,
            "type": "quantitative",
            "scale": {"domain": [0, 1]},
            "axis": {"title": title, "tickCount": 5, "format": ".1f"},
        }
    }


def framed(layers: list[Spec], padding: dict[str, int]) -> Spec:
    return {
        "autosize": "none",
        "width": WIDTH,
        "height": HEIGHT,
        "padding": padding,
        "config": CONFIG,
        "layer": layers,
    }


def over_time(layers: list[Spec], since: str, until: str, fit: Sequence[float], form: str) -> Spec:
    """A chart over time; the first layer carries the axes. fit: the lowest and the highest number shown."""
    begin, end = ms(since), ms(until)
    base = {
        "data": {"values": [{"at": begin, "value": fit[0]}, {"at": end, "value": fit[1]}]},
        "mark": {"type": "point", "opacity": 0},
        "encoding": {
            "x": {
                **AT["x"],
                "scale": {"type": "utc", "domain": [begin, end], "nice": False},
                "axis": {
                    "grid": False,
                    "values": ticks(since, until),
                    "format": "%H:%M" if end - begin <= 2 * 86_400_000 else "%-d %b",
                },
            },
            "y": {
                **value("value")["y"],
                "scale": {"zero": False, "nice": True, "domain": list(fit)},
                "axis": {"tickCount": 4, "format": form},
            },
        },
    }
    return framed([base, *layers], PADDING)


def ticks(since: str, until: str, most: int = 7) -> list[float]:
    """Round times between two others, in ms."""
    begin, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
    day = begin.replace(hour=0, minute=0, second=0)
    for hours in (1, 3, 6, 12, 24, 48, 96, 168, 336):
        step = timedelta(hours=hours)
        first = day + step * -((day - begin) // step)
        found = []
        while first <= end:
            found.append(first.timestamp() * 1000)
            first += step
        if len(found) <= most:
            return found
    return found[:: len(found) // most]


def scale(of: Trend) -> list[float]:
    """The lowest and the highest number to show: all that was measured, and the levels that are near it."""
    seen = [point.value for line in of.lines for point in line.points if point.value is not None]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if of.metric.startswith(FROM_ZERO):
        low = 0.0
    reach = max(high - low, abs(high) / 20, 1e-9)
    for level in shown_levels(of):
        if low - 2 * reach <= level <= high + 2 * reach:
            low, high = min(low, level), max(high, level)
    if low == high == 0 and of.metric.startswith(FROM_ZERO):
        high = min(shown_levels(of), default=1.0)  # nothing but zeros
    elif low == high:
        low, high = low - reach, high + reach
    return [low, high]


FROM_ZERO = ("requests", "error_rate", "latency", "drift", "ece", "mae")


def shown_levels(of: Trend) -> list[float]:
    return [level for level in (of.limit, of.alert) if level is not None]


def levels(of: Trend, fit: Sequence[float]) -> list[Spec]:
    """The level that degrades and the one that alerts, where they are in the picture."""
    held = [("degraded", of.limit), ("alert", of.alert)]
    if of.limit == of.alert:
        held = [("alert", of.alert)]
    found = []
    for name, level in held:
        if level is None or not fit[0] <= level <= fit[1]:
            continue
        colour = f"var(--{name})"
        found += [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "stroke": colour, "strokeDash": [5, 4]},
                "encoding": {"y": {"datum": level}},
            },
            {
                "data": {"values": [{}]},
                "mark": {
                    "type": "text",
                    "text": name,
                    "align": "left",
                    "baseline": "bottom",
                    "dy": -2,
                    "fill": colour,
                    "fontSize": 10,
                },
                "encoding": {"x": {"value": 2}, "y": {"datum": level}},
            },
        ]
    return found


def fired(of: Trend, since: str, until: str) -> list[Spec]:
    rows = [
        {"at": max(ms(span.since), ms(since)), "end": ms(span.until or until)}
        for span in of.firing
        if (span.until or until) > since
    ]
    if not rows:
        return []
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "rect", "color": "var(--alert)", "opacity": 0.1},
            "encoding": {
                **AT,
                "x2": {"field": "end"},
                "y": {"value": 0},
                "y2": {"value": HEIGHT},
            },
        }
    ]


def changes(marks: Sequence[Mark]) -> list[Spec]:
    """Deployments: a line each, with the number of its event; of those too near to each other one number."""
    if not marks:
        return []
    rows = [{"at": ms(mark.at), "seq": str(mark.seq)} for mark in marks]
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "rule", "stroke": "var(--mark)", "strokeDash": [1, 3]},
            "encoding": AT,
        },
        {
            "data": {"values": rows},
            "mark": {"type": "text", "baseline": "bottom", "fill": "var(--soft)", "fontSize": 10},
            "encoding": {**AT, "y": {"value": -3}, "text": {"field": "seq"}},
        },
    ]


def course(line: Line) -> Iterable[Spec]:
    """A line, its band, and a dot where a point has no neighbour."""
    colour = COLOURS[line.role]
    known = [point for point in line.points if point.value is not None]
    rows = [
        {
            "at": ms(point.at),
            "value": point.value,
            "lower": point.lower,
            "upper": point.upper,
        }
        for point in line.points
    ]
    if any(point.lower is not None for point in known):
        yield {
            "data": {"values": [row for row in rows if row["lower"] is not None]},
            "mark": {"type": "area", "color": colour, "opacity": 0.14, "clip": True},
            "encoding": {**AT, **value("lower"), "y2": {"field": "upper"}},
        }
    yield {
        "data": {"values": rows},
        "mark": {
            "type": "line",
            "color": colour,
            "clip": True,
            "invalid": "break-paths-show-path-domains",
        },
        "encoding": {**AT, **value("value")},
    }
    values = [row["value"] for row in rows]
    lonely = [
        row
        for row, before, after in zip(rows, [None, *values], [*values[1:], None], strict=False)
        if row["value"] is not None and before is None and after is None
    ]
    if lonely:
        yield {
            "data": {"values": lonely},
            "mark": {"type": "circle", "color": colour, "opacity": 1, "size": 18},
            "encoding": {**AT, **value("value")},
        }
