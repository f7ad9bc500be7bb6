"""A family that has `advance` says the same from a state as from the whole history."""

import importlib
from pathlib import Path

import pytest
import torch

from kt import plugins
from kt.models import gpcm, sakt, tracing
from kt.models.family import is_incremental
from kt.models.recurrence import tier
from kt.registry import load

ITEMS = 6
WINDOW = 8
INCREMENTAL = [
    name
    for name in plugins.names("models")
    if is_incremental(load.family(Path(), name).Model) and load.family(Path(), name).FORM is tracing
]


COMPILED = ["gpcm", "sakt"]


@pytest.fixture(params=[*INCREMENTAL, *(f"{name}, compiled" for name in COMPILED)])
def name(request, monkeypatch):
    """Every family with its steps in torch, and those that have them with compiled ones."""
    name, _, way = request.param.partition(", ")
    if way:
        pytest.importorskip("numba", reason="pip install 'kt[fast]'")
        tier()
    monkeypatch.setattr("kt.models.compiled.compiles", lambda: bool(way))
    return name


@pytest.fixture(params=[2, 4], ids=["binary", "polytomous"])
def model(name, request):
    torch.manual_seed(1)
    family = load.family(Path(), name)
    config = family.Config(
        items=ITEMS, categories=request.param, window=WINDOW, **family.SIZES.get("small", {})
    )
    module = family.Model(config)
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


@pytest.mark.parametrize("family", [gpcm, sakt])
def test_compiled_steps_that_say_something_else_are_not_taken(family, monkeypatch):
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    tier()
    steps = importlib.import_module(f"{family.__name__}_steps").Steps
    right = steps.ask
    monkeypatch.setattr(
        steps, "ask", lambda *given: {name: x + 1e-3 for name, x in right(*given).items()}
    )
    module = family.Model(family.Config(items=ITEMS, window=WINDOW)).eval()
    here = torch.device("cpu")
    with torch.inference_mode(), pytest.warns(RuntimeWarning, match="off by 0.001"):
        assert module.steps(here) is None
    monkeypatch.undo()
    with torch.inference_mode():
        assert module.steps(here) is None  # it was looked at once
        module.requires_grad_(False)
        next(module.parameters()).add_(0)
        assert isinstance(module.steps(here), steps)


def answers(model, *shape, seed=0):
    """Items, some of them unknown, and responses."""
    rng = torch.Generator().manual_seed(seed)
    items = torch.randint(1, ITEMS + 2, shape, generator=rng)
    return items, torch.randint(0, model.config.categories, shape, generator=rng)


def served(model, items, responses, asked):
    """What serve says after the last answers of one student (T,), as many as the window takes."""
    items, responses = items[-WINDOW:], responses[-WINDOW:]
    T = len(items)
    if not T:
        items = responses = torch.zeros(1, dtype=torch.int64)
    return model.serve(items[None], responses[None], torch.tensor([T]), asked[None])


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        torch.testing.assert_close(found[key], values, atol=1e-5, rtol=1e-5)


def padded(*rows):
    T = max(1, *map(len, rows))
    return torch.stack([torch.nn.functional.pad(row, (0, T - len(row))) for row in rows])


def test_the_families_that_have_states():
    """Not bet, whose serve is another than that of sakt, from which it inherits."""
    assert INCREMENTAL == ["gpcm", "gpcm_bayes", "irt", "sakt"]


def test_a_state_says_what_serve_says_at_every_length_and_beyond_the_window(model):
    items, responses = answers(model, 3 * WINDOW)
    asked = torch.tensor([2, 1, ITEMS + 1])
    with torch.inference_mode():
        nothing = torch.zeros((1, 1), dtype=torch.int64)
        state = model.begin(nothing, nothing, torch.tensor([0]))
        for t in range(3 * WINDOW + 1):
            wanted = served(model, items[:t], responses[:t], asked)
            assert_equal(model.ask(state, asked[None]), wanted)
            if t < 3 * WINDOW:
                state = model.advance(state, items[t : t + 1], responses[t : t + 1])


def test_students_of_any_lengths_advance_together(model):
    lengths = [0, 3, WINDOW - 1, WINDOW]
    rows = [answers(model, n, seed=n) for n in lengths]
    asked = torch.tensor([[2, 3]] * len(rows))
    with torch.inference_mode():
        items, responses = (padded(*column) for column in zip(*rows, strict=True))
        state = model.begin(items, responses, torch.tensor(lengths))
        for step in range(WINDOW + 2):
            told = model.ask(state, asked)
            for b, (items, responses) in enumerate(rows):
                wanted = served(model, items, responses, asked[b])
                assert_equal({key: values[b : b + 1] for key, values in told.items()}, wanted)
            new = answers(model, len(rows), seed=100 + step)
            state = model.advance(state, *new)
            rows = [
                tuple(torch.cat([old, one[b : b + 1]]) for old, one in zip(row, new, strict=True))
                for b, row in enumerate(rows)
            ]


def test_a_state_is_the_same_after_a_thousand_answers(model):
    items, responses = answers(model, 1000)
    with torch.inference_mode():
        state = model.begin(items[None, :WINDOW], responses[None, :WINDOW], torch.tensor([WINDOW]))
        for t in range(WINDOW, 1000):
            state = model.advance(state, items[t : t + 1], responses[t : t + 1])
        asked = torch.tensor([2, 3])
        assert_equal(model.ask(state, asked[None]), served(model, items, responses, asked))


def test_a_state_is_left_as_it_was(model):
    """Two requests may go on from one state."""
    items, responses = answers(model, 1, WINDOW)
    with torch.inference_mode():
        state = model.begin(items, responses, torch.tensor([WINDOW]))
        before = {key: values.clone() for key, values in state.items()}
        model.advance(state, items[:, 0], responses[:, 0])
    for key, values in before.items():
        assert torch.equal(state[key], values)


def test_a_state_does_not_grow_beyond_the_window(model):
    items, responses = answers(model, 4 * WINDOW)
    sizes = set()
    with torch.inference_mode():
        state = model.begin(items[None, :WINDOW], responses[None, :WINDOW], torch.tensor([WINDOW]))
        for t in range(WINDOW, 4 * WINDOW):
            state = model.advance(state, items[t : t + 1], responses[t : t + 1])
            sizes.add(sum(values.nbytes for values in state.values()))
    assert len(sizes) == 1
