"""kt requests and kt privacy: what was kept of requests is shown, found by its unit, and erased."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import forge
import pytest
from conftest import Kt

from kt import clock
from kt.stats.scored import binary
from kt.store import answered, connect, counters, secret, traffic, units
from kt.store.answered import Rules
from kt.store.batch import Batch, Logged, Stream
from kt.store.ids import Ticket
from kt.store.outcomes import Outcome
from kt.store.pseudonym import Pseudonyms

STREAM = Stream("m", "v1", "control", "trial", 1, 2, 100.0, "probability")
OTHER = Stream("other", "v4", "", "", 1, 1, 100.0, "number")
SAID = '{"version": "v1", "predictions": [{"probability": 0.25}, {"probability": 0.75}]}'


class Kept:
    """A workspace without git, into whose tables a predictor has written."""

    def __init__(self, place: Any) -> None:
        self.place, self.number = place, 0
        self.now = int(clock.now().timestamp())
        self.store = connect.open(place.root, place.settings)
        self.secret = secret.ensure(place.root, clock.now())

    def ask(self, unit: str, ago: float, stream: Stream = STREAM, said: str = SAID) -> bytes:
        self.number += 1
        who = Pseudonyms(self.secret)
        named = who.labelled(unit) if unit else b""
        row = Logged(
            self.number.to_bytes(10),
            stream.id,
            self.now - ago,
            named,
            '{"items": ["7", "8"]}',
            said,
        )
        seen = {stream.id: {who.of(unit)}} if unit and stream.experiment else {}
        batch = Batch(streams={stream.id: stream}, logged=[row], units=seen)
        traffic.append(self.store, "w", self.number, batch, self.now // 60)
        return row.id

    def tell(self, name: bytes, place: int, outcome: float) -> None:
        two = (binary(0.25), binary(0.75))
        ticket = Ticket(name, STREAM.id, "probability", self.now // 60 - 5, 3, two)
        rules = Rules(timedelta(days=30), lambda _: 0.0)
        at = datetime.fromtimestamp(self.now, UTC)
        answered.ingest(self.store, [Outcome(ticket, place, outcome)], at, rules)


@pytest.fixture
def kept(place: Any) -> Kept:
    made = Kept(place)
    made.ask("s-1", 7_200)
    name = made.ask("canary", 300)
    made.ask("", 60, OTHER, '{"version": "v4", "predictions": [{"value": 71.5}]}')
    made.tell(name, 1, 1)
    return made


def test_what_was_kept_is_shown_newest_first(kt: Kt, kept: Kept) -> None:
    head, *lines = kt("requests", at=kept.place).out.splitlines()
    assert head.split() == ["AT", "MODEL", "VERSION", "VARIANT", "UNIT", "ASKED", "SAID", "OUTCOME"]
    assert [line.split()[1] for line in lines] == ["other", "m", "m"]
    assert "71.5" in lines[0]
    assert "0.25, 0.75" in lines[1]
    assert lines[1].endswith("-, 1")
    assert '{"items":["7","8"]}' in lines[1]


def test_the_rows_are_chosen_by_model_time_and_unit(kt: Kt, kept: Kept) -> None:
    def found(*options: str) -> list[str]:
        shown = kt("requests", "--json", *options, at=kept.place).result["requests"]
        return [one["version"] for one in shown]

    assert found("--model", "m") == ["v1", "v1"]
    assert found("--since", "1h") == ["v4", "v1"]
    assert found("--last", "1") == ["v4"]
    assert found("--unit", "canary") == ["v1"]
    assert found("--unit", "nobody") == []
    assert kt("requests", "--since", "yesterday", at=kept.place).code == 2


def test_lines_of_json_are_whole_and_in_the_order_of_time(kt: Kt, kept: Kept) -> None:
    ran = kt("requests", "--jsonl", at=kept.place)
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["model"] for row in rows] == ["m", "m", "other"]
    assert rows[1] | {"at": "", "id": "", "unit": ""} == {
        "at": "",
        "id": "",
        "model": "m",
        "version": "v1",
        "variant": "control",
        "experiment": "trial",
        "fallback": False,
        "unit": "",
        "request": {"items": ["7", "8"]},
        "predictions": [{"probability": 0.25}, {"probability": 0.75}],
        "outcomes": [None, 1.0],
    }
    assert rows[2]["unit"] is None


def test_what_was_left_out_is_told(kt: Kt, kept: Kept) -> None:
    with kept.store.write() as connection:
        counters.add(connection, {(kept.now // 60, "unlogged"): 12})
    assert "12 requests were left out" in kt("requests", at=kept.place).err


def test_in_an_empty_workspace_there_is_nothing_and_nothing_is_made(kt: Kt, tmp_path: Any) -> None:
    place = forge.workspace(tmp_path / "w")
    assert "no such request was kept" in kt("requests", at=place).out
    found = kt("privacy", "find", "s-1", "--json", at=place)
    assert found.result == {
        "found": {"requests": 0, "student_mastery": 0, "units": 0},
        "erased": False,
        "keys": [],
    }
    assert not (place.root / "kt.db").exists()
    assert not (place.root / "secret.json").exists()


def test_a_unit_is_found_by_every_key_it_was_written_under(kt: Kt, kept: Kept) -> None:
    assert kt("key", "rotate", at=kept.place).code == 0
    kept.secret = secret.read(kept.place.root)
    kept.ask("canary", 10)
    found = kt("privacy", "find", "canary", "--json", at=kept.place)
    assert found.result == {
        "found": {"requests": 2, "student_mastery": 0, "units": 2},
        "erased": False,
        "keys": [1, 2],
    }
    shown = kt("privacy", "find", "canary", at=kept.place).out
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["requests", "2"],
        ["units", "2"],
    ]
    assert kt("privacy", "find", "s-17", at=kept.place).out == "the tables hold nothing of it\n"


def test_what_is_erased_is_gone_from_the_tables_and_the_file(
    kt: Kt, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = Pseudonyms(kept.secret).of("canary")
    path = kept.place.root / "kt.db"
    kept.store.shrink()
    assert who in path.read_bytes()
    refused = kt("privacy", "erase", "canary", at=kept.place)
    assert refused.code == 2
    assert "add --yes" in refused.err
    monkeypatch.setattr("sys.stdin", io.StringIO("canary\n"))
    done = kt("privacy", "erase", "-", "--yes", "--json", at=kept.place)
    assert done.result == {
        "found": {"requests": 1, "student_mastery": 0, "units": 1},
        "erased": True,
        "keys": [1],
    }
    assert who not in path.read_bytes()
    for file in kept.place.root.glob("kt.db*"):
        assert who not in file.read_bytes()
    assert kt("privacy", "erase", "canary", "--yes", at=kept.place).out == (
        "the tables hold nothing of it\n"
    )
    left = kt("requests", "--json", at=kept.place).result["requests"]
    assert len(left) == 2, "nobody else's"
    assert units.units(kept.store, [STREAM.id])[STREAM.id].kept == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("forget", "s-1"), "there is no kt privacy forget"), (("find", ""), "UNIT")],
)
def test_a_wrong_command_line(kt: Kt, kept: Kept, arguments: tuple[str, ...], said: str) -> None:
    refused = kt("privacy", *arguments, at=kept.place)
    assert refused.code == 2
    assert said in refused.err


def test_without_the_secret_nobody_is_found_and_it_says_so(kt: Kt, kept: Kept) -> None:
    (kept.place.root / secret.FILE).unlink()
    assert kt("privacy", "find", "canary", at=kept.place).code == 3
