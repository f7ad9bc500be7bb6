import json
import random
from pathlib import Path
from typing import Any

import pytest

from kt.stats.calibration import Bin, equal_mass, equal_width, errors


def of(given: dict[str, Any]) -> tuple[list[float], list[bool]]:
    """Confidence and whether it was right, of a published case."""
    if given["confidence"] == "positive":
        return given["probabilities"], [label == 1 for label in given["labels"]]
    tops = [max(row) for row in given["probabilities"]]
    pairs = zip(given["probabilities"], tops, given["labels"], strict=True)
    return tops, [row.index(top) == label for row, top, label in pairs]


@pytest.mark.parametrize(
    ("name", "binned"), [("calibration_error", equal_width), ("adaptive_ece", equal_mass)]
)
def test_the_published_answers_are_found(name: str, binned: Any, shared: Path) -> None:
    for case in json.loads((shared / "vectors" / f"{name}.json").read_text())["cases"]:
        got = errors(binned(*of(case["input"]), case["input"]["bins"]))._asdict()
        bound = {"rel": case["tol"]["rel"], "abs": case["tol"]["abs"]}
        wanted = [case["expected"], case["expected"].get("expected_alternatives", {})]
        assert any(
            want
            and all(got[key] == pytest.approx(want[key], **bound) for key in got if key in want)
            for want in wanted
        ), case["id"]


def test_errors_by_hand() -> None:
    confidence = [0.1, 0.3, 0.8, 1.0]
    right = [False, True, True, True]
    bins = equal_width(confidence, right, 2)
    assert bins == (Bin(2, 0.4, 1), Bin(2, 1.8, 2))
    assert errors(bins) == pytest.approx((0.2, 0.3, 0.2))  # gaps 0.3 and 0.1, as many in each


def test_an_inner_edge_belongs_to_the_bin_above_it_and_one_to_the_last() -> None:
    assert [each.n for each in equal_width([0.0, 0.5, 1.0], [True] * 3, 2)] == [1, 2]


def test_bins_of_equal_mass_hold_as_many_wherever_the_confidences_lie() -> None:
    confidence = [0.9 + n / 1000 for n in range(60)]
    assert {each.n for each in equal_mass(confidence, [True] * 60, 6)} == {10}
    assert [each.n for each in equal_width(confidence, [True] * 60, 6)].count(0) == 5


def test_bins_of_two_parts_added_up_are_those_of_the_whole() -> None:
    rng = random.Random(0)
    confidence = [rng.random() for _ in range(200)]
    right = [rng.random() < p for p in confidence]
    halves = equal_width(confidence[:90], right[:90]), equal_width(confidence[90:], right[90:])
    merged = [Bin(*map(sum, zip(a, b, strict=True))) for a, b in zip(*halves, strict=True)]
    assert errors(merged) == pytest.approx(errors(equal_width(confidence, right)))


def test_nothing_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="no answers"):
        errors(equal_width([], []))


def test_a_constant_confidence_has_no_error_and_says_nothing() -> None:
    """Which is why no calibration error stands without a score that a constant fails."""
    right = [n % 10 < 9 for n in range(1000)]
    assert errors(equal_width([0.9] * 1000, right)).ece == pytest.approx(0, abs=1e-9)
