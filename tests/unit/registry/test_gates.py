"""Each gate alone: what it lets through, what not, and the sentence that it says."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kt.config import Plugin
from kt.errors import Invalid, Refused
from kt.models import (
    best_lr,
    copy_last,
    data,
    fitting,
    memory_gru,
    metrics,
    sakt,
    simulate,
    simulate_chains,
    task,
    tracing,
    vectors,
)
from kt.registry import gate, weights
from kt.registry.gate import Subject
from kt.registry.gates import (
    calibration,
    causality,
    finite,
    health,
    latency,
    likelihood,
    regression,
    signature,
    size,
)
from kt.registry.load import Loaded
from kt.registry.record import Spec, Verdict


def subject(
    folder: Path, name: str = "m.pt", items: int = 6, categories: int = 2, **change: float
) -> Subject:
    """A tiny SAKT; change: a parameter filled with a value."""
    torch.manual_seed(0)
    config = sakt.Config(items=items, categories=categories, d_model=8, heads=2, window=8)
    model = sakt.Model(config).requires_grad_(False).eval()
    for parameter, value in change.items():
        model.get_parameter(parameter).fill_(value)
    signed = sakt.signature(config)
    spec = Spec(
        family="sakt",
        config=config.model_dump(),
        form=tracing.__name__,
        signature=signed.model_dump(mode="json"),
    )
    path = folder / f"{name}.safetensors"
    weights.write(model.state_dict(), {"kt": spec.model_dump_json()}, path)
    return Subject(name, Loaded(spec, sakt, tracing, signed, model), path, None)


def judged(
    of: ModuleType, candidate: Subject, baseline: Subject | None = None, **settings: Any
) -> Verdict:
    verdict = of.judge(candidate, baseline, of.Settings(**settings))
    assert isinstance(verdict, Verdict)
    return verdict


def test_finite_asks_the_model_and_looks_at_its_weights(tmp_path: Path) -> None:
    good = judged(finite, subject(tmp_path))
    assert good.passed
    assert good.sentence == "8 requests answered, all finite and in range"
    for value in (float("nan"), float("inf")):
        bad = judged(finite, subject(tmp_path, f"bad {value}", start=value))
        assert not bad.passed
        assert bad.sentence == "start holds values that are not finite"


def test_finite_asks_a_large_model_no_more_than_it_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finite, "LARGE", 10)
    large = subject(tmp_path)
    assert judged(finite, large).sentence.startswith("3 requests answered")
    assert judged(finite, large, requests=2).sentence.startswith("2 requests answered")


def test_finite_finds_a_model_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = subject(tmp_path)

    def raising(**_: Any) -> Any:
        raise IndexError("out of range")

    monkeypatch.setattr(candidate.loaded.module, "serve", raising)
    said = judged(finite, candidate)
    assert not said.passed
    assert "does not answer a request of its own form: IndexError: out of range" in said.sentence


@pytest.mark.parametrize("row", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_finite_finds_probabilities_that_are_none(
    row: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = subject(tmp_path)

    def odd(asked: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        return {"probabilities": torch.tensor(row).expand(*asked.shape, 2).clone()}

    monkeypatch.setattr(candidate.loaded.module, "serve", odd)
    assert not judged(finite, candidate).passed


def test_latency_has_a_bound(tmp_path: Path) -> None:
    candidate = subject(tmp_path)
    assert judged(latency, candidate, p95_ms=60_000).passed
    slow = judged(latency, candidate, p95_ms=1e-9)
    assert not slow.passed
    assert slow.bound == 1e-9
    assert slow.measured is not None


def test_a_model_that_is_too_slow_is_known_by_its_first_calls() -> None:
    bound = latency.Settings(p95_ms=10, calls=40)
    assert not latency.decided([11, 11], bound)
    assert latency.decided([11, 11, 11], bound), (
        "whatever follows, p95 of 40 calls is past the bound"
    )
    assert np.quantile([1] * 37 + [11] * 3, 0.95) > 10
    assert not latency.decided([1] * 39, bound)
    assert latency.decided([1] * 40, bound)
    unbound = latency.Settings(p95_ms=1e6)
    assert not latency.decided([200] * 4, unbound)
    assert latency.decided([200] * 5, unbound), "half a second of calls is enough"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_found_anywhere(dtype: str, odd: float) -> None:
    for place in (0, 500, 1000):
        tensor = torch.ones(1001, dtype=getattr(torch, dtype))
        assert finite.finite(tensor)
        tensor[place] = odd
        assert not finite.finite(tensor)


def test_whole_numbers_and_nothing_are_finite() -> None:
    assert finite.finite(torch.arange(3))
    assert finite.finite(torch.tensor([True]))
    assert finite.finite(torch.zeros(0, 3))


def test_size_has_a_bound(tmp_path: Path) -> None:
    assert judged(size, subject(tmp_path)).passed
    assert not judged(size, subject(tmp_path, "n"), max_mb=1e-6).passed


def test_signature_keeps_what_clients_may_ask(tmp_path: Path) -> None:
    old = subject(tmp_path, "m@v1")
    assert judged(signature, old).passed  # the first version
    assert judged(signature, subject(tmp_path, "more", items=9), old).passed
    less = judged(signature, subject(tmp_path, "less", items=5), old)
    assert not less.passed
    assert less.sentence == "it lacks the item 5 of m@v1"
    assert judged(signature, subject(tmp_path, "graded", categories=4), old).passed


def test_regression_says_why_it_did_not_compare(tmp_path: Path) -> None:
    said = judged(regression, subject(tmp_path))
    assert said.passed
    assert "not compared" in said.sentence


@pytest.mark.parametrize(
    "of", [finite, causality, health, latency, likelihood, size, signature, regression]
)
def test_a_gate_refuses_a_setting_that_it_does_not_know(of: ModuleType) -> None:
    with pytest.raises(ValidationError):
        of.Settings(unknown=1)


def run(
    candidate: Subject, tmp_path: Path, *plugins: Plugin, force: bool = False
) -> dict[str, Verdict]:
    verdicts = gate.run(candidate, None, tmp_path, plugins, force=force)
    return {verdict.gate: verdict for verdict in verdicts}


def test_all_gates_run_the_safety_ones_first(tmp_path: Path) -> None:
    assert list(run(subject(tmp_path), tmp_path)) == [
        "finite",
        "calibration",
        "causality",
        "health",
        "latency",
        "likelihood",
        "regression",
        "signature",
        "size",
    ]


def test_force_skips_what_judges_and_never_what_protects(tmp_path: Path) -> None:
    small = Plugin(name="size", max_mb=1e-6)  # type: ignore[call-arg]  # the gate's own setting
    with pytest.raises(Refused, match=r"m\.pt does not pass: size: ") as error:
        run(subject(tmp_path), tmp_path, small)
    assert "--force --reason TEXT" in error.value.do
    assert not run(subject(tmp_path, "n"), tmp_path, small, force=True)["size"].passed
    with pytest.raises(Refused, match="finite: start holds") as error:
        run(subject(tmp_path, "bad", start=float("nan")), tmp_path, small, force=True)
    assert "--force" not in error.value.do


def test_a_gate_of_ones_own_is_a_file_in_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "fairness_gate.py").write_text(
        "from pydantic import BaseModel\n"
        "from kt.registry.record import Verdict\n"
        "SAFETY = False\n"
        "class Settings(BaseModel, extra='forbid'):\n    bound: float = 1.0\n"
        "def judge(candidate, baseline, settings):\n"
        "    return Verdict(gate='', passed=settings.bound < 1, sentence='as fair as can be')\n"
    )
    with pytest.raises(Refused, match="fairness_gate: as fair as can be"):
        run(subject(tmp_path), tmp_path, Plugin(name="fairness_gate"))
    fair = Plugin(name="fairness_gate", bound=0.5)  # type: ignore[call-arg]
    assert run(subject(tmp_path, "n"), tmp_path, fair)["fairness_gate"].passed


def test_a_gate_that_does_not_exist_and_a_setting_that_does_not_fit_are_named(
    tmp_path: Path,
) -> None:
    with pytest.raises(Invalid, match="there is no fairness"):
        run(subject(tmp_path), tmp_path, Plugin(name="fairness"))
    with pytest.raises(Invalid, match=r"gate latency: p95_ms: .*greater than 0"):
        run(subject(tmp_path, "n"), tmp_path, Plugin(name="latency", p95_ms=-1))  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv and test.csv of simulated students."""
    folder = tmp_path_factory.mktemp("answers")
    simulate.write(simulate.learning(students=150, items=12, answers=(10, 20)), folder)
    return folder


