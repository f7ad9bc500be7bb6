"""kt train and kt evaluate warn where held-out answers are too easy, and say so in JSON."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Kt

COPIES = "of answers agree with the one before them as copies do"


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Fifty students and twelve kept for testing; each row of the item 1 has a copy under the item 2."""
    rng = np.random.default_rng(0)
    for name, students in (("train.csv", range(50)), ("test.csv", range(50, 62))):
        rows = ["student_id,item,response"]
        for student in students:
            for item in rng.choice([1, 3, 4, 5], 30):
                response = int(rng.random() < 0.5)
                rows += [
                    f"s{student},{each},{response}" for each in ((1, 2) if item == 1 else (item,))
                ]
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    return tmp_path


def test_copied_rows_are_told_where_a_model_is_trained_and_scored(answers: Path, kt: Kt) -> None:
    out = answers / "m.pt"
    trained = kt("train", "pfa", "--data", str(answers), "--out", str(out), "--json", at=answers)
    (leak,) = trained.result["training"]["leaks"]
    assert leak["kind"] == "copies"
    assert "(item 2 after 1, " in leak["says"]
    assert [leak["says"]] == trained.document["warnings"]

    scored = kt("evaluate", str(out), "--data", str(answers), at=answers)
    assert scored.code == 0
    assert COPIES in scored.err


def test_a_model_is_not_scored_on_what_it_was_trained_on_without_a_word(
    answers: Path, kt: Kt
) -> None:
    out, train, test = (answers / name for name in ("m.pt", "train.csv", "test.csv"))
    assert kt("train", "pfa", "--data", str(train), "--out", str(out), at=answers).code == 0
    seen = kt("evaluate", str(out), "--data", str(train), "--json", at=answers)
    assert [leak["kind"] for leak in seen.result["leaks"]] == ["copies", "seen"]
    assert "the model was trained on these very data: give others" in seen.document["warnings"]
    fresh = kt("evaluate", str(out), "--data", str(test), "--json", at=answers)
    assert [leak["kind"] for leak in fresh.result["leaks"]] == ["copies"]
