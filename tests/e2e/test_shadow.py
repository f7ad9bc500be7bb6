"""A shadow beside a real `kt serve`: nobody is answered by it, and `kt status` says what it would have said."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import forge
import pytest
import torch
from conftest import Kt
from predictors import Made, Serving, make, serving, within

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path / "workspace")
    for name, w, does in (
        ("v1", 1.0, "answer"),
        ("other", -8.0, "answer"),
        ("nan", 1.0, "nan"),
        ("hanging", 1.0, "hang"),
        ("deadly", 1.0, "die"),
    ):
        made.add(name, w=w, does=does)
    made.deploy(5, toy=made.route("v1"))
    return made


def follow(made: Made, running: Serving, seq: int, version: str = "") -> None:
    made.deploy(seq, toy=made.route("v1", version, shadow=bool(version)))
    within(lambda: running.health()["seq"] == seq)


def found(running: Serving) -> Any:
    (row,) = running.health()["shadows"]
    return row


ASKED: list[tuple[str, Any]] = [
    ("/predict", {"x": [0.25], "student_id": "s-1"}),
    ("/predict", {"x": [0.25, 0.75]}),
    ("/models/toy/predict", {"x": [0.5]}),
]


def test_answers_are_those_of_the_active_version_byte_for_byte(made: Made) -> None:
    def answers(running: Serving) -> list[Any]:
        told = [running.ask("POST", path, body) for path, body in ASKED]
        for _, answer in told:
            answer["prediction_id"] = ""
        return told

    with serving(made) as running:
        alone = answers(running)
        follow(made, running, 6, "other")
        assert answers(running) == alone
        row = within(lambda: (row := found(running))["compared"] == len(ASKED) and row)
        assert (row["predictions"], row["agreement"], row["dropped"]) == (4, 0.0, 0)
        assert row["worst_difference"] >= row["mean_difference"] > 0.3
        assert "toy v1, other as a shadow" in running.log.read_text()


def test_no_answer_waits_for_a_shadow_that_hangs(made: Made) -> None:
    made.settings("[predictor]\npoll = 0.02\ntimeout = 600.0\n")  # nobody gives the shadow up
    with serving(made) as running:
        follow(made, running, 6, "hanging")
        assert running.predict(x=[0.75])[0] == 200
        within(lambda: "it hangs" in running.log.read_text())
        for _ in range(50):
            status, answer = running.predict(x=[0.75])
            assert (status, answer["version"]) == (200, "v1")
        assert found(running)["compared"] == 0


def test_a_shadow_that_ends_workers_is_held_back_and_the_active_version_is_not(made: Made) -> None:
    with serving(made) as running:
        follow(made, running, 6, "deadly")
        for _ in range(3):
            workers = running.workers()
            with suppress(ConnectionError):  # it may end before the answer is sent
                assert running.predict(x=[0.75])[1]["version"] == "v1"
            within(lambda workers=workers: not set(running.workers()) & set(workers))
            within(lambda: running.predict()[0] == 200)
        health = within(lambda: (health := running.health())["reason"] and health)
        assert "toy deadly is in quarantine" in health["reason"]
        assert health["models"]["toy"]["active"] == "v1"
        assert running.predict(x=[0.75])[1]["version"] == "v1"


def test_status_tells_what_all_workers_found_also_after_they_have_ended(
    kt: Kt, tmp_path: Path
) -> None:
    """The way of a person: two files, kt deploy, kt deploy --shadow, kt serve, kt status."""
    made = make(tmp_path / "workspace")
    forge.workspace(made.root)
    made.settings('git = "off"\n[predictor]\npoll = 0.02\nworkers = 2\n')
    for name, w in (("one", 1.0), ("two", 1.5)):
        torch.save({"w": torch.tensor([w])}, made.root / f"{name}.pt")
    (made.root / "config.json").write_text('{"does": "answer"}')
    said = ("--family", "toys.family", "--config", "config.json")
    assert kt("deploy", "one.pt", "--model", "toy", *said, at=made.root).code == 0
    ran = kt(
        "deploy", "two.pt", "--model", "toy", *said, "--shadow", "--ab-test", "x", at=made.root
    )
    assert ran.code == 0, ran.err

    def row() -> Any:
        (found,) = kt("status", "--json", at=made.root).result["shadows"]
        return found

    with serving(made) as running:
        for _ in range(40):
            assert running.predict()[1]["variant"] is None
        assert within(lambda: (one := row())["compared"] == 40 and one, 10)["agreement"] == 1.0
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        within(lambda: running.predict()[0] == 200)
        within(lambda: row()["compared"] == 41, 10)
        assert running.stop() == 0
    lines = kt("status", at=made.root).out.splitlines()
    assert "shadow      x: v2 on toy, 41 answers compared" in lines
    assert kt("end", "x", at=made.root).code == 0
    assert kt("status", "--json", at=made.root).result["shadows"] == []
