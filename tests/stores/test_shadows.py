"""What shadows were found to say adds up over processes and machines, and outlives them."""

from pathlib import Path

from kt.config import Settings
from kt.store import connect
from kt.store.batch import Batch
from kt.store.database import Store
from kt.store.merge import merge
from kt.store.shadows import shadows
from kt.store.tally import Key, Report, Tally
from kt.store.traffic import append

SHADOW: Key = ("m", "x", "v2", 7)
ONE = Tally(compared=2, predictions=4, agreed=3, numbers=8, difference=0.5, worst=0.25, worst_id="a",
            cases=((0.25, "a"), (0.125, "b")), took={-40: 2})  # fmt: skip
TWO = Tally(compared=1, failed=1, worst=0.5, worst_id="c", cases=((0.5, "c"),), took={-40: 1, 3: 1})


def told(store: Store, writer: str, number: int, tally: Tally, shadow: Key = SHADOW) -> bool:
    return append(store, writer, number, Batch(shadows={shadow: tally}), 29_000_000)


def test_tallies_of_all_processes_add_up_each_batch_once(store: Store) -> None:
    assert shadows(store) == []
    assert told(store, "a", 1, ONE)
    assert told(store, "b", 1, TWO)
    assert not told(store, "b", 1, TWO), "sent again"
    assert told(store, "a", 2, ONE, ("m", "x", "v2", 9))
    assert {one.shadow: one.tally for one in shadows(store)} == {
        SHADOW: ONE + TWO,
        ("m", "x", "v2", 9): ONE,
    }


def test_those_of_another_machine_are_merged(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    there = connect.open(tmp_path / "there", Settings())
    told(store, "a", 1, ONE)
    told(there, "b", 1, TWO)
    for _ in range(2):
        merge(store, tmp_path / "there")
        assert shadows(store) == [Report(*SHADOW, ONE + TWO)]


def test_what_is_behind_one_batch_is_put_together(store: Store) -> None:
    batch = Batch(shadows={SHADOW: ONE})
    batch.merge(Batch(shadows={SHADOW: TWO, ("m", "y", "v3", 8): ONE}))
    append(store, "a", 1, batch, 29_000_000)
    assert [one.tally for one in sorted(shadows(store), key=lambda one: one.phase)] == [
        ONE + TWO,
        ONE,
    ]
