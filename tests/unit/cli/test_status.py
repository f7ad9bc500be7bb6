"""What `kt status` says of a shadow."""

from kt.cli.status import beside
from kt.predictor.tally import Report, Tally, bucket


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
