"""Times are shown and never used for order: a clock that jumps changes nothing that is served."""

from datetime import UTC, datetime

import forge
import pytest
from conftest import Kt

from kt import clock
from kt.deployments import audit
from kt.workspace import Workspace

TIMES = [datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2031, 1970, 2026)]
COMMANDS = [
    ("deploy", "m@v1"),
    ("deploy", "m@v2"),
    ("deploy", "m@v3", "--traffic", "10", "--ab-test", "x"),
    ("rollback",),
]


@pytest.mark.parametrize("turn", range(len(TIMES)))
def test_commands_follow_one_another_whatever_the_clock_says(
    turn: int, workspace: Workspace, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for time, command in zip(TIMES[turn:] + TIMES[:turn], COMMANDS, strict=True):
        monkeypatch.setattr(clock, "now", lambda time=time: time)
        assert kt(*command, at=workspace).code == 0
        assert kt("status", at=workspace).code == 0
    book, state = audit.read(workspace)
    assert [event["kind"] for event in book.events] == [
        "deployed", "deployed", "experiment_started", "rolled_back",
    ]  # fmt: skip
    active = state.serving("m").active
    assert active is not None
    assert active.version == "v2"
    assert state.serving("m").experiment is None
    assert kt("verify", at=workspace).code == 0
    assert kt("gc", "--keep", "1", "--yes", at=workspace).code == 0
    assert kt("verify", at=workspace).code == 0


def test_a_canary_whose_clock_is_turned_back_waits_and_goes_on_by_hand(
    place: Workspace, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.give(place, forge.version(place, "n", "v1"))
    forge.version(place, "n", "v2")
    monkeypatch.setattr(clock, "now", lambda: TIMES[1])
    assert kt("deploy", "n@v2", "--canary", "10,50", "--every", "1h", at=place).code == 0
    monkeypatch.setattr(clock, "now", lambda: TIMES[0])
    assert "nothing to do" in kt("canary", "step", at=place).out
    assert kt("canary", "step", "--now", at=place).code == 0
    running = audit.read(place)[1].serving("n").experiment
    assert running is not None
    assert running.traffic == 50
