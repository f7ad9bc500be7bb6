"""What every family that classifies must do, whatever it is: learn, answer alike alone and together, come back from disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kt import plugins
from kt.models import bet_classifier, labelled, tokens
from kt.models.evaluate import evaluate
from kt.models.run import Options
from kt.models.train import train
from kt.registry import checkpoint, load
from kt.registry.gate import Subject
from kt.registry.gates import health
from kt.registry.load import Loaded
from kt.registry.record import Spec

CLASSIFIERS = [name for name in plugins.names("models") if load.family(Path(), name).FORM is tokens]
WINDOW = 8


@pytest.fixture(params=CLASSIFIERS)
def name(request):
    return request.param


@pytest.fixture(params=[2, 4], ids=["binary", "many labels"])
def model(family, request):
    torch.manual_seed(1)
    sizes = family.SIZES.get("small", {})
    module = family.Model(family.Config(tokens=6, labels=request.param, window=WINDOW, **sizes))
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def units(*lengths, seed=0):
    """Tokens and lengths of units with so many."""
    rng = torch.Generator().manual_seed(seed)
    given = torch.randint(1, 8, (len(lengths), max(1, *lengths)), generator=rng)
    n = torch.tensor(lengths)
    return given.masked_fill(torch.arange(given.shape[1]) >= n.unsqueeze(1), 0), n


def told_by_a_token(count, seed=0):
    """Units of which one token in five is the label's own."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=count)
    rows = rng.integers(3, 6, (count, 5))
    rows[np.arange(count), rng.integers(5, size=count)] = label
    return labelled.Data(
        units=tuple(f"u{seed}-{n}" for n in range(count)),
        unit=np.arange(count),
        labels=label,
        offsets=np.arange(count + 1) * 5,
        tokens=rows.ravel(),
        folds=np.full(count, -2),
        names=tuple("abcdef"),
        label_names=("A", "B", "C"),
        source="made up",
    )


def serve(model, *tensors):
    with torch.inference_mode():
        return model.serve(*tensors)


def test_it_learns(family, name):
    settings = family.SIZES.get("small", {}) | {"window": WINDOW}
    options = Options(epochs=12, patience=12, batch=16, lr=5e-3)
    data, valid = told_by_a_token(300), told_by_a_token(100, seed=1)
    trained = train(family, name, data, valid, settings=settings, options=options)
    assert trained.scores.values["accuracy"] > 0.95


def test_an_answer_is_the_same_alone_and_in_a_batch_whatever_the_padding(model):
    given, lengths = units(WINDOW, 3, 0)
    together = serve(
        model, given.masked_fill(given == 0, 5), lengths
    )  # what is there means nothing
    for b, n in enumerate(lengths.tolist()):
        alone = serve(model, given[b : b + 1, : max(n, 1)], lengths[b : b + 1])
        for key, values in alone.items():
            torch.testing.assert_close(together[key][b], values[0], atol=1e-5, rtol=1e-5)


def test_what_is_scored_is_what_is_served(model):
    given, lengths = units(WINDOW, 5, 1, 0)
    with torch.inference_mode():
        scored = model(given, lengths).softmax(-1)
    torch.testing.assert_close(serve(model, given, lengths)["probabilities"], scored)


def test_a_checkpoint_comes_back_bit_for_bit(family, name, tmp_path):
    out = tmp_path / "model.pt"
    data = told_by_a_token(40)
    settings = family.SIZES.get("small", {}) | {"window": WINDOW}
    trained = train(family, name, data, data, settings=settings, options=Options(epochs=1), out=out)
    with checkpoint.opening(out) as (file, source):
        held = checkpoint.read(file, source, out)
    config = family.Config.model_validate(held.config)
    assert config == trained.config
    assert tokens.Signature.model_validate(held.signature) == trained.signature
    module = load.fill(family, config, held.tensors, out)
    again = evaluate(family, module, trained.signature, data)
    np.testing.assert_equal(again.values, trained.scores.values)


def test_an_example_of_every_length_is_answered(family, model):
    signature = family.signature(model.config)
    requests = tokens.example(signature, np.random.default_rng(0), 5)
    arrays = tokens.collate(requests, signature)
    outputs = serve(model, *(torch.from_numpy(array) for array in arrays.values()))
    answers = tokens.answer(
        {key: value.numpy() for key, value in outputs.items()}, requests, signature
    )
    assert [each["label"] in signature.labels for (each,) in answers] == [True] * 5


def test_serve_is_one_program_for_all_lengths(model):
    """torch.export takes it whole, with batch and tokens left open."""

    class Serve(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, tokens, lengths):
            return self.model.serve(tokens, lengths)

    B, T = (torch.export.Dim(axis, min=1, max=64) for axis in "BT")
    program = torch.export.export(
        Serve(), units(WINDOW, 5, 3), dynamic_shapes={"tokens": {0: B, 1: T}, "lengths": {0: B}}
    ).module()
    given, lengths = units(6, 1, seed=1)
    ours = serve(model, given, lengths)
    with torch.inference_mode():
        theirs = program(given, lengths)
    for key, values in ours.items():
        torch.testing.assert_close(theirs[key], values, atol=1e-6, rtol=1e-6)


def test_the_health_gate_tells_its_answers_apart(family, name, model):
    signature = family.signature(model.config)
    spec = Spec(family=name, config={}, form=tokens.__name__, signature={})
    loaded = Loaded(spec, family, tokens, signature, model)
    verdict = health.judge(Subject(name, loaded, Path(), None), None, health.Settings())
    assert verdict.passed, verdict.sentence


def test_orders_that_are_one_order_do_not_pass():
    """Positions given before permuting: every order says the same, and the parts are nothing."""
    torch.manual_seed(1)
    model = bet_classifier.Model(
        bet_classifier.Config(tokens=6, labels=3, window=WINDOW, k=4)
    ).eval()
    model.ranks = model.ranks[:1].expand(4, -1, -1)
    loaded = Loaded(
        Spec(family="bet_classifier", config={}, form=tokens.__name__, signature={}),
        bet_classifier,
        tokens,
        bet_classifier.signature(model.config),
        model,
    )
    verdict = health.judge(Subject("it", loaded, Path(), None), None, health.Settings())
    assert not verdict.passed
    assert "epistemic" in verdict.sentence


def test_one_order_says_no_parts_of_its_uncertainty():
    model = bet_classifier.Model(
        bet_classifier.Config(tokens=6, labels=3, window=WINDOW, k=1)
    ).eval()
    assert set(serve(model, *units(4, 2))) == {"probabilities", "uncertainty"}
