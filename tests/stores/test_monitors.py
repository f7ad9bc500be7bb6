"""What the monitors keep in the tables: states, messages on their way, looks at experiments."""

from kt.store import looks, notices, states
from kt.store.database import Store
from kt.store.looks import Look


def test_what_a_check_remembers_stands_in_place_of_what_it_remembered(store: Store) -> None:
    with store.write() as connection:
        states.save(connection, {"a": "{}", "b": "{}"}, {"fast": 60, "slow": 60}, 60)
    with store.write() as connection:
        states.save(connection, {"b": '{"x": 1}'}, {"fast": 120}, 120)
    assert states.load(store) == ({"b": '{"x": 1}'}, {"fast": 120, "slow": 60})


def test_a_message_is_one_process_s_to_send_until_its_claim_ends(store: Store) -> None:
    with store.write() as connection:
        notices.put(connection, ["file", "webhook"], ["one", "two"], 100)
    assert [(one.sink, one.document) for one in notices.waiting(store)] == [
        ("file", "one"), ("webhook", "one"), ("file", "two"), ("webhook", "two"),
    ]  # fmt: skip
    first = notices.first(store, "webhook")
    assert first
    assert notices.claim(store, first, 160)
    assert not notices.claim(store, first, 170)  # as another one saw it before
    notices.put_off(store, first, 400, "one, refused")
    again = notices.first(store, "webhook")
    assert again
    assert (again.due, again.tries, again.document) == (400, 1, "one, refused")
    notices.remove(store, again)
    with store.write() as connection:
        notices.forget(connection, ["webhook"])
    assert [(one.sink, one.document) for one in notices.waiting(store)] == [("webhook", "two")]


def test_looks_are_read_by_phase_in_order_and_two_in_a_second_are_one(store: Store) -> None:
    made = [
        Look("x", phase, at, "right", 0.05, 0.01, -0.02, 0.04, 0.5, 100, 90, "collecting")
        for phase, at in ((2, 300), (1, 200), (1, 100), (1, 100))
    ]
    for one in made:
        looks.add(store, one)
    assert looks.looks(store, "x", [1, 2]) == [made[2], made[1], made[0]]
    assert looks.looks(store, "x", [2]) == [made[0]]
    assert looks.looks(store, "y", [1]) == []
