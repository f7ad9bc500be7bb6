"""A check measures, judges, writes down and tells: each alert once, whatever dies, locks or goes back between."""

import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forge
import pytest
from conftest import Kt

from kt import change, journal
from kt.deployments import audit
from kt.errors import KtError, Unavailable
from kt.monitors import check as room
from kt.monitors import history, memory, spool
from kt.monitors.live import live
from kt.monitors.watching import Recording
from kt.store import connect, labels
from kt.store.batch import Batch, Traffic
from kt.store.labels import Labels
from kt.store.traffic import append
from kt.workspace import Workspace

START = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)


class Scene:
    """A workspace in which time goes by a minute at a time, with a file that hears of alerts."""

    def __init__(self, place: Workspace) -> None:
        (place.root / "kt.toml").write_text(
            'git = "off"\nlock_wait = 1\n[[sink]]\nname = "file"\npath = "alerts.jsonl"\n'
        )
        self.place = Workspace(place.root)
        self.now = START
        self.number = 0
        forge.give(self.place, forge.version(self.place, "k", "v1"))

    def set(self, text: str) -> None:
        """Add to kt.toml."""
        path = self.place.root / "kt.toml"
        path.write_text(path.read_text() + text)
        self.place = Workspace(self.place.root)

    @property
    def minute(self) -> int:
        return int(self.now.timestamp()) // 60

    @property
    def store(self) -> Any:
        return connect.open(self.place.root, self.place.settings)

    def lives(self) -> list[Any]:
        return live(audit.read(self.place)[1])

    def answers(self, n: int, failed: int = 0, ms: float = 5.0, slot: str = "active") -> None:
        """So many in the minute that is over."""
        (who,) = (each for each in self.lives() if each.slot == slot)
        traffic = Traffic(assigned=n, served=n - failed, failed=failed)
        for _ in range(n - failed):
            traffic.latency.add(ms)
        self.number += 1
        batch = Batch(
            streams={who.stream.id: who.stream}, traffic={(who.stream.id, self.minute - 1): traffic}
        )
        assert append(self.store, "w", self.number, batch, self.minute)

    def outcomes(self, n: int, right: int) -> None:
        (who,) = self.lives()
        with self.store.write() as connection:
            labels.add(connection, {(who.stream.id, self.minute - 1): Labels(n, right)})

    def check(self, *recordings: Recording) -> room.Report:
        return room.check(self.place, self.now, recordings)

    def go(self, minutes: int, n: int = 100, failed: int = 0) -> list[room.Report]:
        """So many minutes of traffic, each with a check at its end."""
        out = []
        for _ in range(minutes):
            self.now += timedelta(minutes=1)
            self.answers(n, failed)
            out.append(self.check())
        return out

    @property
    def told(self) -> list[str]:
        path = self.place.root / "alerts.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["title"] for line in lines]

    @property
    def kinds(self) -> list[str]:
        return [
            event["kind"]
            for event in journal.read(self.place.root / "monitors/history.json").events
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(forge.workspace(tmp_path / "w"))


def state(report: room.Report, metric: str) -> Any:
    (row,) = (
        row
        for row in report.rows
        if row.measured.key[:2] != ("", "") and row.measured.levels.metric == metric
    )
    return row


def test_an_alert_opens_is_told_once_and_ends(scene: Scene) -> None:
    well = scene.go(6)[-1]
    assert state(well, "error_rate").measured.status == "ok"
    assert room.health(well.rows) == "ok"
    bad = scene.go(10, failed=30)
    phases = [state(one, "error_rate").phase for one in bad]
    assert phases[:5] == ["inactive", "pending", "pending", "firing", "firing"]
    assert room.health(bad[-1].rows) == "critical"
    assert len(scene.told) == 1
    assert scene.told[0].startswith("CRITICAL k@v1: error rate ")
    scene.go(12)
    assert scene.kinds == ["opened", "resolved"]
    assert len(scene.told) == 2
    assert scene.told[1].startswith("RESOLVED k@v1: error rate ")


def test_no_traffic_is_no_data_and_ends_nothing(scene: Scene) -> None:
    quiet = scene.go(3, n=0)[-1]
    assert state(quiet, "error_rate").measured.status == "no_data"
    assert room.health(quiet.rows) == "unknown"
    scene.go(9, failed=30)
    after = scene.go(9, n=0)[-1]
    assert state(after, "error_rate").phase == "firing"
    assert room.health(after.rows) == "critical"
    assert scene.kinds == ["opened"]


def test_two_monitors_are_one(scene: Scene) -> None:
    """Whoever checks again within the minute evaluates nothing: three checks at once are not three in a row."""
    scene.go(5)
    scene.now += timedelta(minutes=1)
    scene.answers(1000, failed=500)
    first, *others = [scene.check() for _ in range(5)]
    assert first.evaluated == ["fast"]
    assert all(one.evaluated == [] for one in others)
    assert state(others[-1], "error_rate").phase == "pending"
    for _ in range(4):
        scene.now += timedelta(minutes=1)
        scene.answers(1000, failed=500)
        threads = [threading.Thread(target=scene.check) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert scene.kinds == ["opened"]
    assert len(scene.told) == 1


class Killed(BaseException):
    pass


def dies_before(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def arm(patch: pytest.MonkeyPatch) -> None:
        def instead(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr(owner, name, instead)

    return arm


def dies_after(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def arm(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)

        def instead(*arguments: Any, **named: Any) -> None:
            real(*arguments, **named)
            raise Killed

        patch.setattr(owner, name, instead)

    return arm


POINTS = {
    "before the journal": dies_before(change, "apply"),
    "after the journal": dies_after(change, "apply"),
    "before the tables": dies_before(memory, "save"),
    "in the tables": dies_after(spool, "put"),
    "before the sinks": dies_before(spool, "deliver"),
}


@pytest.mark.parametrize("point", POINTS)
def test_one_that_is_killed_goes_on_with_the_next_and_tells_once(
    point: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.go(5)
    with monkeypatch.context() as patch:
        while "opened" not in scene.kinds:
            scene.now += timedelta(minutes=1)
            scene.answers(100, failed=50)
            POINTS[point](patch)
            try:
                scene.check()
            except Killed:
                break
            finally:
                patch.undo()
    scene.go(4, failed=50)
    assert scene.kinds == ["opened"]
    assert len(scene.told) == 1


def test_one_that_is_killed_between_sending_and_recording_sends_once_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.go(5)
    with monkeypatch.context() as patch:
        patch.setattr(spool.notices, "remove", lambda *_: (_ for _ in ()).throw(Unavailable("x")))
        scene.go(6, failed=50)
    assert scene.kinds == ["opened"]
    sent = len(scene.told)
    assert sent >= 1
    scene.now += timedelta(minutes=15)
    scene.go(2, failed=50)
    assert len(scene.told) == sent + 1  # the last one is recorded as sent
    assert spool.waiting(scene.store) == []


def test_a_sink_that_fails_holds_nobody_up_and_is_told_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.place.root / "kt.toml").write_text(
        'git = "off"\n[[sink]]\nname = "file"\npath = "no/such/folder"\n'
        '[[sink]]\nname = "file"\npath = "alerts.jsonl"\n'
    )
    scene.place = Workspace(scene.place.root)
    scene.go(5)
    last = scene.go(6, failed=50)[-1]
    assert len(scene.told) == 1
    (late,) = last.waiting
    assert (late.sink, late.n) == ("file", 1)
    assert "No such file" in late.error
    (scene.place.root / "no" / "such").mkdir(parents=True)
    scene.now += timedelta(minutes=15)
    scene.go(1, failed=50)
    assert len((scene.place.root / "no/such/folder").read_text().splitlines()) == 1
    assert spool.waiting(scene.store) == []


def test_a_clock_that_goes_back_an_hour_ends_nothing_and_tells_nothing_twice(scene: Scene) -> None:
    scene.go(5)
    scene.go(8, failed=50)
    assert len(scene.told) == 1
    scene.now -= timedelta(hours=1)
    scene.go(8)
    assert scene.kinds == ["opened"]
    assert len(scene.told) == 1
    scene.now += timedelta(minutes=50)
    scene.go(12)
    assert scene.kinds == ["opened", "resolved"]
    assert len(scene.told) == 2


def test_a_locked_database_stops_one_check_and_loses_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kt.store.database.WAIT", 0.1)
    scene.go(5)
    scene.go(3, failed=50)
    for _ in range(3):
        scene.now += timedelta(minutes=1)
        scene.answers(100, failed=50)
        holder = sqlite3.connect(scene.place.root / "kt.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            scene.check()
        holder.close()
    scene.go(4, failed=50)
    assert scene.kinds == ["opened"]
    assert len(scene.told) == 1


def test_tables_that_are_gone_are_made_anew_and_what_is_open_stays_open(scene: Scene) -> None:
    scene.go(5)
    scene.go(6, failed=50)
    for path in scene.place.root.glob("kt.db*"):
        path.unlink()
    scene.go(1, n=0)
    assert scene.kinds == ["opened"]
    assert scene.told[1:] in ([], scene.told[:1])  # nobody knows any more that it was told
    scene.go(12)
    assert scene.kinds == ["opened", "resolved"]


def test_another_version_supersedes(scene: Scene) -> None:
    scene.go(5)
    scene.go(6, failed=50)
    forge.give(scene.place, forge.version(scene.place, "k", "v2"))
    scene.go(2)
    assert scene.kinds == ["opened", "superseded"]
    assert scene.told[1].endswith("superseded")


def test_an_alert_of_a_treatment_ends_with_the_experiment(scene: Scene) -> None:
    """Its guardrail is left to people, or it would not last long enough for an alert."""
    scene.set("[experiment]\nabort = false\n")
    scene.go(2)
    forge.give(scene.place, forge.version(scene.place, "k", "v2"), traffic=50, name="x")
    for _ in range(6):
        scene.now += timedelta(minutes=1)
        scene.answers(200, failed=100, slot="treatment")
        scene.answers(200)
        report = scene.check()
    firing = [row.measured.who.variant for row in report.rows if row.alert and row.measured.who]
    assert firing == ["treatment"]
    forge.back(scene.place, "k")
    report = scene.go(1)[0]
    assert scene.kinds == ["opened", "superseded"]
    assert not any(row.alert for row in report.rows)


def test_few_outcomes_are_said_to_be_few_and_a_window_is_stretched_until_they_are_enough(
    scene: Scene,
) -> None:
    scene.go(1)
    scene.outcomes(12, 12)
    few = state(scene.check(), "accuracy").measured
    assert (few.status, few.sample.n, few.levels.min_n) == ("no_data", 12, 200)
    scene.outcomes(190, 190)
    scene.now += timedelta(days=2)
    stretched = state(scene.check(), "accuracy").measured
    assert (stretched.status, stretched.sample.value) == ("ok", 1.0)
    assert stretched.window > 2 * 1440
    scene.now += timedelta(days=6)
    assert state(scene.check(), "accuracy").measured.status == "no_data"


def test_outcomes_count_when_their_predictions_are_mature(scene: Scene) -> None:
    scene.set("[monitor]\nmature = 2\n")
    scene.go(1)
    scene.outcomes(500, 500)
    assert state(scene.check(), "accuracy").measured.status == "no_data"
    scene.now += timedelta(hours=2)
    assert state(scene.check(), "accuracy").measured.status == "ok"


def test_what_share_has_an_outcome_is_asked_of_the_same_predictions(scene: Scene) -> None:
    """Those of the minute that is not over too: by the hour is how predictions are kept."""
    scene.now += timedelta(minutes=30)
    (who,) = scene.lives()
    for ago in (0, 1):
        seen = Traffic(assigned=50, served=50)
        seen.scores.extend([0.7] * 50)
        place = who.stream.id, scene.minute - ago
        batch = Batch(streams={who.stream.id: who.stream}, traffic={place: seen})
        assert append(scene.store, "w", 1 + ago, batch, scene.minute)
        with scene.store.write() as connection:
            labels.add(connection, {place: Labels(40, 30)})
    sample = state(scene.check(), "labelled").measured.sample
    assert (sample.n, sample.value) == (100, 0.8)


def test_a_predictor_that_records_nothing_is_an_alert_of_its_own(scene: Scene) -> None:
    for _ in range(4):
        scene.now += timedelta(minutes=1)
        report = scene.check(Recording(17, 6.0, "the tables did not answer"))
    assert scene.kinds == ["opened"]
    assert scene.told == ["WARNING kt: recording 6"]
    assert room.health(report.rows) == "warning"
    scene.go(6)
    assert scene.kinds == ["opened", "resolved"]


def test_the_journal_is_chained_and_verified(scene: Scene) -> None:
    scene.go(5)
    scene.go(5, failed=50)
    scene.go(9)
    assert scene.kinds == ["opened", "resolved"]
    assert history.verify(scene.place) == []
    path = scene.place.root / "monitors" / "history.json"
    path.write_text(path.read_text().replace('"critical"', '"warning"'))
    (finding,) = history.verify(scene.place)
    assert "event 1 was changed" in finding.what
    with pytest.raises(KtError, match="event 1 was changed"):
        scene.check()


def test_status_shows_how_each_does_and_what_is_open(
    scene: Scene, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kt.clock.now", lambda: scene.now)
    before = kt("status", at=scene.place).out
    assert "REQ/H" not in before
    assert "nobody watches" in before
    scene.go(3)
    scene.go(6, failed=50)
    scene.outcomes(100, 80)
    shown = kt("status", "--exit-code", at=scene.place)
    assert shown.code == 12
    assert "900  33.33 %  5" in " ".join(shown.out.split()).replace(
        "900 33.33 % 5", "900  33.33 %  5"
    )
    assert "0.800 (17 %)" in shown.out
    assert "CRITICAL error_rate of k v1: kt alerts, checked 0 s ago" in shown.out
    (row,) = kt("status", "--json", at=scene.place).result["models"]
    assert row["live"]["requests"] == 900
    assert row["live"]["labelled"] == pytest.approx(100 / 600)
    scene.now += timedelta(minutes=10)
    late = kt("status", at=scene.place)
    assert "no monitor has looked for 10 min" in late.out
    scene.now -= timedelta(days=1)
    early = kt("status", at=scene.place)
    assert "no monitor has looked since the clock was set back" in early.out