def fitted(answers: Path, sharpness: float = 1.0, **scores: Any) -> Subject:
    """A logistic regression on these students, whose logits are taken so many times."""
    train = data.read(answers / "train.csv")
    config, signed = task.of(best_lr).configure(best_lr, train, {"window": 20})
    model = fitting.fit(best_lr, config, signed, train).requires_grad_(False)
    serve, forward = model.serve, model.forward
    model.serve = lambda **given: {  # type: ignore[assignment]
        "probabilities": (serve(**given)["probabilities"].log() * sharpness).softmax(-1)  # type: ignore[operator]
    }
    model.forward = lambda *given: forward(*given) * sharpness  # type: ignore[method-assign]
    spec = Spec(family="best_lr", config={}, form=tracing.__name__, signature={})
    evaluation = None if scores else answers / "test.csv"
    return Subject(
        "m.pt", Loaded(spec, best_lr, tracing, signed, model), Path(), evaluation, scores
    )


def test_likelihood_compares_with_how_often_each_item_got_each_response(answers: Path) -> None:
    good = judged(likelihood, fitted(answers))
    assert good.passed
    assert good.measured is not None
    assert good.bound is not None
    assert good.measured < good.bound
    assert "on the evaluation set, frequencies alone have" in good.sentence
    sure_of_too_much = judged(likelihood, fitted(answers, sharpness=5.0))
    assert not sure_of_too_much.passed
    assert ": it knows less" in sure_of_too_much.sentence
    assert judged(likelihood, fitted(answers, sharpness=5.0), tolerance=10.0).passed


