"""What differs between two versions."""

import forge

from kt.registry import record
from kt.registry.compare import Difference, between, compare
from kt.workspace import Workspace


def test_the_same_record_does_not_differ(place: Workspace) -> None:
    known = record.read(place, "m", "v1")
    assert compare(known, known) == []


def test_what_differs_is_named_by_its_place_with_the_difference_of_numbers(
    place: Workspace,
) -> None:
    left = record.read(place, "m", "v1")
    right = left.model_copy(
        update={
            "size": left.size + 10,
            "scores": {"metric": "auc", "auc": 0.75, "intervals": {"auc": [0.7, 0.8]}},
            "spec": left.spec.model_copy(
                update={
                    "config": {"items": 12},
                    "signature": {"items": ["1", "2"], "categories": 2, "window": 20},
                }
            ),
        }
    )
    found = {row.entry: row for row in compare(left, right)}
    assert list(found) == [
        "config.items",
        "signature.items",
        "size",
        "scores.auc",
        "scores.intervals.auc",
    ]
    assert found["config.items"] == Difference("config.items", 10, 12, 2)
    assert found["signature.items"].difference == "+1 -0"
    assert found["scores.auc"].left == 0.7
    assert found["scores.intervals.auc"] == Difference(
        "scores.intervals.auc", None, [0.7, 0.8], None
    )


def test_a_gate_that_one_of_them_did_not_pass_is_told(place: Workspace) -> None:
    forge.version(place, "m", "v4", failed=True)
    rows = compare(record.read(place, "m", "v1"), record.read(place, "m", "v4"))
    assert Difference("gates.latency.passed", True, False, None) in rows


def test_a_difference_is_of_numbers_and_of_lists_of_plain_values() -> None:
    assert between(1, 3) == 2
    assert between(True, False) is None
    assert between(["a", "b"], ["b", "c", "d"]) == "+2 -1"
    assert between([{}], [{"a": 1}]) is None
    assert between([0.7, 0.8], [0.71, 0.82]) is None  # intervals have no members to come and go
    assert between(None, 1) is None
