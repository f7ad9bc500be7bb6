"""Requests that are kept: each once, with what was told of it, for as long as kt.toml says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kt.config import Settings
from kt.stats.scored import binary
from kt.store import answered, connect, erasure, merge, requests, secret, traffic
from kt.store.answered import Rules
from kt.store.batch import Batch, Logged, Stream
from kt.store.database import Store
from kt.store.ids import Ticket
from kt.store.outcomes import Outcome
from kt.store.pseudonym import Pseudonyms, unit_hash
from kt.store.rollup import roll_up

ONE = Stream("m", "v1", "", "", 1, 1, 100.0, "probability")
OTHER = Stream("other", "v1", "", "", 1, 1, 100.0, "probability")
START = 1_700_000_040  # a whole minute
ANA, BO = b"\1" + b"a" * 16, b"\1" + b"b" * 16
RULES = Rules(timedelta(days=30), lambda _: 0.0)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START + seconds, UTC)


def row(name: str, seconds: float = 0.0, unit: bytes = ANA, stream: Stream = ONE) -> Logged:
    place = name.encode().ljust(10, b".")
    return Logged(place, stream.id, START + seconds, unit, '{"items": ["7"]}', '{"version": "v1"}')


def write(store: Store, *rows: Logged, number: int = 1) -> None:
    batch = Batch(streams={one.id: one for one in (ONE, OTHER)}, logged=list(rows))
    traffic.append(store, "w", number, batch, START // 60)


def tell(store: Store, name: str, outcome: float, seconds: float, place: int = 0) -> None:
    minute = START // 60
    ticket = Ticket(
        name.encode().ljust(10, b"."), ONE.id, "probability", minute, 3, (binary(0.7),) * 2
    )
    answered.ingest(store, [Outcome(ticket, place, outcome)], at(seconds), RULES)


@pytest.fixture
def asked(store: Store) -> Store:
    write(
        store,
        row("first", 0.5),
        row("second", 0.25, BO),
        row("third", 90),
        row("x", 1, stream=OTHER),
    )
    tell(store, "first", 1, 100)
    tell(store, "third", 0, 120, place=1)
    tell(store, "third", 1, 110)
    return store


def test_a_row_that_is_sent_again_is_the_same_row(store: Store) -> None:
    write(store, row("first"))
    write(store, row("first"), number=1)
    write(store, row("first"), number=2)
    assert len(requests.newest(store, 10)) == 1


def test_the_newest_come_first_with_what_was_told_of_them(asked: Store) -> None:
    found = requests.newest(asked, 3, model="m")
    assert [one.id[:5] for one in found] == [b"third", b"first", b"secon"]
    assert [one.outcomes for one in found] == [{0: 1.0, 1: 0.0}, {0: 1.0}, {}]
    assert found[0].request == {"items": ["7"]}
    assert (found[0].model, found[0].version) == ("m", "v1")
    assert len(requests.newest(asked, 10)) == 4
    assert [one.id[:5] for one in requests.newest(asked, 10, units=[BO])] == [b"secon"]
    assert [one.id[:5] for one in requests.newest(asked, 10, since=START + 5)] == [b"third"]


def test_outcomes_stand_in_the_order_in_which_they_can_be_learnt_from(asked: Store) -> None:
    tell(asked, "second", 1, 90)
    told = list(requests.outcomes(asked, "m", START + 1_000))
    assert [(one.id[:5], one.place, one.outcome) for one in told] == [
        (b"secon", 0, 1.0),
        (b"first", 0, 1.0),
        (b"third", 0, 1.0),
        (b"third", 1, 0.0),
    ]
    assert [one.place for one in requests.outcomes(asked, "m", START + 100)] == [0, 0]


def test_an_outcome_is_new_from_when_it_is_told(asked: Store) -> None:
    assert requests.count(asked, "m") == 3
    assert requests.count(asked, "m", START + 100) == 2
    tell(asked, "first", 1, 500)  # the same again
    assert requests.count(asked, "m", START + 120) == 0
    tell(asked, "first", 0, 501)  # corrected
    assert requests.count(asked, "m", START + 120) == 1
    assert requests.count(asked, "nobody") == 0


def test_requests_go_when_their_days_are_over_and_their_outcomes_with_them(asked: Store) -> None:
    tell(asked, "unseen", 1, 100)
    horizon, log = timedelta(days=2), timedelta(days=9)
    roll_up(asked, at(86_400 * 3), horizon, log)
    assert requests.count(asked, "m") == 3, "outcomes of what is kept are kept as long"
    before = sorted(one.id[:5] for one in requests.newest(asked, 10))
    assert len(before) == 4
    roll_up(asked, at(86_400 * 9 + 62), horizon, log)
    assert [one.id[:5] for one in requests.newest(asked, 10)] == [b"third"]
    assert requests.count(asked, "m") == 2


def test_another_machines_requests_come_with_a_merge_and_once(store: Store, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    other = connect.open(there, Settings())
    write(other, row("first"), row("second", 2))
    write(store, row("first"))
    for _ in range(2):
        merge.merge(store, there)
    assert len(requests.newest(store, 10)) == 2


def test_a_unit_is_found_and_erased_whatever_key_it_was_written_under(store: Store) -> None:
    def key(name: int) -> secret.Master:
        return secret.master(name, at(name), lambda size: bytes([name]) * size)

    both = secret.Secret(keys=(key(1), key(2)))
    stream = Stream("m", "v2", "treatment", "x", 1, 2, 10.0, "probability")
    for one in both.keys:
        who = Pseudonyms(secret.Secret(keys=(one,)))
        for unit in ("ana", "bo"):
            logged = row(f"{unit}{one.id}", unit=who.labelled(unit), stream=stream)
            batch = Batch(streams={stream.id: stream}, logged=[logged])
            batch.units = {stream.id: {unit_hash(who.of(unit))}}
            traffic.append(store, f"{unit}{one.id}", 1, batch, START // 60)
    assert erasure.find(store, both, "ana") == {"requests": 2, "student_mastery": 0, "units": 2}
    assert erasure.find(store, both, "cy") == {"requests": 0, "student_mastery": 0, "units": 0}
    assert erasure.erase(store, both, "ana") == {"requests": 2, "student_mastery": 0, "units": 2}
    assert erasure.find(store, both, "ana") == {"requests": 0, "student_mastery": 0, "units": 0}
    assert erasure.find(store, both, "bo") == {"requests": 2, "student_mastery": 0, "units": 2}
