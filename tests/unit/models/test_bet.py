"""BET: orders that matter to the network, and an expectation in which they matter less."""

import pytest
import torch
from pydantic import ValidationError

from kt.models import bet, orders, sakt

SIZES = {"items": 6, "categories": 2, "window": 12, "d_model": 16, "heads": 2}


def made(seed=1, **settings):
    torch.manual_seed(seed)
    model = bet.Model(bet.Config(**SIZES | settings))
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.recency.normal_(0, 3)  # so that an order matters
    return model.eval()


def answers(count=8, T=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    items = torch.randint(2, 8, (count, T), generator=rng)
    responses = torch.randint(0, 2, (count, T), generator=rng)
    return items, responses, torch.full((count,), T), torch.full((count, 1), 3)


def serve(model, *tensors):
    with torch.inference_mode():
        return model.serve(*tensors)


def as_of(model, **settings):
    """The same weights under other settings."""
    other = bet.Model(model.config.model_copy(update=settings))
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_with_sets_of_one_answer_it_is_sakt():
    model = made(exchangeable=1, k=1)
    plain = sakt.Model(sakt.Config(**SIZES))
    plain.load_state_dict(model.state_dict())
    plain.eval()
    items, responses, lengths, asked = answers()
    ours, theirs = (serve(m, items, responses, lengths, asked) for m in (model, plain))
    torch.testing.assert_close(ours["probabilities"], theirs["probabilities"])
    assert set(ours) == {"probabilities", "uncertainty"}  # one order cannot disagree with itself


def test_several_orders_of_sets_of_one_are_refused():
    with pytest.raises(ValidationError, match="k is 1"):
        bet.Config(**SIZES, exchangeable=1, k=3)


def test_the_orders_disagree_and_that_is_what_is_epistemic():
    """Permuted vectors that carry their positions would all say the same."""
    model = made(exchangeable=12, k=5)
    each = torch.stack(
        [
            serve(as_of(model, k=1, orders_seed=seed), *answers())["probabilities"]
            for seed in range(5)
        ]
    )
    assert each.std(0).max() > 0.01
    said = serve(model, *answers())
    assert said["epistemic"].max() > 1e-3
    torch.testing.assert_close(said["uncertainty"], said["aleatoric"] + said["epistemic"])


def test_more_orders_depend_less_on_the_order_that_answers_came_in():
    """The deviation over k orders falls like k^-1/2: a quarter for sixteen times as many."""
    model = made(exchangeable=12)
    items, responses, lengths, asked = answers()

    def spread(k):
        other = as_of(model, k=k)
        shuffled = [
            torch.randperm(8, generator=torch.Generator().manual_seed(n)) for n in range(20)
        ]
        said = [serve(other, items[:, p], responses[:, p], lengths, asked) for p in shuffled]
        return torch.stack([one["probabilities"] for one in said]).std(0).mean()

    assert 0 < spread(32) < 0.4 * spread(2)


def test_an_answer_stays_in_its_set():
    model = made(exchangeable=4, k=20)
    ago = model._ago(model.ranks, torch.tensor([10]), 10)[:, 0, 1:]  # of ten answers, by each order
    for first in (0, 4, 8):
        members = ago[:, first : first + 4].sort().values
        assert (members == members[0]).all()
        assert members[0].tolist() == sorted(range(10 - first, max(6 - first, 0), -1))
    assert (ago[:, :4] != ago[0, :4]).any()


def test_the_orders_are_the_same_in_every_process_and_the_first_for_every_k():
    assert orders.drawn(2, 6, 0).tolist() == [[5, 2, 1, 3, 0, 4], [1, 3, 4, 0, 2, 5]]
    assert torch.equal(orders.drawn(5, 6, 0)[:2], orders.drawn(2, 6, 0))
    assert not torch.equal(orders.drawn(2, 6, 1), orders.drawn(2, 6, 0))


def test_k_is_a_setting_of_the_answer_and_not_of_the_weights():
    assert (
        set(made(k=1).state_dict())
        == set(made(k=7).state_dict())
        == set(sakt.Model(sakt.Config(**SIZES)).state_dict())
    )


def test_training_draws_an_order_for_each_step():
    model = made(exchangeable=12, dropout=0.0).train()
    items, responses, lengths, _ = answers()
    torch.manual_seed(0)
    losses = {bet.loss(model, items, responses, lengths).item() for _ in range(5)}
    assert len(losses) == 5
    torch.manual_seed(0)
    assert bet.loss(model, items, responses, lengths).item() in losses


@pytest.mark.parametrize("K", [2, 5])
def test_the_expectation_splits_uncertainty_into_its_parts(K):
    logits = torch.randn(4, 6, 3, K, generator=torch.Generator().manual_seed(0)) * 2
    found = orders.expectation(logits)
    assert found["probabilities"].shape == (4, 3, K)
    torch.testing.assert_close(found["probabilities"].sum(-1), torch.ones(4, 3))
    assert (found["epistemic"] > 0).all()  # Jensen: the entropy of a mean is above the mean entropy
    alike = orders.expectation(logits[:, :1].expand(-1, 6, -1, -1))
    assert alike["epistemic"].max() < 1e-6
    torch.testing.assert_close(alike["uncertainty"], alike["aleatoric"])


def test_a_sure_answer_has_finite_uncertainty():
    found = orders.expectation(torch.tensor([[[200.0, -200.0]], [[-200.0, 200.0]]])[None, :, 0])
    assert all(value.isfinite().all() for value in found.values())
    assert found["epistemic"] == pytest.approx(0.6931, abs=1e-3)  # each sure, of opposites: log 2
