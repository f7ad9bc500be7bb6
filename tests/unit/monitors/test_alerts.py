"""An alert opens after three evaluations, ends after five, and is told once each, whatever happens between."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kt.monitors import alerts
from kt.monitors.alerts import Key, Known, Seen, Told, Watch
from kt.monitors.events import Ended, Opened
from kt.monitors.thresholds import Status

HOUR = 3_600.0
REPEAT = 4 * HOUR
TIME = "2026-11-26T06:00:00Z"


def play(*statuses: tuple[float, Status, bool], interval: float = 60) -> list[str]:
    watch, out = None, []
    for at, status, cleared in statuses:
        watch, said = alerts.step(watch, Seen(at, "d1", status, cleared), interval)
        out.append(",".join(said) or watch.phase)
    return out


def test_a_gap_forgets_what_was_pending() -> None:
    bad: Status = "alerting"
    assert play((0, bad, False), (60, bad, False), (240, bad, False))[-1] == "fired"
    assert play((0, bad, False), (60, bad, False), (241, bad, False))[-1] == "pending"


def test_no_data_neither_fires_nor_ends() -> None:
    fired: list[tuple[float, Status, bool]] = [(60.0 * n, "alerting", False) for n in range(3)]
    silent: list[tuple[float, Status, bool]] = [
        (240 + 60.0 * n, "no_data", False) for n in range(99)
    ]
    assert play(*fired, *silent)[2:] == ["fired", *["firing"] * 99]


def test_an_end_needs_five_in_a_row() -> None:
    fired: list[tuple[float, Status, bool]] = [(60.0 * n, "alerting", False) for n in range(3)]
    well: list[tuple[float, Status, bool]] = [(240 + 60.0 * n, "ok", True) for n in range(4)]
    between: tuple[float, Status, bool] = (480, "degraded", False)
    again: list[tuple[float, Status, bool]] = [(540 + 60.0 * n, "ok", True) for n in range(5)]
    assert play(*fired, *well, between, *again)[-2:] == ["firing", "resolved"]


def test_nothing_ends_while_the_clock_is_behind_and_all_goes_on_when_it_was_wrong_before() -> None:
    firing = Watch("d1", "firing", at=10 * HOUR)
    watch = firing
    for minute in range(60):
        watch, said = alerts.step(watch, Seen(9 * HOUR + 60 * minute, "d1", "ok", True), 60)
        assert (watch.phase, said) == ("firing", ())
    for minute in range(5):
        watch, said = alerts.step(watch, Seen(10 * HOUR + 60 * minute, "d1", "ok", True), 60)
    assert said == ("resolved",)
    watch = firing
    for minute in range(5):
        watch, said = alerts.step(watch, Seen(HOUR + 60 * minute, "d1", "ok", True), 60)
    assert said == ("resolved",)


def test_another_deployment_supersedes_what_fires_and_nothing_else() -> None:
    said = [
        alerts.step(Watch("d1", phase, 2, 0, 0), Seen(60, "d2", "ok"), 60)[1]
        for phase in ("inactive", "pending", "firing")
    ]
    assert said == [(), (), ("superseded",)]


def opened(seq: int = 1, metric: str = "accuracy", model: str = "m") -> Opened:
    return Opened(
        seq=seq, at=TIME, by="kt", prev="", model=model, metric=metric, version="v1", variant="active",
        deployment=1, severity="critical", value=0.5, level=0.75, n=500,
    )  # fmt: skip


def ended(seq: int = 1, metric: str = "accuracy") -> Ended:
    return Ended(
        seq=seq + 1, at=TIME, by="kt", prev="", model="m", metric=metric, kind="resolved", alert=seq
    )


KEY: Key = ("m", "active", "accuracy")
ERRORS: Key = ("m", "active", "error_rate")


def kinds(telling: alerts.Telling) -> list[str]:
    return [item.kind for item in telling.items]


def test_it_is_told_once_then_every_four_hours_then_its_end() -> None:
    told: dict[Key, Told] = {}
    said = []
    for minute in range(9 * 60):
        telling = alerts.tell({KEY: Known(opened())}, told, minute * 60.0, REPEAT)
        told = telling.told
        said += [(minute, kind) for kind in kinds(telling)]
    assert said == [(0, "opened"), (240, "open"), (480, "open")]
    over = alerts.tell({KEY: Known(opened(), ended())}, told, 9 * HOUR, REPEAT)
    assert kinds(over) == ["resolved"]
    assert kinds(alerts.tell({KEY: Known(opened(), ended())}, over.told, 9.1 * HOUR, REPEAT)) == []


def test_an_end_is_told_to_those_alone_who_knew_of_the_beginning() -> None:
    assert kinds(alerts.tell({KEY: Known(opened(), ended())}, {}, 0, REPEAT)) == []


def test_what_two_machines_opened_is_one_alert_once_a_history_was_pulled() -> None:
    """There it has another number; an alert on another deployment is another one."""
    ours = alerts.tell({KEY: Known(opened(1))}, {}, 0, REPEAT)
    theirs = alerts.tell({KEY: Known(opened(7))}, ours.told, 60, REPEAT)
    assert kinds(theirs) == []
    over = alerts.tell({KEY: Known(opened(7), ended(7))}, theirs.told, 120, REPEAT)
    assert kinds(over) == ["resolved"]
    other = opened(7).model_copy(update={"deployment": 99})
    assert kinds(alerts.tell({KEY: Known(other)}, ours.told, 60, REPEAT)) == ["opened"]


def test_a_silence_hides_and_what_is_still_open_is_told_when_it_ends() -> None:
    quiet, now = Known(opened(), silenced=True), 1e9
    during = alerts.tell({KEY: quiet}, {}, now, REPEAT)
    assert kinds(during) == []
    assert kinds(alerts.tell({KEY: Known(opened())}, during.told, now + HOUR, REPEAT)) == ["opened"]
    known = alerts.tell({KEY: Known(opened())}, {}, now, REPEAT)
    during = alerts.tell({KEY: quiet}, known.told, now + HOUR, REPEAT)
    assert kinds(during) == []
    after = alerts.tell({KEY: Known(opened())}, during.told, now + 2 * HOUR, REPEAT)
    assert kinds(after) == ["open"]
    over = alerts.tell({KEY: Known(opened(), ended())}, during.told, now + 2 * HOUR, REPEAT)
    assert kinds(over) == ["resolved"]


def test_where_answers_fail_the_other_alerts_wait() -> None:
    both = {KEY: Known(opened()), ERRORS: Known(opened(3, "error_rate"))}
    first = alerts.tell(both, {}, 0, REPEAT)
    assert [item.alert.metric for item in first.items] == ["error_rate"]
    well = both | {ERRORS: Known(opened(3, "error_rate"), ended(3, "error_rate"))}
    after = alerts.tell(well, first.told, 600, REPEAT)
    assert [(item.alert.metric, item.kind) for item in after.items] == [
        ("accuracy", "opened"),
        ("error_rate", "resolved"),
    ]


def test_one_that_flaps_is_told_once_an_hour() -> None:
    told: dict[Key, Told] = {}
    said = []
    for turn in range(60):
        alert = opened(1 + 2 * turn)
        known = Known(alert, changes=min(2 * turn + 1, 12))
        for state in (known, replace(known, ended=ended(alert.seq))):
            telling = alerts.tell({KEY: state}, told, turn * 300.0, REPEAT)
            told = telling.told
            said += [(turn * 5, item.kind, item.changes > 0) for item in telling.items]
    assert said[:3] == [(0, "opened", False), (0, "resolved", False), (5, "opened", False)]
    later = [minute for minute, _, flaps in said if flaps]
    assert len(later) >= 4
    assert all(b - a >= 60 for a, b in itertools.pairwise(later))


def test_a_clock_that_was_wrong_does_not_silence_for_ever() -> None:
    years = 10 * 365 * 24 * HOUR
    told = {KEY: Told(1, True, years)}
    first = alerts.tell({KEY: Known(opened())}, told, 0, REPEAT)
    assert kinds(first) == []
    back = alerts.tell({KEY: Known(opened())}, {KEY: Told(1, True, HOUR)}, 0, REPEAT)
    assert kinds(back) == []  # set back an hour: nothing is told twice


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 300)), max_size=60))
def test_what_was_told_never_contradicts_what_was_told_before(
    story: list[tuple[bool, bool, int]],
) -> None:
    """Whatever opens, ends, is silenced and waits: openings and ends alternate, and none comes twice."""
    told: dict[Key, Told] = {}
    now, seq, is_open, last = 0.0, 0, False, "resolved"
    alert: Opened | None = None
    for opens, silenced, seconds in story:
        now += seconds
        if opens and not is_open:
            seq += 2
            alert, is_open = opened(seq), True
        elif not opens:
            is_open = False
        if alert is None:
            continue
        end = None if is_open else ended(alert.seq)
        telling = alerts.tell({KEY: Known(alert, end, 0, silenced)}, told, now, REPEAT)
        told = telling.told
        assert not (silenced and telling.items)
        for item in telling.items:
            if item.kind == "resolved":
                assert last != "resolved"
            last = item.kind
    if alert and is_open:
        over = alerts.tell({KEY: Known(alert)}, told, now, REPEAT)
        assert over.told[KEY].seq == alert.seq
        assert over.told[KEY].open
