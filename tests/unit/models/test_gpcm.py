"""The parts of Deep GPCM against their equations written out."""

import pytest
import torch

from kt.models import gpcm
from kt.models.gpcm import strategy, tabled


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
