"""The task of classification: how examples are read, split, batched and scored."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch

from kt.errors import Invalid
from kt.models import fitting, labelled, metrics, naive_bayes, simulate_tokens
from kt.models.labelled import Labelled
from kt.models.simulate import write_tables


def written(folder, name="train.csv", rows=(("u1", "spam", "a b"), ("u2", "ham", "b c c"))):
    lines = ["unit,label,tokens", *(",".join(row) for row in rows)]
    (folder / name).write_text("\n".join(lines))
    return folder / name


def made(count=60, seed=0):
    """Units whose label is the token that they hold twice, each with two examples."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=2 * count)
    rows = np.stack([label, label, rng.integers(2, 4, 2 * count)], 1)
    return labelled.Data(
        units=tuple(f"u{n}" for n in range(count)),
        unit=np.arange(2 * count) // 2,
        labels=label,
        offsets=np.arange(2 * count + 1) * 3,
        tokens=rows.ravel(),
        folds=np.full(count, -2),
        names=tuple("abcd"),
        label_names=("A", "B"),
        source="made up",
    )


def test_a_table_is_read_whatever_else_stands_in_it(tmp_path):
    path = tmp_path / "data.csv.gz"
    text = 'label,note,unit,tokens\nspam,x,u2,b a  b\nham,y,u10,\nspam,z,u2,"c"\n'
    path.write_bytes(gzip.compress(text.encode()))
    data = labelled.read(path)
    assert data.units == ("u2", "u10")
    assert data.unit.tolist() == [0, 1, 0]
    assert [data.label_names[k] for k in data.labels] == ["spam", "ham", "spam"]
    assert [data.names[t] for t in data.tokens] == ["b", "a", "b", "c"]
    assert data.offsets.tolist() == [0, 3, 3, 4]
    assert data.counts == {"examples": 3, "units": 2}


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("student_id,item,response\ns,i,1", "unknown form", 1),
        ("unit,label,tokens\nu,spam", "2 columns", 2),
        ("unit,label,tokens\nu,,a", "need a name", 2),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, what, line):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(Invalid, match=what) as refused:
        labelled.read(path)
    assert refused.value.where == f"{path}:{line}"


def test_a_table_without_examples_is_refused(tmp_path):
    with pytest.raises(Invalid, match="no examples"):
        labelled.read(written(tmp_path, rows=()))


def test_a_unit_stays_on_one_side_and_files_called_test_are_kept(tmp_path):
    rows = [(f"u{n % 40}", "ab"[n % 2], "x") for n in range(80)]
    written(tmp_path, rows=rows)
    written(tmp_path, "test.csv", [("v1", "a", "x y"), ("v2", "b", "y")])
    parts = labelled.split(labelled.read(tmp_path))
    assert parts.test.units == ("v1", "v2")
    assert not set(parts.train.units) & set(parts.valid.units)
    assert parts.train.counts["examples"] + parts.valid.counts["examples"] == 80
    assert parts.test.offsets.tolist() == [0, 2, 3]
    everything = labelled.read(tmp_path)
    assert labelled.only_test(everything).units == ("v1", "v2")
    assert len(labelled.without_test(everything).units) == 40


def test_too_few_units_are_refused(tmp_path):
    with pytest.raises(Invalid, match="too few"):
        labelled.split(labelled.read(written(tmp_path)))


def test_every_example_is_in_one_batch_of_a_pass_with_its_label():
    data = made()
    _, signature = labelled.configure(naive_bayes, data, {"window": 2})
    for rng in (None, np.random.default_rng(0)):
        steps = labelled.steps(data, signature, 50, rng)
        seen = [step.tensors for step in steps]
        assert len(steps) == len(seen) == 3
        assert sum(len(labels) for *_, labels in seen) == 120
        assert all(tokens.shape[1] == 2 and (lengths == 2).all() for tokens, lengths, _ in seen)
        if rng is None:  # nothing is forgotten: the first two tokens are the label's
            assert all(bool((tokens == labels[:, None] + 2).all()) for tokens, _, labels in seen)


def test_a_label_that_the_model_lacks_is_refused():
    data = made()
    config, signature = labelled.configure(naive_bayes, data, {})
    narrow = signature.model_copy(update={"labels": ("A", "C")})
    with pytest.raises(Invalid, match="a label is B"):
        labelled.predict(naive_bayes.Model(config), narrow, data)


def test_data_of_one_label_are_refused():
    data = made()
    data.labels[:] = 0
    with pytest.raises(Invalid, match="all its labels are A"):
        labelled.configure(naive_bayes, data, {})


