"""What a family tells of its items, and drift as a fitted model sees it."""

import numpy as np
import pytest
import torch

from kt.errors import Invalid
from kt.models import data as room
from kt.models import fitting, gpcm, irt, items, sakt, simulate_irt
from kt.models.answers import configure
from kt.models.simulate import write_tables


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """IRT fitted on the first of two periods; signature, both periods, truth."""
    drawn = simulate_irt.simulate(students=800, items=40, seed=2)
    folder = tmp_path_factory.mktemp("periods")
    write_tables({"before.csv": drawn.before, "after.csv": drawn.after}, drawn.truth, folder)
    before, after = (room.read(folder / name) for name in ("before.csv", "after.csv"))
    config, signature = configure(irt, before, {})
    return fitting.fit(irt, config, signature, before), signature, before, after, drawn.truth


def test_difficulties_and_discriminations_are_those_of_the_truth(fitted):
    model, signature, _, _, truth = fitted
    rows = items.parameters(irt, model, signature)
    assert [row["item"] for row in rows] == list(signature.items)
    for name, least in (("difficulty", 0.98), ("discrimination", 0.9)):
        true = [truth["items"][row["item"]][name] for row in rows]
        assert np.corrcoef([row[name] for row in rows], true)[0, 1] > least


def test_a_standard_error_is_as_far_as_difficulties_are_from_the_truth(fitted):
    model, signature, before, _, truth = fitted
    error, answers = items.errors(irt, model, signature, before)
    rows = items.parameters(irt, model, signature)
    off = np.array([row["difficulty"] - truth["items"][row["item"]]["difficulty"] for row in rows])
    z = (off - off.mean()) / error
    assert 0.6 < z.std() < 1.6
    assert answers.sum() == (np.diff(before.offsets) - 1).sum()  # all but first answers


def test_what_drifted_is_found_and_the_population_is_no_drift(fitted):
    model, signature, before, after, truth = fitted
    rows = items.drift(irt, model, signature, before, after)
    truth = truth["items"]
    moved = {row["item"]: row for row in rows if truth[row["item"]]["drift"]}
    found = {row["item"] for row in rows if row["verdict"] == "drifted"}
    assert found <= set(moved)
    for name, row in moved.items():
        logits = truth[name]["drift"] * truth[name]["discrimination"]
        assert row["shift"] == pytest.approx(logits, abs=4 * row["error"])
        assert name in found or abs(logits) < row["smallest"]
    assert found
    still = np.array([row["z"] for row in rows if row["item"] not in moved])
    assert still.std() == pytest.approx(1, abs=0.35)


def test_items_that_nobody_answered_are_left_out(fitted):
    model, signature, before, _, _ = fitted
    keep = before.take(np.array([0]))
    rows = items.drift(irt, model, signature, keep, keep)
    assert len(rows) == len(set(keep.items[1:].tolist()))
    assert all(row["verdict"] == "unknown" and row["q"] is None for row in rows)


def test_graded_items_have_their_steps_too():
    model = gpcm.Model(gpcm.Config(items=2, categories=3, **gpcm.SIZES["small"]))
    with torch.no_grad():
        model.head.standing.steps.weight[2] = torch.tensor([-1.0, 2.0])
    rows = items.parameters(gpcm, model, gpcm.signature(model.config))
    assert rows[0] == {"item": "0", "difficulty": 0.5, "discrimination": 1.0, "steps": [-1.0, 2.0]}


def test_a_family_without_parameters_of_items_says_so():
    sizes = sakt.Config(items=2, **sakt.SIZES["small"])
    with pytest.raises(Invalid, match="no parameters of its items"):
        items.parameters(sakt, sakt.Model(sizes), sakt.signature(sizes))
    network = gpcm.Config(items=2, item_parameters="network", **gpcm.SIZES["small"])
    with pytest.raises(Invalid, match="no parameters of its items"):
        items.parameters(gpcm, gpcm.Model(network), gpcm.signature(network))
