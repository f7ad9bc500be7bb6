"""What every family in kt/models must do, whatever it is: learn, not see the future, come back from disk."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from kt import plugins
from kt.models import tracing
from kt.models.answers import predict_all
from kt.models.data import Data
from kt.models.family import is_trainable
from kt.models.run import Options
from kt.models.train import train
from kt.registry import checkpoint, load

SEQUENCES = [
    name
    for name in plugins.names("models")
    if is_trainable(load.family(Path(), name)) and load.family(Path(), name).FORM is tracing
]
STEPWISE = [name for name in SEQUENCES if hasattr(load.family(Path(), name), "loss")]
BLIND = {"marginal"}  # looks at no history
OWN_ITEM_ONLY = {"pfa"}  # an answer says nothing about other items
ITEMS = 6
WINDOW = 12


@pytest.fixture(params=SEQUENCES)
def name(request):
    return request.param


@pytest.fixture(params=[2, 4], ids=["binary", "polytomous"])
def model(family, request):
    torch.manual_seed(1)
    sizes = family.SIZES.get("small", {})
    module = family.Model(
        family.Config(items=ITEMS, categories=request.param, window=WINDOW, **sizes)
    )
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def history(model, *lengths, seed=0):
    """Items, responses and lengths of students with so many events."""
    rng = torch.Generator().manual_seed(seed)
    B, T = len(lengths), max(lengths)
    items = torch.randint(1, ITEMS + 2, (B, T), generator=rng)
    responses = torch.randint(0, model.config.categories, (B, T), generator=rng)
    given = torch.tensor(lengths)
    padding = torch.arange(T) >= given.unsqueeze(1)
    return items.masked_fill(padding, 0), responses.masked_fill(padding, 0), given


def predict(model, items, responses, lengths):
    with torch.inference_mode():
        return model(items, responses, lengths).softmax(-1)


def same(after, before):
    """But for the last digit: how a sum is rounded may depend on its neighbours."""
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def constant_students(count=60, answers=10, seed=0):
    """Students who always answer alike, half of them right: only the history can tell."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 2
    return Data(
        students=tuple(f"s{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * answers,
        items=rng.integers(ITEMS, size=count * answers),
        responses=np.repeat(kind, answers),
        folds=np.full(count, -2),
        names=tuple("abcdef"),
        source="constant students",
    )


SMALL = Options(epochs=12, patience=12, batch=8, lr=5e-3)


def test_it_learns_what_only_the_history_can_tell(family, name):
    if name in BLIND | OWN_ITEM_ONLY:
        pytest.skip("it does not carry an answer over to other items")
    data, valid = constant_students(), constant_students(20, seed=1)
    settings = family.SIZES.get("small", {}) | {"window": WINDOW}
    trained = train(family, name, data, valid, settings=settings, options=SMALL)
    assert trained.scores.values["auc"] > 0.95
    assert trained.scores.values["nll"] < 0.4  # a coin's is 0.69


@pytest.mark.parametrize("one_item", [False, True], ids=["items", "one item"])
def test_a_response_moves_later_predictions_and_no_earlier_ones(name, model, one_item):
    items, responses, lengths = history(model, WINDOW)
    if one_item:
        items[:] = 3
    before = predict(model, items, responses, lengths)
    for t in range(WINDOW - 1):
        other = responses.clone()
        other[0, t] = (other[0, t] + 1) % model.config.categories
        after = predict(model, items, other, lengths)
        same(after[0, : t + 1], before[0, : t + 1])
        if name not in BLIND and (one_item or name not in OWN_ITEM_ONLY):
            assert (after[0, t + 1] - before[0, t + 1]).abs().max() > 1e-6


def test_an_item_moves_no_prediction_before_it(model):
    items, responses, lengths = history(model, WINDOW)
    before = predict(model, items, responses, lengths)
    for t in range(WINDOW):
        other = items.clone()
        other[0, t] = other[0, t] % (ITEMS + 1) + 1
        after = predict(model, other, responses, lengths)
        same(after[0, :t], before[0, :t])


def test_serve_says_what_training_saw(model):
    items, responses, lengths = history(model, WINDOW, 5, 1)
    seen = predict(model, items, responses, lengths)
    for b, t in itertools.product(range(3), range(WINDOW)):
        if t >= lengths[b]:
            continue
        with torch.inference_mode():
            served = model.serve(
                items[b : b + 1, : max(t, 1)],
                responses[b : b + 1, : max(t, 1)],
                torch.tensor([t]),
                items[b : b + 1, t : t + 1],
            )
        torch.testing.assert_close(served["probabilities"][0, 0], seen[b, t], atol=1e-5, rtol=0)


def test_an_answer_is_the_same_alone_and_in_a_batch_whatever_the_padding(model):
    items, responses, lengths = history(model, WINDOW, 4, 0)
    asked = torch.tensor([[2, 3, 4], [5, 1, 0], [6, 0, 0]])
    with torch.inference_mode():
        together = model.serve(items, responses, lengths, asked)
        for b, (n, m) in enumerate(zip(lengths.tolist(), (3, 2, 1), strict=True)):
            alone = model.serve(
                items[b : b + 1, : max(n, 1)],
                responses[b : b + 1, : max(n, 1)],
                lengths[b : b + 1],
                asked[b : b + 1, :m],
            )
            for key, values in alone.items():
                torch.testing.assert_close(together[key][b, :m], values[0], atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(model):
    items, responses, lengths = history(model, WINDOW, 4)
    asked = torch.tensor([[2], [3]])
    junk = torch.arange(WINDOW) >= lengths.unsqueeze(1)
    with torch.inference_mode():
        clean = model.serve(items, responses, lengths, asked)["probabilities"]
        dirty = model.serve(
            items.masked_fill(junk, 5), responses.masked_fill(junk, 1), lengths, asked
        )["probabilities"]
    torch.testing.assert_close(dirty, clean, atol=1e-6, rtol=0)


def test_an_unknown_item_is_answered_and_is_not_padding(family, model):
    signature = family.signature(model.config)
    known, unknown = (
        tracing.Request(answers=[{"item": item, "response": 1}], items=["0", "never seen"])
        for item in ("0", "never seen")
    )
    arrays = tracing.collate([known, unknown], signature)
    assert arrays["items"].tolist() == [[tracing.RESERVED], [tracing.UNKNOWN]]
    with torch.inference_mode():
        outputs = model.serve(**{key: torch.from_numpy(array) for key, array in arrays.items()})
    p = outputs["probabilities"].numpy()
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)


def test_an_example_of_every_length_is_answered(family, model):
    signature = family.signature(model.config)
    requests = tracing.example(signature, np.random.default_rng(0), 5)
    arrays = tracing.collate(requests, signature)
    with torch.inference_mode():
        outputs = model.serve(**{key: torch.from_numpy(array) for key, array in arrays.items()})
    answers = tracing.answer(
        {key: value.numpy() for key, value in outputs.items()}, requests, signature
    )
    assert [len(answer) for answer in answers] == [len(request.items) for request in requests]


def test_a_checkpoint_comes_back_bit_for_bit(family, name, tmp_path):
    out = tmp_path / "model.pt"
    data = constant_students(12)
    settings = family.SIZES.get("small", {}) | {"window": WINDOW}
    trained = train(family, name, data, data, settings=settings, options=Options(epochs=2), out=out)
    with checkpoint.opening(out) as (file, source):
        held = checkpoint.read(file, source, out)
    assert held.family == name
    config = family.Config.model_validate(held.config)
    assert config == trained.config
    assert family.FORM.Signature.model_validate(held.signature) == trained.signature
    assert held.scores == trained.summary()
    module = load.fill(family, config, held.tensors, out)
    for key, value in trained.model.state_dict().items():
        assert torch.equal(module.state_dict()[key], value)
    again = predict_all(module, trained.signature, data).probabilities
    assert np.array_equal(again, predict_all(trained.model, trained.signature, data).probabilities)


class Killed(Exception):
    """In place of kill -9: nothing after it runs."""


@pytest.mark.parametrize("name", STEPWISE)
def test_a_killed_run_ends_as_one_that_was_not(name, tmp_path):
    family = load.family(Path(), name)
    data, valid = constant_students(24), constant_students(8, seed=1)
    settings = family.SIZES.get("small", {}) | {"window": WINDOW}
    options = Options.of(family, epochs=4, batch=8)

    def run(out, on_epoch=lambda _: None):
        return train(
            family,
            name,
            data,
            valid,
            settings=settings,
            options=options,
            out=out,
            on_epoch=on_epoch,
        )

    def kill(epoch):
        if epoch.number == 2:
            raise Killed

    straight = run(tmp_path / "straight.pt")
    with pytest.raises(Killed):
        run(tmp_path / "killed.pt", kill)
    assert not (tmp_path / "killed.pt").exists()
    resumed = run(tmp_path / "killed.pt")
    assert resumed.resumed == 2
    assert [e.metric for e in resumed.history] == [e.metric for e in straight.history]
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.pt", "straight.pt"]


def test_serve_is_one_program_for_all_lengths(model):
    """torch.export takes it whole, with batch, history and items asked left open."""

    class Serve(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, items, responses, lengths, asked):
            return self.model.serve(items, responses, lengths, asked)

    items, responses, lengths = history(model, WINDOW, 7, 3)
    asked = torch.tensor([[2, 3], [4, 5], [6, 0]])
    B, T, M = (torch.export.Dim(axis, min=1, max=64) for axis in "BTM")
    program = torch.export.export(
        Serve(),
        (items, responses, lengths, asked),
        dynamic_shapes={
            "items": {0: B, 1: T},
            "responses": {0: B, 1: T},
            "lengths": {0: B},
            "asked": {0: B, 1: M},
        },
    ).module()
    items, responses, lengths = history(model, 9, 1, seed=1)
    asked = torch.tensor([[2], [3]])
    with torch.inference_mode():
        ours = model.serve(items, responses, lengths, asked)
        theirs = program(items, responses, lengths, asked)
    for key, values in ours.items():
        torch.testing.assert_close(theirs[key], values, atol=1e-6, rtol=1e-6)