def predicted(p, outcomes):
    n = len(p)
    names = tuple(f"u{place}" for place in range(n))
    return Labelled(names, np.arange(n), np.array(outcomes), np.array(p))


def test_the_scores_by_hand():
    said = predicted(
        [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]], [0, 1, 2, 2]
    )
    scores = {name: metrics.score(name, said) for name in labelled.SCORES}
    assert scores["accuracy"] == 0.5
    assert scores["nll"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.3]).mean())
    assert scores["brier"] == pytest.approx((0.06 + 0.78 + 0.14 + 0.74) / 4)
    assert scores["error_auc"] == 1.0  # the two that are wrong are the two least sure
    assert scores["ece"] == pytest.approx((0.2 + 0.5 + 0.3 + 0.4) / 4)


def test_a_constant_confidence_is_calibrated_and_ranks_nothing():
    """Platt's scaling of a constant gives the error rate: an error of nearly nothing, and of no use."""
    n = 1_000
    said = predicted(np.tile([0.9, 0.1], (n, 1)), np.arange(n) % 10 == 0)
    assert metrics.score("ece", said) < 0.001
    assert metrics.score("error_auc", said) == 0.5


def test_naive_bayes_counts():
    data = made()
    config, signature = labelled.configure(naive_bayes, data, {"smoothing": 1e-9})
    model = fitting.fit(naive_bayes, config, signature, data)
    share = model.log_phi.weight[2:].exp().detach()  # of a, b, c, d among A's tokens and among B's
    np.testing.assert_allclose(share[:2], [[2 / 3, 0], [0, 2 / 3]], atol=1e-6)
    np.testing.assert_allclose(share.sum(0), 1, atol=1e-6)
    said = labelled.predict(model, signature, data)
    assert metrics.score("accuracy", said) == 1
    p = model.serve(torch.tensor([[1, 1]]), torch.tensor([2]))["probabilities"].detach()
    np.testing.assert_allclose(
        p[0], model.log_share.exp().detach(), atol=1e-6
    )  # unknown tokens say nothing


def test_simulated_units_are_read_and_their_truth_holds(tmp_path):
    drawn = simulate_tokens.simulate(units=1_500, labels=3, seed=1)
    counts = write_tables({"train.csv": drawn.train, "test.csv": drawn.test}, drawn.truth, tmp_path)
    assert counts == {"train.csv": 1_000, "test.csv": 500}
    data = labelled.read(tmp_path)
    held_out = labelled.only_test(data)
    p = np.array([drawn.truth["test_probabilities"][name] for name in held_out.units])
    truth = Labelled(held_out.units, held_out.unit, held_out.labels, p)
    assert metrics.score("nll", truth) == pytest.approx(drawn.truth["test_nll_of_the_truth"])
    assert metrics.score("accuracy", truth) > 0.8
    assert metrics.score("ece", truth) < 0.06  # of 500, by chance
    config, signature = labelled.configure(naive_bayes, data, {})
    counted = fitting.fit(naive_bayes, config, signature, labelled.without_test(data))
    assert metrics.score("accuracy", labelled.predict(counted, signature, held_out)) < 0.45


@pytest.mark.parametrize("wrong", [{"units": 2, "labels": 3}, {"units": 9, "labels": 1}])
def test_too_few_to_simulate_are_refused(wrong):
    with pytest.raises(Invalid, match="too few"):
        simulate_tokens.simulate(**wrong)


def test_examples_that_were_trained_on_are_told():
    rng = np.random.default_rng(0)

    def drawn(names):
        n = len(names)
        return replace(
            made(n),
            units=names,
            offsets=np.arange(2 * n + 1) * 30,
            tokens=rng.integers(4, size=n * 60),
        )

    train, held_out = (drawn(tuple(f"{of}{n}" for n in range(20))) for of in "uv")
    assert labelled.leaks(None, held_out) == labelled.leaks(train, held_out) == []
    copied = replace(held_out, tokens=np.concatenate([train.tokens[:60], held_out.tokens[60:]]))
    (leak,) = labelled.leaks(train, copied)
    assert (leak.kind, leak.count, leak.of) == ("twins", 2, 40)
    same = replace(held_out, units=(*held_out.units[:-1], "u3"))
    (leak,) = labelled.leaks(train, same)
    assert leak.says.startswith("1 of 20 held-out units are among those trained on (u3, ...)")


def test_the_floor_knows_how_often_a_label_is_meant():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.6, 0.4]])
    floor = labelled.floor(Labelled(("u",), np.zeros(4, int), np.array([0, 0, 0, 1]), p))
    np.testing.assert_allclose(floor.probabilities, [[4 / 6, 2 / 6]] * 4)
