"""Killed, or refused by the disk, while it watches, tells, counts outcomes or makes a secret: the same command again."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import forge
import pytest
from conftest import Kt
from dying import points

from kt import clock, files, journal
from kt.monitors import spool, tripped
from kt.stats.scored import Scores
from kt.store import answered, connect, labels, secret
from kt.store.ids import Ids
from kt.store.streams import Stream, remember
from kt.workspace import Workspace

pytestmark = pytest.mark.e2e

STREAM = Stream("m", "v1", "", "", 1, 1, 100.0, "probability")
TABLES = ("sqlalchemy.dialects.sqlite", "kt.store.answered")


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace whose treatment the predictors have taken out, with tables and somebody to tell."""
    made = forge.workspace(tmp_path / "w")
    text = '[[sink]]\nname = "file"\npath = "told.jsonl"\n'
    (made.root / "kt.toml").write_text(f'git = "off"\n{text}')
    made = Workspace(made.root)
    forge.give(made, forge.version(made, "m", "v1"))
    forge.give(made, forge.version(made, "m", "v2"), 10, "x")
    trip = tripped.Trip(
        model="m",
        experiment="x",
        phase=2,
        metric="errors",
        control=tripped.Counts(requests=90, failed=0, calls=90, slow=0),
        treatment=tripped.Counts(requests=10, failed=10, calls=10, slow=0),
    )
    text = tripped.Book(trips=(trip,)).model_dump_json()
    files.write_whole(made.local / tripped.FILE, text.encode())
    with connect.open(made.root, made.settings).write() as connection:
        remember(connection, [STREAM])
    return made


def kinds(root: Path, name: str) -> list[str]:
    return [event["kind"] for event in journal.read(root / name).events]


def told(place: Workspace) -> Counter[str]:
    """What the sink has taken once everything that waits is due."""
    later = clock.now() + timedelta(hours=1)
    store = connect.open(place.root, place.settings)
    spool.deliver(store, place, spool.sinks(place), int(later.timestamp()), 20.0)
    lines = (place.root / "told.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["title"] for line in lines if line.endswith("}"))


@pytest.mark.parametrize("fault", ["kill", "EIO"])
def test_a_treatment_that_fails_is_ended_once_and_told_of(
    fault: str, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    """Whatever is struck. Between a message's sending and its removal it may be told twice."""
    rooms = (*TABLES, "kt.monitors.check")
    for root, code, said in points(place.root, tmp_path, fault, ("monitor",), 4, modules=rooms):
        assert "Traceback" not in said
        assert code in ((-9,) if fault == "kill" else (0, 5)), said
        assert kt("monitor", at=root).code == 0
        assert kinds(root, "deployments/history.json")[2:] == ["experiment_ended"]
        assert kinds(root, "monitors/history.json")[:1] == ["opened"]
        assert kinds(root, "monitors/history.json").count("opened") == 1
        (times,) = (n for title, n in told(Workspace(root)).items() if title.startswith("CRITICAL"))
        assert times in (1, 2)
        assert [*root.rglob(".aside-*")] == []


@pytest.mark.parametrize(
    ("command", "every"),
    [
        (("key", "rotate"), 1),
        (("alerts", "silence", "ece", "--for", "1h", "--reason", "test"), 4),
    ],
    ids=["rotate", "silence"],
)
def test_a_new_secret_and_a_silence_are_there_or_not_and_leave_nothing(
    command: tuple[str, ...], every: int, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    secret.ensure(place.root, clock.now())
    for root, code, _ in points(place.root, tmp_path, "kill", command, every, least=4):
        assert code == -9
        assert kt(*command, at=root).code == 0
        assert len(secret.read(root).keys) <= 3
        assert len(kinds(root, "monitors/history.json")) <= 2
        assert [*root.rglob(".aside-*")] == []


def test_outcomes_count_once(place: Workspace, tmp_path: Path, kt: Kt) -> None:
    minute = clock.second() // 60
    ids = Ids(secret.ensure(place.root, clock.now()))
    names = [
        ids.make(STREAM.id, minute - 5, 0, Scores("probability", [0.75]))
        for _ in range(answered.TOGETHER + 100)
    ]
    lines = [json.dumps({"prediction_id": name, "outcome": 1}) for name in names]
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join(lines))
    command = ("feedback", "--file", str(path))
    seen = set()
    for root, code, _ in points(place.root, tmp_path, "kill", command, modules=TABLES, least=1):
        assert code == -9
        here = Workspace(root)
        store = connect.open(root, here.settings)

        def counted() -> int:
            return labels.total(store, [STREAM.id], 0, minute + 9)[STREAM.id].n  # noqa: B023

        seen.add(counted())
        assert kt(*command, at=root).code == 0
        assert counted() == len(names)
    assert seen == {0, answered.TOGETHER}
