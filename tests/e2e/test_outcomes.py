"""From an answer to what came of it, over a real predictor with two workers: recorded, told, counted once, shown."""

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3
from predictors import Serving, make_three, serving, within
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.e2e

TOTALS = "kt_predictions_assigned_total", "kt_predictions_served_total", "kt_outcomes_total"


def metrics(there: Serving) -> dict[str, float]:
    """Sums by name, as Prometheus's own parser reads them."""
    url, close = f"http://127.0.0.1:{there.port}/metrics", {"Connection": "close"}
    answer = urllib3.request("GET", url, headers=close, retries=False)
    assert answer.status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.data.decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def counted(there: Serving) -> tuple[float, ...]:
    found = metrics(there)
    return tuple(found.get(name, 0) for name in TOTALS)


def test_what_came_of_answers_is_counted_once_and_totals_survive_a_restart(tmp_path: Path):
    made = make_three(tmp_path / "w")
    made.settings("[predictor]\npoll = 0.02\nflush = 0.2\n")
    with serving(made, "--workers", "2") as there:
        ids = [there.predict()[1]["prediction_id"] for _ in range(20)]
        outcomes = [{"prediction_id": name, "outcome": 1} for name in ids]
        status, told = there.ask("POST", "/feedback", outcomes)
        assert (status, told["accepted"]) == (200, 20), "at once, before anything is written"
        for _ in range(4):  # whichever worker is asked
            assert there.ask("POST", "/feedback", outcomes)[1]["duplicate"] == 20
        assert there.ask("POST", "/feedback", {"prediction_id": "x" * 46, "outcome": 1})[0] == 200
        assert within(lambda: counted(there) == (20, 20, 20))
        killed = there.workers()[0]
        os.kill(killed, signal.SIGKILL)
        within(lambda: killed not in (left := there.workers()) and len(left) == 2)
        assert within(lambda: counted(there) == (20, 20, 20)), "once the tables answer"
        there.stop()
    with serving(made, "--workers", "2") as there:
        assert within(lambda: counted(there) == (20, 20, 20))
        there.predict()
        assert within(lambda: counted(there) == (21, 21, 20))


def test_predictions_do_not_wait_for_locked_tables(tmp_path: Path):
    made = make_three(tmp_path / "w")
    made.settings("[predictor]\npoll = 0.02\nflush = 0.2\n")
    with serving(made) as there:
        entry = {"prediction_id": there.predict()[1]["prediction_id"], "outcome": 1}
        within(lambda: counted(there) == (1, 1, 0))
        holder = sqlite3.connect(made.root / "kt.db", timeout=10)
        holder.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(4) as clients:
            told = [clients.submit(there.ask, "POST", "/feedback", entry) for _ in range(2)]
            assert all(there.predict()[0] == 200 for _ in range(50))
            assert not any(one.done() for one in told), "50 predictions take no 5 s"
            assert {one.result()[0] for one in told} == {503}
        holder.rollback()
        holder.close()
        assert there.ask("POST", "/feedback", entry)[1]["accepted"] == 1
