"""What guides, papers and repositories got wrong, each as a small family: a gate refuses it and says why.

Most leave no trace in the weights and none in a loss that falls as it should.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Kt
from torch import Tensor, nn
from torch.nn import functional as F

from kt import plugins
from kt.errors import Invalid
from kt.models import gpcm, memory_gru, naive_bayes, sakt, tokens, tracing, vectors
from kt.registry import checkpoint, load
from kt.registry.gate import Subject
from kt.registry.gates import causality, finite, health, likelihood
from kt.registry.load import Loaded
from kt.registry.record import Spec, Verdict

ITEMS, CATEGORIES, WINDOW = 8, 4, 16
VOCABULARIES = {
    tracing.__name__: {"items": ITEMS, "categories": CATEGORIES},
    tokens.__name__: {"tokens": 12, "labels": 3},
    vectors.__name__: {"dimension": 6},
}


def family(base: ModuleType, **changes: Any) -> Any:
    """A family of one's own: `base` but for these names."""
    return SimpleNamespace(**vars(base) | changes)


def judged(
    gate: ModuleType, of: Any, prepare: Callable[[nn.Module], None] = lambda _: None, **scores: Any
) -> Verdict:
    """What a gate says of a fresh model of the family, its parameters moved away from a constructor's."""
    torch.manual_seed(0)
    config = of.Config(**VOCABULARIES[of.FORM.__name__], **of.SIZES.get("small", {}), window=WINDOW)
    model = of.Model(config).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    prepare(model)
    signature = of.signature(config)
    spec = Spec(family="mine", config=config.model_dump(), form=tracing.__name__, signature={})
    loaded = Loaded(spec, of, of.FORM, signature, model)
    subject = Subject("mine.pt", loaded, Path("mine.pt"), None, scores)
    verdict: Verdict = gate.judge(subject, None, gate.Settings())
    return verdict


def refused(verdict: Verdict, why: str) -> None:
    assert not verdict.passed, verdict.sentence
    assert why in verdict.sentence


@pytest.mark.parametrize("name", plugins.names("models"))
@pytest.mark.parametrize("gate", [finite, causality, health, likelihood])
def test_what_kt_brings_passes(name: str, gate: ModuleType) -> None:
    of = load.family(Path(), name)
    if of.FORM.__name__ not in VOCABULARIES:
        pytest.skip("its gates have nothing to ask")
    verdict = judged(gate, of)
    assert verdict.passed, verdict.sentence


# Losses


