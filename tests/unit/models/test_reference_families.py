"""The families that are fitted at once, against their equations worked out another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kt.models import best_lr, fitting, irt, logistic, marginal, pfa, simulate
from kt.models.answers import predict
from kt.models.data import Data
from kt.models.metrics import score
from kt.models.tracing import RESERVED, UNKNOWN
from kt.models.train import configure


def data_of(histories, items):
    """Data of students given as (items, responses)."""
    lengths = [len(given) for given, _ in histories]
    return Data(
        students=tuple(f"s{n}" for n in range(len(histories))),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate([given for given, _ in histories]).astype(np.int64),
        responses=np.concatenate([responses for _, responses in histories]).astype(np.int64),
        folds=np.full(len(histories), -2),
        names=tuple(str(n) for n in range(items)),
        source="made up",
    )


def fitted(family, data):
    config, signature = configure(family, data, {})
    return fitting.fit(family, config, signature, data), signature


def serve(model, items, responses, asked):
    """One student's answers and the items asked, as rows of the tables."""
    history = [items or [0], responses or [0]]
    with torch.inference_mode():
        return model.serve(
            *(torch.tensor([values]) for values in history),
            torch.tensor([len(items)]),
            torch.tensor([asked]),
        )


@pytest.fixture(scope="module")
def published():
    """synthetic_500_200_4: what is trained on, what is tested on, and the truth."""
    drawn = simulate.published()
    parts = drawn.students[: -drawn.testing], drawn.students[-drawn.testing :]
    return *(data_of(part, 200) for part in parts), drawn.truth


def test_marginals_are_smoothed_shares():
    data = data_of([([0, 0, 0, 1], [1, 1, 0, 0]), ([1], [0])], 2)
    model, _ = fitted(marginal, data)
    p = serve(model, [], [], [RESERVED, RESERVED + 1, UNKNOWN])["probabilities"][0, :, 1]
    usual = (2 + 1) / (5 + 2)
    expected = [(2 + 5 * usual) / (3 + 5), (0 + 5 * usual) / (2 + 5), usual]
    np.testing.assert_allclose(p, expected, rtol=1e-6)


def test_the_ability_is_the_mean_of_the_posterior():
    rng = np.random.default_rng(0)
    model = irt.Model(irt.Config(items=30, categories=3)).eval()
    with torch.no_grad():
        model.log_discrimination.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        model.steps.weight.normal_(generator=torch.Generator().manual_seed(2))
    alpha = model.log_discrimination.weight.exp()[:, 0].detach().double().numpy()
    beta = model.steps.weight.detach().double().numpy()
    items, responses = rng.integers(2, 32, 40), rng.integers(3, size=40)
    for n in (0, 1, 40):
        theta = np.linspace(-8, 8, 4001)
        posterior = np.exp(-(theta**2) / 2)
        for item, response in zip(items[:n], responses[:n], strict=True):
            p = simulate.probabilities(
                theta, np.full(4001, alpha[item]), np.tile(beta[item], (4001, 1))
            )
            posterior *= p[:, response]
        posterior /= posterior.sum()
        mean = posterior @ theta
        told = serve(model, items[:n].tolist(), responses[:n].tolist(), [5])
        assert told["ability"].item() == pytest.approx(mean, abs=1e-3)
        spread = math.sqrt(posterior @ (theta - mean) ** 2)
        assert told["ability_error"].item() == pytest.approx(spread, abs=1e-3)
        p = simulate.probabilities(theta, np.full(4001, alpha[5]), np.tile(beta[5], (4001, 1)))
        np.testing.assert_allclose(told["probabilities"][0, 0], posterior @ p, atol=1e-4)


def test_irt_finds_the_items_that_answers_were_drawn_from(published):
    train, test, truth = published
    model, signature = fitted(irt, train)
    places = [int(name) + 1 for name in signature.items]  # the truth counts items from 1
    theta = np.array([truth["students"][f"s{n}"]["ability"] for n in range(1, 401)])
    # the scale is that of these students, whose abilities are nearly, not quite, standard normal
    alpha = theta.std() * np.array([truth["items"][str(n)]["discrimination"] for n in places])
    beta = (
        np.array([truth["items"][str(n)]["steps"] for n in places]) - theta.mean()
    ) / theta.std()
    ours = model.log_discrimination.weight.exp()[RESERVED:, 0].detach().numpy()
    steps = model.steps.weight[RESERVED:].detach().numpy()
    assert np.corrcoef(ours, alpha)[0, 1] > 0.9
    assert np.corrcoef(steps.ravel(), beta.ravel())[0, 1] > 0.95
    assert abs(ours.mean() - alpha.mean()) < 0.05
    assert abs(steps.mean() - beta.mean()) < 0.1
    events = predict(model, signature, test)
    assert score("nll", events) < 0.980  # 0.972 is what the true items would reach
    assert score("accuracy", events) > 0.559


