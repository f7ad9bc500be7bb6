"""What `kt status` says of a shadow, and of answers that are not recorded."""

from datetime import UTC, datetime
from pathlib import Path

from kt.cli.monitors import recordings
from kt.cli.standing import lost, unrecorded
from kt.cli.status import beside
from kt.predictor.presence import Place, Presence
from kt.predictor.writer import Recording
from kt.registry import absence, record
from kt.registry.absence import Absence
from kt.store.tally import Report, Tally, bucket
from kt.workspace import Workspace


def lines(tally: Tally) -> list[str]:
    return beside(Report("tutor", "attention", "v2", 7, tally).summary())


def test_a_shadow_that_has_run_is_told_of_in_numbers() -> None:
    tally = Tally(
        compared=1200, predictions=2400, agreed=2358, numbers=4800, difference=57.6,
        worst=0.2913, worst_id="9f3a", slow=3, dropped=16, took={bucket(0.12): 1200},
    )  # fmt: skip
    assert lines(tally) == [
        "shadow      attention: v2 on tutor, 1,200 answers compared",
        "            98.25 % of 2,400 predictions agree",
        "            numbers differ by 0.012 on average, by 0.291 at worst (9f3a)",
        "            p95 122.8 ms; 0 failed, 0 gave no answer, 3 took too long, 16 copies were dropped",
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert lines(Tally()) == ["shadow      attention: v2 on tutor, nothing is compared yet"]
    assert lines(Tally(failed=2)) == [
        "shadow      attention: v2 on tutor, 0 answers compared",
        "            2 failed, 0 gave no answer, 0 took too long, 0 copies were dropped",
    ]
    assert len(lines(Tally(compared=1, took={0: 1}))) == 2  # a form that does not tell its numbers


def served(**recording: object) -> Presence:
    since = "2026-11-26T12:00:00Z"
    card = Recording(since=since, **recording).card()  # type: ignore[arg-type]  # of its fields
    return Presence(7, "h", "http://x", 1, "", [], "ok", "", since, recording=card)


def test_what_waits_to_be_recorded_and_what_never_was_are_told() -> None:
    assert unrecorded(served(state="ok")) == []
    assert unrecorded(served(state="off")) == []
    assert unrecorded(
        served(state="behind", reason="database is locked", waiting=1200, dropped=34000)
    ) == [
        "predictor 7: 1,200 answers wait to be recorded: database is locked",
        "predictor 7: 34,000 answers were never recorded",
    ]
    older = Presence(7, "h", "http://x", 1, "", [], "ok", "", "2026-11-26T12:00:00Z")
    assert unrecorded(older) == []


def test_weights_that_are_live_and_lost_are_told(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    rows = [{"model": "tutor", "version": "v1"}]
    (told,) = lost(place, rows)
    assert told.startswith(
        "the weights of tutor v1 are missing here; get them from another machine: kt pull"
    )
    away = record.folder(place, "tutor", "v1") / absence.MARK
    away.parent.mkdir(parents=True)
    away.write_bytes(absence.dump(Absence("not pulled", "2026-11-26T12:00:00Z", "ana")))
    assert lost(place, rows) == [], "they are away on purpose"
    away.unlink()
    record.weights(tmp_path, "tutor", "v1").touch()
    assert lost(place, rows) == []


def test_monitoring_is_told_how_long_a_predictor_is_behind(tmp_path: Path) -> None:
    place = Place(tmp_path / ".kt")
    try:
        place.tell(served(state="behind", reason="database is locked"))
        (found,) = recordings(Workspace(tmp_path), datetime(2026, 11, 26, 12, 6, tzinfo=UTC))
    finally:
        place.leave()
    assert (found.late, found.reason) == (6.0, "database is locked")
