import pytest

from kt.predictor.crowd import PATIENT, STEP, Answered, hastiest, is_hastiest

SOON, LATE = 10.0, 10.0 + PATIENT * STEP


@pytest.mark.parametrize(
    ("client", "now", "pause"),
    [
        ("a:1", SOON, 0),
        ("a:1", SOON + 0.9 * STEP, 0),
        ("a:1", SOON + 2.5 * STEP, 2),
        ("a:1", LATE + 0.5 * STEP, PATIENT),
        ("a:1", 99.0, PATIENT),
        ("a:2", SOON, PATIENT),  # another connection, which has had no answer yet
    ],
)
def test_a_pause_is_counted_from_the_last_answer_up_to_what_is_patient(
    client: str, now: float, pause: int
) -> None:
    answered = Answered()
    answered.note("a:1", 1.0)
    answered.note("a:1", SOON)
    assert answered.pause(client, now) == pause


def test_only_what_makes_a_difference_is_remembered() -> None:
    answered = Answered()
    answered.note("a:1", SOON)
    answered.note("a:2", LATE)
    answered.forget(LATE + STEP)
    assert list(answered._at) == ["a:2"]
    assert answered.pause("a:1", LATE + STEP) == PATIENT


def test_who_came_back_soonest_gives_way_first_and_of_equals_who_has_waited_longest() -> None:
    waiting = [("a", 5), ("b", 0), ("c", 10), ("d", 0)]
    names = [[name for name, _ in hastiest(waiting, lambda one: one[1], n)] for n in (1, 3, 4, 9)]
    assert names == [["b", "d", "a"], ["b"], [], []]


@pytest.mark.parametrize(("pause", "turned_away"), [(0, True), (1, True), (2, False), (10, False)])
def test_who_comes_is_turned_away_where_nobody_who_waits_was_hastier(
    pause: int, turned_away: bool
) -> None:
    assert is_hastiest(pause, [1, 10]) == turned_away
