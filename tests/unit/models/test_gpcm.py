"""The Deep GPCM families against their equations written out, and against where they begin."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kt.models import answers, fitting, gpcm, gpcm_bayes, gpcm_transformer, irt, simulate
from kt.models.data import Data
from kt.models.partial_credit import strategy
from kt.models.run import Options
from kt.models.tables import tabled
from kt.models.train import configure, train

SMALL = {"d_key": 8, "d_value": 8, "hidden": 8, "slots": 4}
FAMILIES = [(gpcm, SMALL), (gpcm_transformer, {"d_model": 16}), (gpcm_bayes, SMALL)]


def standing(students, items, seed):
    """Students whose abilities stand still, with the abilities: those that are trained on, then a third more."""
    rng = np.random.default_rng(seed)
    K, length = 4, 60
    theta = rng.normal(size=students + students // 3)
    alpha, beta = rng.lognormal(0, 0.3, items), np.sort(rng.normal(size=(items, K - 1)), 1)
    asked = rng.integers(items, size=(len(theta), length))
    given = [
        (rng.random((length, 1)) > p.cumsum(1)[:, :-1]).sum(1)
        for q, t in zip(asked, theta, strict=True)
        for p in [simulate.probabilities(np.full(length, t), alpha[q], beta[q])]
    ]
    data = Data(
        students=tuple(f"s{n}" for n in range(len(theta))),
        offsets=np.arange(len(theta) + 1, dtype=np.int64) * length,
        items=asked.flatten(),
        responses=np.concatenate(given),
        folds=np.full(len(theta), -2),
        names=tuple(str(n) for n in range(items)),
        source="made up",
    )
    first = np.arange(len(theta)) < students
    return data.take(first), data.take(~first), theta[~first]


def batches(signature, data):
    return [step.tensors for step in answers.steps(data, signature, fitting.BATCH, None)]


@pytest.mark.parametrize(
    ("family", "settings"), FAMILIES, ids=["gpcm", "gpcm_transformer", "gpcm_bayes"]
)
def test_a_deep_model_begins_as_its_reference(family, settings):
    data, held_out, _ = standing(60, 10, 0)
    config, signature = configure(family, data, settings)
    model = family.Model(config).eval()
    family.prepare(model, batches(signature, data))
    reference = fitting.fit(irt, *answers.reference(irt, signature), data)
    batch = next(iter(answers.steps(held_out, signature, 8, None))).tensors
    asked = torch.tensor([[2, 5]]).expand(8, -1)
    with torch.inference_mode():
        ours, theirs = (m.serve(*batch, asked) for m in (model, reference))
    for name in ("ability", "discrimination", "steps"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)
    if family is gpcm_bayes:  # it too sums over abilities
        torch.testing.assert_close(
            ours["ability_error"], theirs["ability_error"], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            ours["probabilities"], theirs["probabilities"], atol=2e-3, rtol=0
        )


def test_divergences_are_those_of_normal_distributions():
    mean, sd = torch.linspace(-2, 2, 9), torch.linspace(0.1, 3, 9)
    expected = kl_divergence(Normal(mean, sd), Normal(0.0, 1.0))
    torch.testing.assert_close(gpcm_bayes.divergence(mean, sd), expected)
    head = gpcm_bayes.Model(gpcm_bayes.Config(items=5, categories=4, **SMALL)).head
    with torch.no_grad():
        head.standing.steps.weight.normal_(generator=torch.Generator().manual_seed(0))
        head.item_spread.weight.sub_(1)
    q = Normal(head.means(), head.item_spread.weight.exp())
    prior = Normal(0.0, torch.tensor([0.3, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(head.items_divergence(), kl_divergence(q, prior))


@pytest.mark.slow
def test_the_interval_of_an_ability_holds_it_and_narrows():
    data, held_out, theta = standing(240, 20, 2)
    options = Options(epochs=6)
    trained = train(gpcm_bayes, "gpcm_bayes", data, held_out, settings=SMALL, options=options)
    ((items, responses, _),) = batches(trained.signature, held_out)
    with torch.inference_mode():
        told = trained.model.events(items, responses)
    mean, sd = told["ability"].numpy(), told["ability_error"].numpy()
    inside = np.abs(theta[:, None] - mean) < 1.645 * sd
    assert 0.85 <= inside[:, 5:].mean() <= 0.95
    assert (np.diff(sd.mean(0)[[0, 5, 15, 30, 59]]) < 0).all()


def test_the_strategies_are_the_paper_s():
    assert strategy("unordered", 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert strategy("ordered", 3).tolist() == [[0, 0], [1, 0.5], [1, 1]]
    assert strategy("linear_decay", 3).tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]
    assert torch.equal(strategy("linear_decay", 2), strategy("unordered", 2))


@pytest.mark.parametrize("item_parameters", ["static", "network"])
@pytest.mark.parametrize("embedding", ["linear_decay", "ordered", "unordered"])
def test_probabilities_follow_from_ability_discrimination_and_steps(embedding, item_parameters):
    torch.manual_seed(0)
    config = gpcm.Config(
        items=5, categories=4, embedding=embedding, item_parameters=item_parameters
    )
    model = gpcm.Model(config).eval()
    torch.nn.init.normal_(model.address.weight)
    items, responses = torch.tensor([[2, 3, 4]]), torch.tensor([[0, 3, 1]])
    with torch.inference_mode():
        told = model.serve(items, responses, torch.tensor([3]), torch.tensor([[5, 6]]))
    theta, alpha, beta = (told[name] for name in ("ability", "discrimination", "steps"))
    assert beta.shape == (1, 2, 3)
    steps = alpha.unsqueeze(-1) * (theta.unsqueeze(-1) - beta)
    odds = told["probabilities"][..., 1:].log() - told["probabilities"][..., :-1].log()
    torch.testing.assert_close(odds, steps, atol=1e-5, rtol=1e-5)


def test_static_items_do_not_depend_on_the_history():
    model = gpcm.Model(gpcm.Config(items=5, categories=3)).eval()
    with torch.inference_mode():
        a, b = (
            model.serve(
                torch.tensor([[2, 3]]),
                torch.tensor([[r, r]]),
                torch.tensor([2]),
                torch.tensor([[4]]),
            )
            for r in (0, 2)
        )
    assert torch.equal(a["steps"], b["steps"])
    assert torch.equal(a["discrimination"], b["discrimination"])
    assert not torch.equal(a["ability"], b["ability"])


def test_a_table_gives_what_its_places_would():
    net, table = torch.nn.Linear(3, 2), torch.rand(5, 3)
    few, many = torch.tensor([[4, 1]]), torch.tensor([[4, 1, 4], [0, 2, 2]])
    for places in (few, many):
        (found,) = tabled(lambda x: [net(table[x])], places, len(table))
        direct = net(table[places])
        torch.testing.assert_close(found, direct)
        for x, y in zip(
            *(torch.autograd.grad(z.square().sum(), net.parameters()) for z in (found, direct)),
            strict=True,
        ):
            torch.testing.assert_close(x, y)