def test_the_floor_knows_the_other_students_alone(answers: Path) -> None:
    predicted = fitted(answers).predicted
    floor: Any = task.of(best_lr).floor(predicted)  # type: ignore[attr-defined]
    assert floor.asked_as(predicted)
    np.testing.assert_allclose(floor.probabilities.sum(1), 1)
    student, item = floor.student == floor.student[0], floor.items == floor.items[0]
    others = floor.responses[item & ~student]
    p = (np.bincount(floor.responses, minlength=4) + 1) / (len(floor.responses) + 4)
    expected = (np.bincount(others, minlength=4) + 5 * p) / (len(others) + 5)
    np.testing.assert_allclose(floor.probabilities[0], expected)


@pytest.mark.parametrize(
    ("nll", "passes"), [(0.9, True), (1.3, True), (1.45, True), (1.48, False), (4.63, False)]
)
def test_likelihood_without_an_evaluation_set_goes_by_what_a_checkpoint_says(
    nll: float, passes: bool, answers: Path
) -> None:
    """The guide's recipe, softmax twice, ends at 4.63, where ln 4 is 1.39; one epoch of a sound one below."""
    told = fitted(answers, nll=nll, intervals={"nll": [nll - 0.05, nll + 0.05]})
    verdict = judged(likelihood, told)
    assert verdict.passed == passes
    start = f"nll {nll:.4f} as trained, guessing has 1.3863"
    assert verdict.sentence == start + ("" if passes else ": it knows less")
    silent = judged(likelihood, fitted(answers, nll=nll))
    assert silent.passed
    assert silent.sentence.startswith("serves what it learnt; no evaluation set is set in kt.toml")


def test_calibration_refuses_what_is_sure_of_too_much(answers: Path) -> None:
    asked = {"least": 200, "of_bin": 20}
    good = judged(calibration, fitted(answers), **asked)
    assert good.passed
    assert good.measured is not None
    assert good.measured < 0.1
    sure = judged(calibration, fitted(answers, sharpness=5.0), **asked)
    assert not sure.passed
    assert "kt calibrate may mend it" in sure.sentence
    assert "not judged" in judged(calibration, fitted(answers, sharpness=5.0)).sentence
    assert "not judged" in judged(calibration, fitted(answers, nll=0.9)).sentence


def test_both_versions_are_asked_once_about_the_evaluation_set(
    answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = fitted(answers), fitted(answers, sharpness=0.9)
    calls: list[Any] = []
    predict = task.of(best_lr).predict
    monkeypatch.setattr(
        "kt.models.answers.predict", lambda *given: calls.append(given) or predict(*given)
    )
    assert judged(likelihood, other, one).passed
    compared = judged(regression, other, one)
    assert "against m.pt" in compared.sentence
    assert len(calls) == 2


def predictor(folder: Path, family: ModuleType, usual: np.ndarray | None = None) -> Subject:
    """A version for vectors of 64 dimensions; usual: the direction that it always says."""
    torch.manual_seed(0)
    config = family.Config(dimension=64)
    model = family.Model(config).requires_grad_(False).eval()
    if usual is not None:
        model.step.bias.copy_(torch.from_numpy(1e9 * usual))
    spec = Spec(family=family.__name__, config={}, form=vectors.__name__, signature={})
    loaded = Loaded(spec, family, vectors, family.signature(config), model)
    return Subject(f"{family.__name__}.pt", loaded, Path(), folder / "test.npz")


def test_a_high_cosine_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    """The mean of all vectors is as near to the next one as the last vector is, and hits none of 10,000."""
    chained = simulate_chains.simulate(documents=20)
    simulate_chains.write(chained, tmp_path)
    good = predictor(tmp_path, copy_last)
    bad = predictor(tmp_path, memory_gru, usual=chained.vectors.mean(0))
    cosines, hits = (
        [metrics.score(name, each.predicted) for each in (good, bad)]
        for name in ("cosine", "hit@5/10000")
    )
    assert cosines[1] > cosines[0] - 0.02
    assert cosines[1] > 0.75
    assert hits[1] < 0.01 < 0.1 < hits[0]
    assert judged(regression, bad, good, metric="cosine").passed  # what the guide watched
    said = judged(regression, bad, good)
    assert not said.passed
    assert said.sentence.startswith("hit@5/10000 -0.")
    assert not judged(
        causality, bad
    ).passed  # it ignores what came before, which needs no other version
    assert judged(causality, good).passed
    assert judged(likelihood, good).passed


def test_what_is_served_of_a_document_is_what_was_trained(tmp_path: Path) -> None:
    simulate_chains.write(simulate_chains.simulate(documents=5), tmp_path)
    ahead, other = (predictor(tmp_path, memory_gru) for _ in range(2))
    forward = ahead.loaded.module.forward
    ahead.loaded.module.forward = lambda x, n: forward(x.roll(-1, 1), n)
    other.loaded.module.forward = lambda x, n: forward(-x, n)
    assert "sees the vectors to come" in judged(causality, ahead).sentence
    assert "not what is served" in judged(likelihood, other).sentence
