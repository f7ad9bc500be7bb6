"""kt calibrate: fitted on what came true, judged on what came true last, registered only where it helps."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forge
import numpy as np
import pytest
from conftest import Kt

from kt import clock
from kt.models import marginal
from kt.models.calibrate import Platt
from kt.models.data import Data
from kt.models.train import train
from kt.registry import load, record
from kt.stats.scores import Histogram
from kt.store import connect, labels, streams
from kt.store.batch import Stream
from kt.store.labels import Labels
from kt.workspace import Workspace

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60
STREAM = Stream("tutor", "v1", "", "", 1, 1, kind="probability")


def answered(share: float, students: int, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(students)),
        offsets=np.arange(students + 1, dtype=np.int64) * 6,
        items=rng.integers(2, size=students * 6),
        responses=(rng.random(students * 6) < share).astype(np.int64),
        folds=np.full(students, -2),
        names=("a", "b"),
        source="made up",
    )


def table(data: Data, path: Path) -> Path:
    """The data as a file."""
    students = np.repeat(data.students, np.diff(data.offsets))
    columns = (students, np.array(data.names)[data.items], data.responses)
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join(["student_id,item,response", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of students who were right in nine of ten cases."""
    out = tmp_path_factory.mktemp("trained") / "model.pt"
    train(marginal, "marginal", answered(0.9, 100, 0), answered(0.9, 20, 1), out=out)
    return out


@pytest.fixture
def place(tmp_path: Path, trained: Path, kt: Kt, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    made = forge.workspace(tmp_path / "w")
    assert kt("register", str(trained), "--model", "tutor", at=made).code == 0
    return made


def came_true(place: Workspace, hours: int, n: int = 50, share: float = 0.0, seed: int = 2) -> None:
    """Outcomes of predictions of about 0.9, so many an hour. share: that come true; as predicted without."""
    store = connect.open(place.root, place.settings)
    rng = np.random.default_rng(seed)
    seen = {}
    for hour in range(hours):
        positives, negatives = Histogram(), Histogram()
        for p in rng.uniform(0.8, 1, n).tolist():
            (positives if rng.random() < (share or p) else negatives).add(p)
        seen[STREAM.id, MINUTE - 60 * (hours - hour)] = Labels(
            n, positives.count, positives=positives, negatives=negatives
        )
    with store.write() as connection:
        streams.remember(connection, [STREAM])
        labels.add(connection, seen)


def calibration(place: Workspace, version: str) -> Any:
    known = record.read(place, "tutor", version)
    loaded: Any = load.load(place.root, "tutor", version, known.sha256)
    return known, loaded.signature.calibration


def test_students_who_answer_otherwise_than_before_get_a_version_that_says_so(
    place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    path = table(answered(0.6, 300, seed=3), tmp_path / "answers.csv")
    done = kt("calibrate", "tutor@v1", "--data", str(path), "--json", at=place).result
    assert (done["version"], done["changed"], done["calibration"]["method"]) == (
        "v2",
        True,
        "platt",
    )
    assert done["calibration"]["after"]["ece"] < 0.06 < done["calibration"]["before"]["ece"]
    known, calibrator = calibration(place, "v2")
    before, none = calibration(place, "v1")
    assert none is None
    assert isinstance(calibrator, Platt)
    assert known.training["calibration"]["of"] == "tutor@v1"
    assert known.training["data"] == before.training["data"]
    assert known.reference is not None
    assert known.reference.source == "data"
    assert known.reference.ece == pytest.approx(done["calibration"]["after"]["ece"])
    assert known.reference.histogram().count == done["calibration"]["judged_on"]
    shown = kt("show", "tutor@v2", at=place).out
    assert "  calibration platt, ECE 0.0" in shown
    again = kt("calibrate", "tutor@v2", "--data", str(path), "--json", at=place).result
    assert again["calibration"]["before"]["ece"] < 0.06


def test_outcomes_of_live_answers_calibrate_as_well(place: Workspace, kt: Kt) -> None:
    came_true(place, hours=40, share=0.6)
    told = kt("calibrate", "tutor@v1", "--dry-run", "--exit-code", at=place)
    assert told.code == 10
    assert "outcomes of predictions from 2026-11-24 to 2026-11-26: 1,400 fitted on, 600" in told.err
    done = kt("calibrate", "tutor@v1", "--json", at=place).result
    assert done["version"] == "v2"
    known, calibrator = calibration(place, "v2")
    assert known.reference.source == "outcomes"
    at = np.array([[0.1, 0.9]])
    assert calibrator.apply(at)[0, 1] == pytest.approx(0.6, abs=0.05)


def test_what_is_known_too_little_of_is_refused(place: Workspace, kt: Kt, tmp_path: Path) -> None:
    refused = kt("calibrate", "tutor@v1", at=place)
    assert refused.code == 3
    assert "0 outcomes of tutor@v1 are known, 1,000 are needed" in refused.err
    came_true(place, hours=1, n=1_200)
    refused = kt("calibrate", "tutor@v1", at=place)
    assert refused.code == 3
    assert "are of one hour" in refused.err
    few = table(answered(0.6, 20, seed=3), tmp_path / "few.csv")
    assert kt("calibrate", "tutor@v1", "--data", str(few), at=place).code == 2


def test_what_holds_stays_as_it_is(place: Workspace, kt: Kt) -> None:
    came_true(place, hours=40, seed=1)
    done = kt("calibrate", "tutor@v1", at=place)
    assert done.code == 0
    assert "tutor@v1 stays as it is" in done.out
    assert record.versions(place, "tutor") == ["v1"]
