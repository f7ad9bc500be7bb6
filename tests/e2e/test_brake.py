"""A treatment that fails every request, from the workers that take it out of traffic to whoever is told, once."""

import json
from pathlib import Path

import forge
import pytest
from conftest import Kt
from predictors import make, serving, within

from kt import journal
from kt.deployments.plan import Candidate
from kt.workspace import Workspace

pytestmark = pytest.mark.e2e

FAILS = {"x": [0.75]}  # with a treatment that raises above one half


def test_it_is_out_of_traffic_becomes_an_event_and_is_told_once(tmp_path: Path, kt: Kt) -> None:
    made = make(tmp_path / "w")
    made.settings(
        'git = "off"\n[predictor]\npoll = 0.02\nflush = 0.2\n'
        '[[sink]]\nname = "file"\npath = "told.jsonl"\n'
    )
    versions = [made.add("v1"), made.add("v2", does="raise")]
    good, bad = (Candidate("toy", one.version, one.sha256, False) for one in versions)
    place = Workspace(made.root)
    forge.give(place, good)
    forge.give(place, bad, 50, "x")
    with serving(made, "--workers", "2") as there:
        for number in range(200):
            there.predict(**FAILS, student_id=f"s{number}")
            if there.health()["status"] == "degraded":
                break
        asked = [there.predict(**FAILS, student_id=f"t{n}") for n in range(40)]
        assert {status for status, _ in asked} == {200}
        assert {answer["version"] for _, answer in asked} == {"v1"}
        within((place.local / "tripped.json").exists)
        assert "x is out of traffic: v2 failed " in kt("status", at=made.root).out

        for _ in range(3):
            assert kt("monitor", at=made.root).code == 0
        events = journal.read(made.root / "deployments/history.json").events
        assert [one["kind"] for one in events[2:]] == ["experiment_ended"]
        assert events[2]["aborted"].startswith("errors: ")
        alerts = journal.read(made.root / "monitors/history.json").events
        assert [one["metric"] for one in alerts if one["kind"] == "opened"] == ["guardrail"]
        told = [json.loads(line) for line in (made.root / "told.jsonl").read_text().splitlines()]
        opened = [one for one in told if one["alerts"][0]["kind"] == "opened"]
        assert [one["severity"] for one in opened] == ["critical"]

        within(lambda: there.health()["status"] == "ok")  # it follows the history, which lacks x
        assert {there.predict(**FAILS, student_id=f"s{n}")[0] for n in range(20)} == {200}
    assert "aborted" in kt("experiment", "x", at=made.root).out
    rows = kt("status", "--json", at=made.root).result["models"]
    assert [(one["version"], one["traffic"]) for one in rows] == [("v1", 1.0)]
