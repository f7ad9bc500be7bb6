"""What every family of next-vector prediction must do: not see the future, serve what training saw, come back from disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kt import plugins
from kt.models import chains, vectors
from kt.models.family import is_incremental, is_trainable
from kt.models.run import Options
from kt.models.simulate_chains import simulate
from kt.models.train import train
from kt.models.warm import Start
from kt.registry import checkpoint, load

FAMILIES = [
    name
    for name in plugins.names("models")
    if is_trainable(load.family(Path(), name)) and load.family(Path(), name).FORM is vectors
]
STEPWISE = [name for name in FAMILIES if hasattr(load.family(Path(), name), "loss")]
D = 8
WINDOW = 12


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def tiny(family):
    """Settings of a network that is quickly asked."""
    sizes = family.SIZES.get("small", {})
    return sizes | ({"hidden": 16, "slots": 8, "layers": 2} if sizes else {}) | {"window": WINDOW}


@pytest.fixture
def model(family):
    torch.manual_seed(1)
    module = family.Model(family.Config(dimension=D, **tiny(family)))
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def context(*lengths, seed=0):
    """Vectors (B, T, D), nought behind each document's, and lengths."""
    rng = torch.Generator().manual_seed(seed)
    given = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths), D, generator=rng)
    return x.masked_fill((torch.arange(max(lengths)) >= given.unsqueeze(1)).unsqueeze(2), 0), given


@pytest.fixture(scope="module")
def documents():
    """Chains of vectors, a fifth of them to stop by."""
    drawn = simulate(documents=60, dimension=D, topics=4)
    data = chains.Data(
        documents=tuple(f"d{n}" for n in range(60)),
        offsets=drawn.offsets,
        vectors=drawn.vectors,
        bank=drawn.bank,
        testing=np.zeros(60, bool),
    )
    valid = np.arange(60) >= 48
    return data.take(~valid), data.take(valid)


def test_no_vector_moves_what_was_said_before_it(model):
    x, lengths = context(WINDOW)
    with torch.inference_mode():
        before = model(x, lengths)
        for t in range(WINDOW):
            other = x.clone()
            other[0, t] = -other[0, t]
            after = model(other, lengths)
            assert torch.equal(after[0, :t], before[0, :t])
            assert (after[0, t] - before[0, t]).abs().max() > 1e-4


def test_serve_says_what_training_saw(model):
    x, lengths = context(WINDOW, 5, 1)
    with torch.inference_mode():
        seen = model(x, lengths)
        for b in range(3):
            for t in range(int(lengths[b])):
                served = model.serve(x[b : b + 1, : t + 1], torch.tensor([t + 1]))["vector"]
                torch.testing.assert_close(served[0], seen[b, t], atol=1e-5, rtol=0)


def test_an_answer_is_the_same_alone_and_in_a_batch_whatever_the_padding(model):
    x, lengths = context(WINDOW, 4, 1)
    padding = (torch.arange(WINDOW) >= lengths.unsqueeze(1)).unsqueeze(2)
    with torch.inference_mode():
        together = model.serve(x.masked_fill(padding, 7.0), lengths)["vector"]
        for b, n in enumerate(lengths.tolist()):
            alone = model.serve(x[b : b + 1, :n], lengths[b : b + 1])["vector"]
            torch.testing.assert_close(together[b], alone[0], atol=1e-5, rtol=1e-5)


def test_only_directions_count_and_an_answer_has_length_one(family):
    model = family.Model(family.Config(dimension=D, **tiny(family)))
    x, lengths = context(WINDOW, 3)
    with torch.inference_mode():
        one, longer = (model.serve(scale * x, lengths)["vector"] for scale in (1, 50))
    torch.testing.assert_close(one, longer, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(2), atol=1e-5, rtol=0)


def test_an_example_of_every_length_is_answered(family, model):
    signature = family.signature(model.config)
    requests = vectors.example(signature, np.random.default_rng(0), 5)
    arrays = vectors.collate(requests, signature)
    with torch.inference_mode():
        outputs = model.serve(**{key: torch.from_numpy(array) for key, array in arrays.items()})
    answers = vectors.answer(
        {key: value.numpy() for key, value in outputs.items()}, requests, signature
    )
    assert [len(answer[0]["vector"]) for answer in answers] == [D] * 5


