"""kt feedback: one outcome, or a file of them, straight into the tables."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Kt

from kt import clock
from kt.config import Settings
from kt.stats.scored import Scores
from kt.store import answered, connect, counters, labels, secret
from kt.store.database import Store
from kt.store.ids import Ids
from kt.store.streams import Stream, remember

STREAM = Stream("m", "v1", "", "", 1, 1, 100.0, "probability")


class Place:
    """A workspace that a predictor has answered from."""

    def __init__(self, root: Path, kt: Kt) -> None:
        self.root, self.kt = root, kt
        assert kt("init", str(root)).code == 0
        self.ids = Ids(secret.ensure(root, clock.now()))
        self.store: Store = connect.open(root, Settings())
        with self.store.write() as connection:
            remember(connection, [STREAM])

    def id(self, count: int = 1, ago: int = 5) -> str:
        scores = Scores("probability", [0.75] * count)
        return self.ids.make(STREAM.id, self.minute() - ago, 3, scores)

    def minute(self) -> int:
        return int(clock.now().timestamp()) // 60

    def feedback(self, *arguments: str) -> Any:
        return self.kt("-C", str(self.root), "feedback", *arguments)

    def file(self, name: str, text: str) -> str:
        (self.root / name).write_text(text)
        return str(self.root / name)

    def n(self) -> int:
        return labels.total(self.store, [STREAM.id], 0, self.minute() + 9)[STREAM.id].n


@pytest.fixture
def place(tmp_path: Path, kt: Kt) -> Place:
    return Place(tmp_path / "w", kt)


def test_one_outcome(place: Place):
    name = place.id()
    assert place.feedback(name, "1").out == "1 accepted\n"
    assert place.feedback(name, "true").out == "1 duplicate\n"
    assert place.feedback(name, "0").out == "1 corrected\n"
    assert place.feedback(place.id(3), "[1, null, 0]").out == "2 accepted\n"
    assert place.feedback(place.id(3), "1", "--place", "2").out == "1 accepted\n"
    assert place.n() == 4


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["nonsense", "1"], 2, "no prediction id"),
        (["ID", "2"], 2, "must be 0 or 1"),
        (["ID", "maybe"], 2, "not JSON"),
        (["ID", "1", "--place", "1"], 2, "place"),
        (["LATE", "1"], 3, "store.horizon"),
        (["ID"], 2, "give an ID and its OUTCOME"),
        (["outcomes.csv"], 2, "kt feedback --file outcomes.csv"),
        ([], 2, "give an ID"),
        (["ID", "1", "--file", "x.csv"], 2, "give an ID"),
    ],
)
def test_what_cannot_be_used_says_why(place: Place, given: list[str], code: int, said: str):
    names = {"ID": place.id(), "LATE": place.id(ago=31 * 24 * 60)}
    ran = place.feedback(*[names.get(one, one) for one in given])
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert place.n() == 0


def test_a_file_is_counted_line_by_line_and_again_it_changes_nothing(place: Place):
    rows = "".join(f"{place.id()},{number % 2}\n" for number in range(50))
    path = place.file("outcomes.csv", "prediction_id,outcome\n" + rows)
    assert place.feedback("--file", path).out == "50 accepted\n"
    assert place.feedback("--file", path).out == "50 duplicate\n"
    assert place.n() == 50


def test_wrong_lines_are_told_by_number_and_the_rest_is_counted(place: Place):
    good = place.id()
    forged = good[:-2] + ("AA" if good[-2:] != "AA" else "QQ")
    told: list[Any] = [
        {"prediction_id": good, "outcome": 1}, {"prediction_id": good, "outcome": "1"}, {"x": 1},
        {"prediction_id": forged, "outcome": 1}, {"prediction_id": place.id(ago=99_999), "outcome": 1},
    ]  # fmt: skip
    path = place.file("outcomes.jsonl", "\n".join(map(json.dumps, told)) + "\n{")
    ran = place.feedback("--file", path)
    assert ran.code == 11
    assert ran.out == "1 accepted, 1 late, 1 forged\n"
    assert [line.rpartition(".jsonl:")[2][:1] for line in ran.err.splitlines()] == [
        "2",
        "3",
        "4",
        "6",
    ]
    minute = place.minute()
    found = counters.counters(place.store, minute - 2, minute + 1)
    assert found == {"accepted": 1, "refused_late": 1, "refused_forged": 1}
    assert place.n() == 1


def test_only_so_many_wrong_lines_are_told(place: Place):
    path = place.file(
        "outcomes.jsonl", "{\n" * 30 + json.dumps({"prediction_id": place.id(), "outcome": 1})
    )
    ran = place.feedback("--file", path, "--json")
    assert ran.code == 11
    result = json.loads(ran.out)["result"]
    assert (result["wrong"], result["lines"], len(result["problems"])) == (30, 31, 20)
    assert "10 more" in ran.err


def test_a_file_of_nothing_but_wrong_lines_is_refused(place: Place):
    ran = place.feedback("--file", place.file("outcomes.jsonl", "{\n[]\n"))
    assert ran.code == 2
    assert "no line tells" in ran.err


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answered, "TOGETHER", 2)
    names = [place.id() for _ in range(4)]
    assert place.feedback(names[0], "1").code == 0
    rows = "".join(f"{name},{outcome}\n" for name in names for outcome in (0, 0, 1))
    path = place.file("outcomes.csv", "prediction_id,outcome\n" + rows)
    expected = "3 accepted, 5 corrected, 4 duplicate\n"
    assert place.feedback("--file", path, "--dry-run").out == "would be " + expected
    assert place.n() == 1
    assert place.feedback("--file", path).out == expected


def test_interrupted_it_says_how_far_it_came(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answered, "TOGETHER", 2)
    rows = "".join(f"{place.id()},1\n" for _ in range(6))
    path = place.file("outcomes.csv", "prediction_id,outcome\n" + rows)
    ingest, calls = answered.ingest, []

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ingest(*arguments)

    monkeypatch.setattr(answered, "ingest", stopped)
    ran = place.feedback("--file", path)
    assert ran.code == 130
    assert "4 accepted" in ran.err
    monkeypatch.undo()
    assert place.feedback("--file", path).out == "2 accepted, 4 duplicate\n"


def test_where_nothing_was_recorded_or_the_secret_is_gone_it_refuses(tmp_path: Path, kt: Kt):
    assert kt("init", str(tmp_path / "w")).code == 0
    ran = kt("-C", str(tmp_path / "w"), "feedback", "x", "1")
    assert (ran.code, "secret.json" in ran.err) == (3, True)
    secret.ensure(tmp_path / "w", clock.now())
    ran = kt("-C", str(tmp_path / "w"), "feedback", "x", "1")
    assert (ran.code, "nothing has been recorded" in ran.err) == (3, True)
    assert not (tmp_path / "w" / "kt.db").exists()


def test_a_rotation_keeps_old_ids_readable(place: Place):
    before = place.id()
    ran = place.kt("-C", str(place.root), "key", "rotate", "--json")
    assert json.loads(ran.out)["result"]["reads"] == [1, 2]
    place.ids = Ids(secret.read(place.root))
    assert place.feedback(before, "1").out == place.feedback(place.id(), "1").out == "1 accepted\n"
