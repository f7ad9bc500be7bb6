"""The loop: when it stops, what it refuses, what it writes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kt.errors import Invalid, Refused
from kt.models import answers, gpcm, marginal, sakt
from kt.models.data import Data
from kt.models.run import Epoch, Options, finished
from kt.models.train import configure, running_mean, train

TINY = gpcm.SIZES["small"] | {"window": 8}


def students(count=12, answers=6, seed=0, names=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    return Data(
        students=tuple(f"s{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * answers,
        items=rng.integers(len(names), size=count * answers),
        responses=rng.integers(2, size=count * answers),
        folds=np.full(count, -2),
        names=names,
        source="made up",
        sha256=str(seed),
    )


def epochs(*best):
    return [Epoch(n, 1.0, 0.5, is_best, is_best, 0.1) for n, is_best in enumerate(best, 1)]


@pytest.mark.parametrize(
    ("history", "stops"),
    [
        (epochs(), False),
        (epochs(True, False), False),
        (epochs(True, False, False), True),
        (epochs(True, False, True), False),
        (epochs(True, True, True, True, True), True),
    ],
)
def test_it_stops_for_want_of_patience_or_of_epochs(history, stops):
    assert finished(history, Options(epochs=5, patience=2)) is stops


SHARES = SimpleNamespace(
    **{name: getattr(marginal, name) for name in ("Config", "Model", "FORM", "TASK", "METRIC")},
    SIZES={},
    loss=sakt.loss,
)
"""How often each response is given, learnt down a gradient: a step a setting, and nothing by chance."""


def test_with_a_margin_small_gains_do_not_keep_it_going():
    """They add up: what counts is the distance from the last gain. The best epoch is kept all the same."""
    options = Options(epochs=40, patience=3, lr=1e-3)
    patient, strict = (
        train(SHARES, "own", students(60), students(30, seed=1), options=each)
        for each in (options, replace(options, margin=2.0))
    )
    assert len(strict.history) < len(patient.history)
    gained = [epoch.metric for epoch in strict.history if epoch.gained]
    assert gained == sorted(gained, reverse=True)
    best = min(strict.history, key=lambda epoch: epoch.metric)
    assert strict.training["best_epoch"] == best.number
    assert [epoch.best for epoch in strict.history[:2]] == [True, True]


def test_accumulated_batches_make_one_step(monkeypatch):
    """Four batches of 5 in one step are a batch of 20."""
    monkeypatch.setattr(answers, "FORGET", 0)
    data = students(20)
    whole, parts, alone = (
        [epoch.loss for epoch in train(SHARES, "own", data, data, options=options).history]
        for options in (
            Options(epochs=4, batch=20, lr=0.01),
            Options(epochs=4, batch=5, lr=0.01, accumulate=4),
            Options(epochs=4, batch=5, lr=0.01),
        )
    )
    assert parts == pytest.approx(whole, abs=1e-5)
    assert alone[-1] < whole[-1] - 0.001


def test_config_and_vocabulary_come_from_the_data():
    config, signature = configure(sakt, students(), {"d_model": "16", "heads": "2", "window": 9})
    assert (config.items, config.categories, config.window, config.d_model) == (3, 2, 9, 16)
    assert signature.items == ("a", "b", "c")
    assert (signature.categories, signature.window) == (2, 9)


def test_an_item_nobody_answered_is_not_in_the_vocabulary():
    data = students(names=("a", "b", "c"))
    data.items[data.items == 1] = 0
    assert configure(sakt, data, {})[1].items == ("a", "c")


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"depth": 3}, "depth: there is no such setting"), ({"d_model": "wide"}, "d_model")],
)
def test_a_wrong_setting_is_refused_with_those_that_exist(settings, says):
    with pytest.raises(Invalid, match=says) as caught:
        configure(sakt, students(), settings)
    assert "d_model, heads, dropout" in caught.value.do


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(Invalid, match="not a multiple"):
        train(sakt, "sakt", students(), students(), settings={"d_model": 10, "heads": 3})


def test_the_best_epoch_s_weights_are_kept():
    data, valid = students(), students(seed=1)
    trained = train(
        gpcm,
        "gpcm",
        data,
        valid,
        settings=TINY,
        options=Options(epochs=6, patience=6, lr=0.05, batch=4),
    )
    best = min(epoch.metric for epoch in trained.history)
    assert trained.scores.values["nll"] == pytest.approx(best)
    assert trained.training["best_epoch"] == next(
        e.number for e in trained.history if e.metric == best
    )
    assert not trained.model.training


def test_the_mean_of_the_weights_forgets_its_beginning_faster():
    model = torch.nn.Linear(1, 1, bias=False)
    mean = running_mean(model, 0.5)
    for weight in (1.0, 2.0, 4.0):
        torch.nn.init.constant_(model.weight, weight)
        mean.update_parameters(model)
    first = 1.0
    second = first + (1 - 2 / 11) * (2.0 - first)
    assert mean.module.weight.item() == pytest.approx(second + (1 - 3 / 12) * (4.0 - second))


def test_a_loss_that_is_no_number_stops_it_with_the_batch_named(monkeypatch):
    def loss(model, items, responses, lengths):
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr(gpcm, "loss", loss)
    with pytest.raises(Invalid, match="epoch 1, batch 1") as caught:
        train(gpcm, "gpcm", students(), students(), settings=TINY)
    assert "--lr" in caught.value.do


class Killed(Exception):
    pass


def killed(out, data, valid, **options):
    def kill(epoch):
        raise Killed

    with pytest.raises(Killed):
        train(
            gpcm,
            "gpcm",
            data,
            valid,
            settings=TINY,
            options=Options(**options),
            out=out,
            on_epoch=kill,
        )


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 0.5}, {"batch": 3}])
def test_another_run_s_file_is_not_gone_on_from(tmp_path, other):
    out, data = tmp_path / "model.pt", students()
    killed(out, data, data, epochs=3)
    options = replace(Options(epochs=3), **other)
    with pytest.raises(Refused, match="other data or settings"):
        train(gpcm, "gpcm", data, data, settings=TINY, options=options, out=out)
    anew = train(gpcm, "gpcm", data, data, settings=TINY, options=options, out=out, resume=False)
    assert anew.resumed == 0


def test_other_data_is_another_run(tmp_path):
    out = tmp_path / "model.pt"
    killed(out, students(), students(), epochs=3)
    with pytest.raises(Refused, match="other data"):
        train(gpcm, "gpcm", students(seed=5), students(), settings=TINY, out=out)


def test_a_damaged_resume_file_is_refused(tmp_path):
    out, data = tmp_path / "model.pt", students()
    killed(out, data, data, epochs=3)
    beside = tmp_path / "model.pt.resume"
    beside.write_bytes(beside.read_bytes()[:100])
    with pytest.raises(Refused, match="cannot be read"):
        train(gpcm, "gpcm", data, data, settings=TINY, options=Options(epochs=3), out=out)


def test_more_epochs_go_on_from_a_killed_run(tmp_path):
    out, data = tmp_path / "model.pt", students()
    killed(out, data, data, epochs=1)
    trained = train(gpcm, "gpcm", data, data, settings=TINY, options=Options(epochs=3), out=out)
    assert (trained.resumed, len(trained.history)) == (1, 3)


def test_students_with_too_few_answers_are_refused():
    with pytest.raises(Invalid, match="no student has 3 answers"):
        train(gpcm, "gpcm", students(answers=2), students(), settings=TINY)


@pytest.mark.parametrize("family", [sakt, gpcm], ids=["sakt", "gpcm"])
def test_rougher_products_come_to_nearly_the_same(family):
    sizes = family.SIZES["small"] | {"window": 12}

    def losses(precision):
        options = Options(epochs=2, batch=8, precision=precision)
        trained = train(
            family, "f", students(24), students(8, seed=1), settings=sizes, options=options
        )
        assert {value.dtype for value in trained.model.state_dict().values()} == {torch.float32}
        return [epoch.loss for epoch in trained.history]

    fine, rough = losses("float32"), losses("bfloat16")
    assert rough != fine
    assert rough == pytest.approx(fine, rel=0.02)


def test_a_device_that_is_not_here_is_named():
    with pytest.raises(Invalid, match="there is no abacus here") as caught:
        train(
            sakt, "sakt", students(), students(seed=1),
            settings=sakt.SIZES["small"], options=Options(device="abacus"),
        )  # fmt: skip
    assert caught.value.where == "--device"


def test_an_epoch_tells_how_long_the_gradient_was():
    small = sakt.SIZES["small"] | {"window": 12}
    trained = train(
        sakt, "sakt", students(), students(seed=1), settings=small, options=Options(epochs=1)
    )
    (epoch,) = trained.history
    assert epoch.norm > 0
