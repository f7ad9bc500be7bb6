"""The dashboard's page: every number of the facts, nothing of anybody's that a browser would run."""

import base64
import hashlib
import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import boards
import pytest

from kt.monitors.dashboard import charts, page, wording
from kt.monitors.dashboard.facts import Alert

pytest.importorskip("vl_convert", reason="the charts need it: pip install 'kt[dashboard]'")


@pytest.fixture(scope="module")
def busy() -> str:
    return page.one_file(boards.busy(random.Random(1)), "7d")


class Elements(HTMLParser):
    """The start tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def test_the_page_in_one_file_names_what_may_run_in_it(busy: str) -> None:
    policy = Elements(busy).all("meta")[1]["content"] or ""
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", busy, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


@pytest.mark.parametrize("served", [False, True])
def test_nothing_is_loaded_from_elsewhere_and_nothing_stands_in_attributes(served: bool) -> None:
    facts = boards.busy(random.Random(1))
    text = page.served(facts, "7d") if served else page.one_file(facts, "7d")
    for tag, attributes in Elements(text).found:
        for name, value in attributes.items():
            assert name != "style"
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert (value or "").startswith(("#", "/"))
                assert served or (value or "").startswith("#")
        assert tag not in ("iframe", "object", "embed", "base", "form")


def test_hostile_names_and_reasons_are_text() -> None:
    facts = boards.busy(random.Random(1), model=boards.EVIL, reason=boards.EVIL)
    trial = facts.models[0].trial
    assert trial
    model = replace(
        facts.models[0],
        trial=replace(trial, experiment=boards.EVIL, sentence=boards.EVIL),
        trends=(replace(facts.models[0].trends[0], metric=f"drift_{boards.EVIL}"),),
        shapes=(replace(facts.models[0].shapes[0], of=boards.EVIL),),
    )
    beside = boards.shadowed().models[0]
    assert beside.shadow
    named = replace(beside.shadow, experiment=boards.EVIL, version=boards.EVIL)
    models = (model, replace(beside, shadow=named))
    facts = replace(facts, workspace=boards.EVIL, models=models, attention=(boards.EVIL,))
    text = page.one_file(facts, "7d")
    assert not Elements(text).all("img")
    assert len(Elements(text).all("script")) == 1
    assert "{{ 7 * 7 }}" in text  # no template within the template
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202e\\x1b[2J" in text


def test_every_chart_has_a_name_a_description_and_its_numbers(busy: str) -> None:
    elements = Elements(busy)
    ids = {attributes.get("id") for _, attributes in elements.found}
    pictures = [one for one in elements.all("svg") if one.get("role") == "img"]
    assert len(pictures) == len(elements.all("figure")) == 13
    for picture in pictures:
        assert {picture["aria-labelledby"], picture["aria-describedby"]} <= ids
    assert len(elements.all("details")) == 13 + 1
    assert len(ids - {None}) == sum("id" in attributes for _, attributes in elements.found)


def test_the_numbers_behind_a_chart_are_those_of_the_facts(busy: str) -> None:
    facts = boards.busy(random.Random(1))
    for trend in facts.models[0].trends:
        unit = wording.measure(trend.metric).unit
        for line in trend.lines:
            for point in line.points:
                assert f"{wording.write(point.value, unit)} ({line.version}, n 200" in busy
    assert "About 1,900 more outcomes decide: 3 days at today&#39;s rate." in busy
    assert "Degraded below 80 %, alert below 75 %." in busy


def test_an_empty_page_says_what_to_do() -> None:
    text = page.one_file(boards.NOTHING, "7d")
    for said in ("kt deploy FILE", "kt demo", "kt serve", "kt monitor", "kt history"):
        assert f"<code>{said}</code>" in text


def test_a_model_without_numbers_says_what_each_part_waits_for() -> None:
    text = page.one_file(boards.deployed(), "7d")
    assert "<figure" not in text
    for said in (
        "kt serve",
        "kt predict sakt --data JSON",
        "kt feedback --file FILE",
        "kt deploy FILE --model sakt --traffic 10 --ab-test NAME",
    ):
        assert f"<code>{said}</code>" in text


def test_a_shadow_is_shown_beside_what_was_answered() -> None:
    text = page.one_file(boards.shadowed(), "7d")
    assert "v5 gets copies of the requests that v4 answers" in text
    for name, value in (
        ("Answers compared", "1,204"), ("Predictions that agree", "97.4 %"), ("Mean difference", "0.021"),
        ("Largest difference", "0.41"), ("Latency, p95", "4.2 ms"), ("Failed", "3"), ("Copies dropped", "17"),
    ):  # fmt: skip
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "Took too long" not in text  # none did
    assert '<th scope="row">0.205</th><td class="free">AQG0t</td>' in text
    assert "answers nobody, and fails" in text


def test_a_shadow_of_which_nothing_is_known_says_what_it_waits_for() -> None:
    text = page.one_file(boards.shadowed(0), "7d")
    assert "Nothing is compared yet" in text
    assert "Furthest apart" not in text


def test_an_alert_on_the_watching_itself_names_no_model() -> None:
    alert = Alert("", "", "", "recording", "critical", boards.iso(1), None, 7.0, 5.0)
    text = page.one_file(replace(boards.NOTHING, alerts=(alert,)), "7d")
    assert "<b>Minutes without recording</b>: 7, alert level 5</p>" in text


def test_a_line_of_one_point_is_a_dot_and_a_hole_is_no_bridge() -> None:
    trend = boards.trend(random.Random(1), "accuracy", 0.8, 0.8, 0.01)
    points = trend.lines[1].points[:5]
    holes = [replace(point, value=None) for point in points]
    lonely = replace(trend.lines[1], points=(*holes[:2], points[2], *holes[3:]))
    kinds = [layer["mark"]["type"] for layer in charts.course(lonely)]
    assert kinds == ["line", "circle"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "percent", "–"),
        (0.0031, "percent", "0.31 %"),
        (0.75, "percent", "75 %"),
        (0.9995, "percent", "99.95 %"),
        (1.0, "percent", "100 %"),
        (0.024, "points", "+2.4 points"),
        (3.14159, "ms", "3.14 ms"),
        (1234.4, "count", "1,234"),
        (0.5, "count", "0.5"),
        (0.1, "number", "0.1"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, unit: str, text: str) -> None:
    assert wording.write(value, unit) == text


def test_ticks_are_few_and_round() -> None:
    for hours in (1, 6, 24, 48, 7 * 24, 30 * 24, 365 * 24):
        found = charts.ticks(boards.iso(hours), boards.iso(0))
        assert 2 <= len(found) <= 10 or hours == 1
        assert all(at % 3_600_000 == 0 for at in found)