def test_softmax_twice() -> None:
    """Deep-GPCM's guide: cross-entropy of probabilities. It cannot fall under ln(1 + 3/e) = 0.744."""

    def loss(model: Any, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        p = model(items, responses, lengths).softmax(-1)
        event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
        return F.cross_entropy(p[event], responses[event], reduction="sum")

    refused(judged(likelihood, family(gpcm, loss=loss)), "its loss applies softmax twice: p = 0.")


def test_softmax_twice_where_forward_gives_probabilities() -> None:
    class Model(gpcm.Model):
        def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(items, responses, lengths).softmax(-1)

    verdict = judged(likelihood, family(gpcm, Model=Model))
    refused(verdict, "its forward gives probabilities where logits belong")


@pytest.mark.parametrize("kept", [1, 4])
def test_only_the_first_four_answers(kept: int) -> None:
    """Deep-GPCM's guide: a loss over min(4, T) steps of every student."""

    def loss(model: Any, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        return gpcm.loss(model, items[:, :kept], responses[:, :kept], lengths.clamp(max=kept))

    verdict = judged(likelihood, family(gpcm, loss=loss))
    refused(verdict, f"its loss looks at {kept} of 12 answers")


def test_a_mean_over_the_batch() -> None:
    def loss(model: Any, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        return sakt.loss(model, items, responses, lengths) / lengths.sum()

    refused(judged(likelihood, family(sakt, loss=loss)), "its loss is a mean, not a sum")


def test_padding_counted_as_a_response() -> None:
    def loss(model: Any, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        logits = model(items, responses, lengths)
        return F.cross_entropy(logits.flatten(0, 1), responses.flatten(), reduction="sum")

    refused(
        judged(likelihood, family(sakt, loss=loss)), "its loss counts what stands in the padding"
    )


def test_terms_of_its_own_are_no_mistake() -> None:
    """Ordinal terms, label smoothing, a penalty."""

    def loss(model: Any, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        logits = model(items, responses, lengths)
        event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
        p = logits[event].softmax(-1)
        far = (p @ torch.arange(float(CATEGORIES)) - responses[event]) ** 2
        nll = F.cross_entropy(logits[event], responses[event], reduction="sum", label_smoothing=0.1)
        return nll + 0.5 * far.sum() + 3.0

    assert judged(likelihood, family(gpcm, loss=loss)).passed


# What a model sees


class QuestionsOnly(nn.Module):
    """Deep-GPCM's "simplified transformer": question embeddings, no responses, no positions, no mask."""

    def __init__(self, config: sakt.Config) -> None:
        super().__init__()
        self.config = config
        self.item = nn.Embedding(config.items + tracing.RESERVED, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True, dropout=0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, config.categories)

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.item(items)))
        return logits

    def serve(
        self, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
    ) -> dict[str, Tensor]:
        rows = [
            self(torch.cat([items, asked[:, m : m + 1]], 1), responses, lengths)[:, -1]
            for m in range(asked.shape[1])
        ]
        return {"probabilities": torch.stack(rows, 1).softmax(-1)}


def test_a_transformer_of_questions_only() -> None:
    refused(judged(causality, family(sakt, Model=QuestionsOnly)), "it ignores what was answered")


def test_a_family_may_say_that_it_is_blind() -> None:
    class Model(QuestionsOnly):
        def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
            logits: Tensor = self.head(self.item(items))
            return logits

    verdict = judged(causality, family(sakt, Model=Model, BLIND=True))
    assert verdict.passed
    assert verdict.sentence == "looks at no history, as its family says"


class Shifted(sakt.Model):
    """SAKT whose training attends to `ahead` answers more than it may."""

    ahead = 0

    def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        T = items.shape[1]
        keys, values = self._history(items, responses)  # key j is the event j - 1
        ago = torch.arange(T).unsqueeze(1) - torch.arange(T + 1)
        bias = self._bias((ago + 1).clamp(min=0)).masked_fill(ago < -self.ahead, -math.inf)
        return self._answer(items, keys, values, bias.unsqueeze(0))


@pytest.mark.parametrize(
    ("ahead", "what"),
    [
        (1, "in training it sees the very answer that it predicts: another one at step 1 moves its prediction of step 1"),
        (WINDOW, "in training it sees what is answered later: another one at step 2 moves its prediction of step 1"),
    ],
    ids=["off by one", "no mask"],
)  # fmt: skip
def test_a_mask_that_lets_answers_through(ahead: int, what: str) -> None:
    leaky = type("Model", (Shifted,), {"ahead": ahead})
    refused(judged(causality, family(sakt, Model=leaky)), what)
    assert judged(causality, family(sakt, Model=Shifted)).passed


def test_reading_after_writing() -> None:
    """A memory network that reads what the answer to be predicted has just written."""

    class Model(gpcm.Model):
        def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
            told = [
                self.events(
                    torch.cat([items[:, : t + 1], items[:, t : t + 1]], 1),
                    torch.cat([responses[:, : t + 1], responses[:, t : t + 1]], 1),
                )["logits"][:, -1]
                for t in range(items.shape[1])
            ]
            return torch.stack(told, 1)

    refused(judged(causality, family(gpcm, Model=Model)), "the very answer that it predicts")


def test_a_document_read_backwards() -> None:
    class Model(memory_gru.Model):
        def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(vectors.flip(1), lengths).flip(1)

    backwards = family(memory_gru, Model=Model)
    refused(judged(causality, backwards), "in training it sees the vectors to come")
    refused(judged(likelihood, backwards), "what is trained and scored is not what is served")


def test_items_that_come_later() -> None:
    class Model(gpcm.Model):
        def forward(self, items: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
            logits = super().forward(items, responses, lengths)
            return logits + self.key(items).mean((1, 2), keepdim=True) * torch.arange(CATEGORIES)

    verdict = judged(causality, family(gpcm, Model=Model))
    refused(verdict, "in training it sees which items come later")


def test_an_answer_that_depends_on_what_else_is_asked() -> None:
    class Model(gpcm.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            told = super().serve(**given)
            p = told["probabilities"]
            return told | {"probabilities": (p + p.mean(1, keepdim=True)) / 2}

    verdict = judged(causality, family(gpcm, Model=Model))
    refused(verdict, "the answer to one question depends on what else is asked")


def test_an_answer_that_depends_on_other_students() -> None:
    """A memory that all users write, or statistics of the batch."""

    class Model(gpcm.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            told = super().serve(**given)
            return told | {"ability": told["ability"] - told["ability"].mean()}

    verdict = judged(finite, family(gpcm, Model=Model))
    refused(verdict, "the answer to a request depends on the requests that run with it")


def test_a_memory_that_keeps_what_was_asked_before() -> None:
    class Model(gpcm.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            self.memory.mul_(0.9)
            return super().serve(**given)

    verdict = judged(finite, family(gpcm, Model=Model))
    refused(verdict, "differs when the same request is asked again")


def test_a_state_that_fades_with_every_answer() -> None:
    """LVM: each step multiplies all slots by 0.9; after fifty, 0.5 % of a memory is left."""

    class Model(sakt.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return super().serve(**given)

        def advance(self, state: Any, items: Tensor, responses: Tensor) -> Any:
            after = super().advance(state, items, responses)
            return {**after, "attended": after["attended"] * 0.9}

    verdict = judged(likelihood, family(sakt, Model=Model))
    refused(verdict, "its state says something else than the whole history")


# Chance


def test_difficulties_drawn_at_every_step() -> None:
    """Deep-GPCM's Bayesian variant: the item's difficulty is torch.randn."""

    class Model(gpcm.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            steps = self.head.standing.steps.weight
            steps.copy_(torch.randn_like(steps))
            return super().serve(**given)

    verdict = judged(finite, family(gpcm, Model=Model))
    refused(verdict, "probabilities differs when the same request is asked again")


def test_training_turned_on_inside_forward() -> None:
    """Its uncertainty has no training signal, and leaves dropout on for good."""

    class Model(sakt.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            self.train()
            return super().serve(**given)

    verdict = judged(finite, family(sakt, Model=Model))
    refused(verdict, "probabilities differs when the same request is asked again")


# What a model says of itself


def saying(**outputs: Callable[[dict[str, Tensor]], Tensor]) -> Any:
    """gpcm with outputs changed or added."""

    class Model(gpcm.Model):
        def serve(self, **given: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            told = super().serve(**given)
            return told | {name: change(told) for name, change in outputs.items()}

    return family(gpcm, Model=Model)


def test_an_uncertainty_that_is_always_the_same() -> None:
    """BET's second version: 0.63 for everything."""
    constant = saying(uncertainty=lambda told: torch.full_like(told["ability"], 0.63))
    verdict = judged(health, constant)
    refused(verdict, "uncertainty is 0.63 whatever is asked about whom: it tells nothing")


def test_an_average_over_orders_that_are_one_order() -> None:
    """BET: vectors permuted after they have their positions. The order's variance is 0."""

    def spread(told: dict[str, Tensor]) -> Tensor:
        keys = torch.randn(
            5, 16, generator=torch.Generator().manual_seed(0)
        )  # with positions in them
        query = told["ability"].unsqueeze(-1) * torch.ones(16)
        orders = [torch.randperm(5, generator=torch.Generator().manual_seed(k)) for k in range(4)]
        means = [(query @ keys[o].T).softmax(-1) @ keys[o] for o in orders]
        return torch.stack(means).var(0).mean(-1).sqrt()

    verdict = judged(health, saying(epistemic=spread))
    refused(verdict, "whatever is asked about whom: it tells nothing")


def test_a_confidence_that_is_always_the_same() -> None:
    """Platt's calibration of a constant: an expected calibration error of nothing, and no use."""

    def constant(told: dict[str, Tensor]) -> Tensor:
        p = torch.tensor([0.9, 0.05, 0.03, 0.02])
        order = told["probabilities"].argsort(-1, descending=True)
        return p.expand(order.shape).gather(-1, order.argsort(-1))

    verdict = judged(health, saying(probabilities=constant))
    refused(verdict, "confidence is 0.9 whatever is asked about whom: it tells nothing")


def test_abilities_are_held_to_what_a_standard_normal_allows() -> None:
    """Of a thousand honest abilities all lie within ±3 with probability 0.067: that is no bound."""

    def scaled(spread: float) -> Any:
        def ability(told: dict[str, Tensor]) -> Tensor:
            students = told["ability"].shape[0]
            normal = torch.special.ndtri((torch.arange(students) + 0.5) / students)
            return (spread * normal).unsqueeze(1).expand(told["ability"].shape)

        return saying(ability=ability)

    assert judged(health, scaled(1.0)).passed
    wide = judged(health, scaled(1.53))  # 5 % beyond ±3
    assert wide.passed, wide.sentence
    refused(judged(health, scaled(10.0)), "of abilities lie outside ±4")
    refused(judged(health, scaled(0.0)), "ability is 0 for everybody: it has collapsed")


def test_an_ability_that_is_the_item_s() -> None:
    refused(
        judged(health, saying(ability=lambda told: told["steps"].mean(-1))),
        "for everybody: it has collapsed",
    )


def test_a_discrimination_below_zero() -> None:
    def prepare(model: Any) -> None:
        model.head.standing.log_discrimination.weight[tracing.RESERVED + 3] = -math.inf  # of item 3

    refused(judged(health, gpcm, prepare), "discrimination is 0 for 3: it must be above zero")
    negative = saying(discrimination=lambda told: -told["discrimination"])
    refused(judged(health, negative), "it must be above zero")


def test_attention_that_does_not_sum_to_one() -> None:
    def attention(told: dict[str, Tensor]) -> Tensor:
        return torch.full((*told["ability"].shape, 4), 0.3)

    refused(judged(finite, saying(attention=attention)), "attention does not sum to one")


def test_a_classifier_that_ignores_its_tokens() -> None:
    class Model(naive_bayes.Model):
        def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
            return self.log_share.expand(len(tokens), -1)

    blind = family(naive_bayes, Model=Model)
    refused(judged(causality, blind), "it ignores the tokens")
    refused(judged(health, blind), "whatever is asked about whom: it tells nothing")


# Files


def test_a_pickled_module_is_no_version(tmp_path: Path) -> None:
    """The guides' torch.load(path).eval(): loading it runs whatever is in it."""
    path = tmp_path / "mine.pt"
    torch.save(nn.Linear(2, 2), path)
    with (
        checkpoint.opening(path) as (file, source),
        pytest.raises(Invalid, match="holds more than weights"),
    ):
        checkpoint.read(file, source, path)


MINE = """
import torch
from torch.nn import functional as F
from kt.models.gpcm import FORM, METRIC, SIZES, TASK, Config, Model, signature

def loss(model, items, responses, lengths):
    p = model(items, responses, lengths).softmax(-1)
    event = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
    return F.cross_entropy(p[event], responses[event], reduction="sum")
"""


def test_a_family_of_ones_own_is_refused_where_it_is_registered(tmp_path: Path, kt: Kt) -> None:
    (tmp_path / "kt.toml").write_text('git = "off"\n')
    (tmp_path / "mine.py").write_text(MINE)
    torch.manual_seed(0)
    config = gpcm.Config(items=ITEMS, categories=CATEGORIES, window=WINDOW, **gpcm.SIZES["small"])
    whole = {"kt": 1, "family": "mine", "config": config.model_dump()}
    torch.save(whole | {"state_dict": gpcm.Model(config).state_dict()}, tmp_path / "m.pt")
    ran = kt("register", "m.pt", at=tmp_path)
    assert ran.code == 3
    assert "m.pt does not pass: likelihood: its loss applies softmax twice: p = 0." in ran.err
    assert not (tmp_path / "registry" / "mine").exists()