def test_a_state_that_goes_on_says_what_serve_says(model):
    if not is_incremental(type(model)):
        pytest.skip("it keeps no state")
    x, _ = context(WINDOW, WINDOW)
    with torch.inference_mode():
        state = model.begin(x[:, :3], torch.tensor([3, 2]))
        state = {key: part[[0, 0]] for key, part in state.items()}  # the second had one vector less
        for t in range(3, WINDOW):
            kept = {key: part.clone() for key, part in state.items()}
            state = model.advance(state, x[:1, t].expand(2, -1))
            whole = model.serve(x[:1, : t + 1], torch.tensor([t + 1]))["vector"]
            torch.testing.assert_close(
                model.ask(state)["vector"], whole.expand(2, -1), atol=1e-5, rtol=0
            )
            assert kept.keys() == state.keys()


def test_a_state_begins_after_any_number_of_vectors(model):
    if not is_incremental(type(model)):
        pytest.skip("it keeps no state")
    x, lengths = context(WINDOW, 4, 1)
    with torch.inference_mode():
        said = model.ask(model.begin(x, lengths))["vector"]
        torch.testing.assert_close(said, model.serve(x, lengths)["vector"], atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*assigned during export.*:UserWarning")
def test_serve_is_one_program_for_all_lengths(model):
    """torch.export takes it whole, with batch and length left open up to the window."""

    class Serve(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, vectors, lengths):
            return self.model.serve(vectors, lengths)

    B, T = torch.export.Dim("B", min=1, max=64), torch.export.Dim("T", min=1, max=WINDOW)
    program = torch.export.export(
        Serve(), context(7, 4, 2), dynamic_shapes={"vectors": {0: B, 1: T}, "lengths": {0: B}}
    ).module()
    for lengths in ((9,), (WINDOW, 1), (1,)):
        x, given = context(*lengths, seed=1)
        with torch.inference_mode():
            torch.testing.assert_close(
                program(x, given)["vector"], model.serve(x, given)["vector"], atol=1e-6, rtol=1e-6
            )


@pytest.mark.parametrize("name", STEPWISE)
def test_it_learns_what_follows(name, documents):
    family = load.family(Path(), name)
    options = Options(epochs=10, patience=10, batch=8, lr=1e-2)
    trained = train(family, name, *documents, settings=tiny(family), options=options)
    first, best = trained.history[0].metric, max(epoch.metric for epoch in trained.history)
    assert best > 2 * first
    assert trained.references.gain.is_sure


@pytest.mark.parametrize("name", STEPWISE)
def test_a_warm_start_begins_where_the_other_ended(name, documents, tmp_path):
    family = load.family(Path(), name)
    first = train(
        family, name, *documents, settings=tiny(family), options=Options(epochs=10, lr=1e-2)
    )
    start = Start("short.pt", first.model, first.signature)
    longer = start.settings | {"window": 30}
    warm, cold = (
        train(family, name, *documents, settings=longer, options=Options(epochs=1), start=each)
        for each in (start, None)
    )
    assert warm.signature.window == 30
    assert warm.training["from"] == "short.pt"
    assert warm.history[0].loss < cold.history[0].loss


def test_a_checkpoint_comes_back_bit_for_bit(family, name, documents, tmp_path):
    out = tmp_path / "model.pt"
    trained = train(
        family, name, *documents, settings=tiny(family), options=Options(epochs=1), out=out
    )
    with checkpoint.opening(out) as (file, source):
        held = checkpoint.read(file, source, out)
    config = family.Config.model_validate(held.config)
    assert config == trained.config
    assert vectors.Signature.model_validate(held.signature) == trained.signature
    assert held.scores == trained.summary()
    module = load.fill(family, config, held.tensors, out)
    x, lengths = context(WINDOW, 4)
    with torch.inference_mode():
        ours, theirs = (one.serve(x, lengths)["vector"] for one in (trained.model, module))
    assert torch.equal(ours, theirs)


class Killed(Exception):
    """In place of kill -9: nothing after it runs."""


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_killed_run_ends_as_one_that_was_not(name, accumulate, documents, tmp_path):
    """The queue of negatives too: it comes from the order of the epoch, and that from the seed."""
    family = load.family(Path(), name)
    options = Options(epochs=3, batch=8, accumulate=accumulate)

    def run(out, on_epoch=lambda _: None):
        return train(
            family,
            name,
            *documents,
            settings=tiny(family),
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
    resumed = run(tmp_path / "killed.pt")
    assert resumed.resumed == 2
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value)