def test_irt_takes_items_of_different_categories_and_an_unknown_item():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=80)
    asked = np.tile(np.arange(6), (80, 1))
    most = np.array([1, 1, 1, 3, 3, 3])
    given = np.clip(np.rint(theta[:, None] + rng.normal(size=(80, 6)) + most / 2), 0, most)
    model, _ = fitted(irt, data_of(list(zip(asked, given, strict=True)), 6))
    p = serve(model, [], [], [RESERVED, RESERVED + 3, UNKNOWN])["probabilities"][0]
    assert p[0, 2:].sum() < 0.05
    assert p[1, 2:].sum() > 0.3
    assert torch.isfinite(p).all()


def test_pfa_is_its_equation():
    model = pfa.Model(pfa.Config(items=2))
    with torch.no_grad():
        model.intercepts.weight[RESERVED] = 0.5
        model.slopes.weight[RESERVED] = torch.tensor([0.3, -0.2])
    p = serve(model, [2, 3, 2, 2], [1, 1, 0, 1], [2])["probabilities"][0, 0, 1].item()
    logit = 0.5 + 0.3 * math.log(1 + 2) - 0.2 * math.log(1 + 1)
    assert p == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def test_best_lr_is_its_equation():
    model = best_lr.Model(best_lr.Config(items=2))
    with torch.no_grad():
        model.intercepts.weight[RESERVED] = 0.5
        model.slopes.weight[RESERVED] = torch.tensor([0.3, -0.2])
        model.totals.copy_(torch.tensor([0.7, -0.4]))
    p = serve(model, [2, 3, 2, 2], [1, 1, 0, 1], [2])["probabilities"][0, 0, 1].item()
    logit = 0.5 + 0.3 * math.log(3) - 0.2 * math.log(2) + 0.7 * math.log(4) - 0.4 * math.log(2)
    assert p == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


@pytest.mark.parametrize("family", [pfa, best_lr])
def test_the_fit_is_where_the_gradient_vanishes(family, published):
    """Autograd's gradient of the penalized likelihood, which the fit never looks at."""
    train = published[0].take(np.arange(60))
    model, signature = fitted(family, train)
    model.double()
    rows = torch.from_numpy(train.rows(signature))
    nll = torch.zeros((), dtype=torch.float64)
    for begin, end in zip(train.offsets[:-1], train.offsets[1:], strict=True):
        items = rows[begin:end].unsqueeze(0)
        responses = torch.from_numpy(train.responses[begin:end]).unsqueeze(0)
        x = model.history(items, responses).double()
        nll = nll + torch.nn.functional.cross_entropy(
            model.logits(items, x)[0], responses[0], reduction="sum"
        )
    for table, spread in (
        (model.intercepts.weight, logistic.PRIOR_INTERCEPT),
        (model.slopes.weight, logistic.PRIOR_SLOPE),
    ):
        nll = nll + ((table - table[UNKNOWN].detach()) / spread).square().sum() / 2
    gradients = torch.autograd.grad(nll, list(model.parameters()))
    for gradient in gradients:
        assert gradient.abs().max() < 0.01  # of thousands of answers


@given(
    st.lists(st.tuples(st.integers(2, 4), st.integers(0, 2)), max_size=9),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_counts_are_those_of_a_plain_loop(answers, asked):
    model = best_lr.Model(best_lr.Config(items=3, categories=3))
    items, responses = [item for item, _ in answers], [response for _, response in answers]
    arrays = (torch.tensor([values or [0]]) for values in (items, responses))
    seen = torch.ones(1, len(asked), max(1, len(answers)), dtype=torch.bool) & bool(answers)
    x = model.counted(*arrays, torch.tensor([asked]), seen)[0]
    for place, item in enumerate(asked):
        won = [response / 2 for response in responses]
        own = [w for w, of in zip(won, items, strict=True) if of == item]
        counts = [sum(own), len(own) - sum(own), sum(won), len(won) - sum(won)]
        np.testing.assert_allclose(x[place], np.log1p(counts), atol=1e-6)


@pytest.mark.parametrize("family", [marginal, irt, pfa, best_lr])
def test_a_single_answer_each_is_enough_to_fit(family):
    data = data_of([([0], [1]), ([1], [0]), ([0], [1])], 2)
    model, _ = fitted(family, data)
    p = serve(model, [], [], [RESERVED, RESERVED + 1])["probabilities"][0, :, 1]
    assert p[0] > p[1]


@pytest.mark.parametrize("family", [marginal, irt, pfa, best_lr])
def test_a_fit_repeats_bit_for_bit(family, published):
    train = published[0].take(np.arange(30))
    (one, _), (two, _) = fitted(family, train), fitted(family, train)
    for key, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[key], value)
