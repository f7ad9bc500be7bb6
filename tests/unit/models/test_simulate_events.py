"""Whoever games answers fast, by chance and with help, for as long as the truth says."""

import csv
import json

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models import data, simulate, simulate_events


def test_gaming_is_rapid_is_chance_and_asks_for_help():
    drawn = simulate_events.simulate(students=1500, items=30, seed=1)
    events = drawn.events
    gaming = np.array(
        [state for s in drawn.truth["students"].values() for state in s["gaming"]], bool
    )
    assert len(gaming) == len(events["item"])
    assert 0.02 < gaming.mean() < 0.12
    assert events["response"][gaming].mean() == pytest.approx(1 / 4, abs=0.03)
    assert events["response"][~gaming].mean() > 0.45
    assert np.median(events["seconds"][gaming]) == pytest.approx(2, rel=0.1)
    assert np.median(events["seconds"][~gaming]) == pytest.approx(np.exp(4), rel=0.2)
    assert events["help"][gaming].mean() == pytest.approx(0.5, abs=0.05)
    assert events["help"][~gaming].mean() < 0.1


def test_a_spell_of_gaming_lasts_five_answers_in_the_mean():
    drawn = simulate_events.simulate(students=4000, items=30, seed=2)
    spells = "".join("".join(map(str, s["gaming"])) + "0" for s in drawn.truth["students"].values())
    lengths = [len(spell) for spell in spells.split("0") if spell]
    assert 4 < np.mean(lengths) < 5.2  # the last of a student is cut short


def test_what_is_written_is_what_is_read(tmp_path):
    drawn = simulate_events.simulate(students=20, items=5)
    counts = simulate.write_tables({"answers.csv": drawn.events}, drawn.truth, tmp_path)
    found = data.read(tmp_path)
    assert found.events == counts["answers.csv"]
    with (tmp_path / "answers.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row.keys() == {"student_id", "item", "response", "seconds", "help"}
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert set(truth["students"]) == set(found.students)


@pytest.mark.parametrize("wrong", [{"students": 0}, {"items": 0}, {"options": 1}])
def test_too_few_of_anything_is_refused(wrong):
    with pytest.raises(Invalid, match="too few"):
        simulate_events.simulate(**{"students": 5, "items": 5} | wrong)
