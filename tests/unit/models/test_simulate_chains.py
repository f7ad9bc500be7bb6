"""Chains of vectors are what their truth says, and nothing finds more in the bank than the truth does."""

import json

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models import chains, simulate_chains
from kt.models.simulate_chains import Density, simulate, unit


def integral(dimension, u):
    """log M(u), summed finely; but for one factor."""
    r = np.linspace(0, 60, 200_001)[1:]
    return np.log((r ** (dimension - 1) * np.exp(u * r - r**2 / 2)).sum())


def test_topics_follow_one_another():
    drawn = simulate(documents=5, dimension=8, topics=4)
    rng = np.random.default_rng(1)
    _, topics = simulate_chains.draw(drawn.chain, 500, 30, rng)
    follows = (topics[:, 1:] == (topics[:, :-1] + 1) % 4).mean()
    assert follows == pytest.approx(drawn.chain.follow, abs=0.01)
    np.testing.assert_allclose(drawn.chain.moves.sum(1), 1)


def test_the_density_is_the_projected_normals():
    density = Density(6, reach=9.0)
    u = np.array([-7.0, -0.3, 2.0, 8.5])
    exact = np.array([integral(6, each) for each in u])
    np.testing.assert_allclose(density.log(u) - density.log(u)[0], exact - exact[0], atol=1e-3)
    np.testing.assert_allclose(np.log(density.at(u)), density.log(u), atol=0.01)


def test_the_filter_knows_the_topic_after_a_few_vectors():
    drawn = simulate(documents=5, dimension=32, topics=6)
    vectors, topics = simulate_chains.draw(drawn.chain, 1, 40, np.random.default_rng(3))
    reach = (drawn.chain.pull + drawn.chain.keep) / drawn.chain.s
    known = simulate_chains.filtered(drawn.chain, vectors[0], Density(32, reach))
    np.testing.assert_allclose(known.sum(1), 1)
    next_topic = known.argmax(1) == topics[0, 1:]
    assert next_topic[2:].mean() > 0.9


def test_no_other_ranking_finds_more_than_the_truth(tmp_path):
    drawn = simulate(documents=20, topics=5, seed=2)
    counts, truth = simulate_chains.write(drawn, tmp_path)
    held = chains.only_test(chains.read(tmp_path))
    assert held.counts == {"vectors": counts["test.npz"], "documents": 4}
    best = truth[simulate_chains.BEST]
    assert json.loads((tmp_path / "truth.json").read_text()) == truth
    steps = held.steps
    last, followed = held.vectors[steps.to - 1], held.vectors[steps.to]
    chain = drawn.chain
    nearest = unit(chain.pull * chain.topics + chain.keep * last[:, None])  # as if told the topic
    told = nearest[np.arange(len(last)), np.einsum("nkd,nd->nk", nearest, followed).argmax(1)]
    for said in (last, told.astype(np.float32)):
        assert (chains.ranks(said, followed, held.bank) <= 5).mean() < best
    assert best > 0.9


def test_the_mean_of_all_is_near_each_and_finds_none(tmp_path):
    drawn = simulate(documents=20, seed=1)
    usual = unit(drawn.vectors.mean(0))[None].astype(np.float32)
    steps = np.repeat(usual, len(drawn.vectors), 0)
    assert (drawn.vectors @ usual[0]).mean() > 0.7
    assert (chains.ranks(steps, drawn.vectors, drawn.bank) <= 5).mean() < 0.01


def test_the_same_seed_draws_the_same(tmp_path):
    for name in "ab":
        simulate_chains.write(simulate(documents=5, dimension=8), tmp_path / name)
    for file in ("train.npz", "test.npz", "truth.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("wrong", [{"documents": 4}, {"dimension": 1}, {"topics": 1}])
def test_too_few_of_anything_is_refused(wrong):
    with pytest.raises(Invalid, match="too few"):
        simulate(**{"documents": 5} | wrong)
