import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from kt.models import calibrate
from kt.models.calibrate import Calibrator, Isotonic, Outcomes, Platt, Temperature, composed

ANY = TypeAdapter(Calibrator)


def test_platt_of_four_points_by_its_formula():
    """The targets are 3/4 and 1/4, so the fit passes no nearer to 0 and 1 than they do."""
    found = calibrate.platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    assert found.b == pytest.approx(0, abs=1e-6)
    assert found.a == pytest.approx(-0.674, abs=1e-3)
    assert calibrate.platt(np.array([0.1, 0.2]), np.array([1, 1])) is None


def test_isotonic_pools_what_violates_to_one_knot():
    found = calibrate.isotonic(np.array([1.0, 2, 3, 4]), np.array([0, 1, 0, 1]))
    assert found == Isotonic(scores=(1, 2.5, 4), values=(0, 0.5, 1))
    assert calibrate.isotonic(np.array([1.0, 1, 2]), np.array([0, 1, 0])).values == (1 / 3,)
    weighted = calibrate.isotonic(np.array([1.0, 2]), np.array([1, 0]), np.array([1.0, 3]))
    assert weighted == Isotonic(scores=(1.75,), values=(0.25,))


def test_two_alike_scores_make_no_step():
    """Half of the rise, either side of the middle, is what such a line can do at most."""
    found = calibrate.isotonic(np.array([0.5, 0.501]), np.array([0, 1]))
    assert found.values == pytest.approx((0.475, 0.525))
    once_more = composed(found, Isotonic(scores=(0.475, 0.525), values=(0.1, 0.9)))
    assert np.diff(once_more.values) <= calibrate.STEEPEST * 0.001 + 1e-12


def test_isotonic_of_many_answers_is_quick():
    scores = np.linspace(1, 0, 50_000)  # the worst: every answer is pooled into one block
    labels = (np.arange(50_000) % 3 == 0).astype(int)
    assert len(calibrate.isotonic(scores, labels).scores) < 10


def test_temperature_is_bounded_where_all_are_right():
    sure = np.array([[0.01, 0.0], [0.0, 0.01]])  # no temperature is cold enough for them
    found = calibrate.temperature(sure, np.array([0, 1]))
    assert found.temperature == pytest.approx(calibrate.COLDEST, rel=1e-6)


@pytest.mark.parametrize(
    "calibrator",
    [
        Temperature(temperature=2.5),
        Platt(a=-0.5, b=0.3),
        Isotonic(scores=(0.2, 0.7), values=(0.1, 0.9)),
    ],
    ids=lambda each: each.method,
)
def test_a_calibrator_is_numbers_that_come_back_from_json_and_give_probabilities(calibrator):
    assert ANY.validate_json(calibrator.model_dump_json()) == calibrator
    second = np.array([0, 1e-9, 0.25, 0.7, 1], np.float32)
    p = calibrator.apply(np.stack([1 - second, second], -1)[None])  # (1, 5, 2)
    assert p.dtype == np.float32
    assert p.shape == (1, 5, 2)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    assert (np.diff(p[0, :, 1]) >= 0).all()  # who was likelier is not less likely


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "isotonic", "scores": [0.5, 0.5], "values": [0.1, 0.2]}',
        '{"method": "isotonic", "scores": [0.1, 0.5], "values": [0.2, 0.1]}',
        '{"method": "isotonic", "scores": [0.1], "values": [0.2, 0.3]}',
        '{"method": "isotonic", "scores": [0.1], "values": [1.5]}',
        '{"method": "temperature", "temperature": 0}',
        '{"method": "platt", "a": NaN, "b": 0}',
        '{"method": "pickle", "data": "gASV"}',
    ],
)
def test_numbers_that_make_no_calibrator_are_refused(text):
    with pytest.raises(ValidationError):
        ANY.validate_json(text)


def overconfident(n, K=2, sharpness=3.0, seed=0):
    """Probabilities whose logits are `sharpness` times too large, and labels; one answer a unit."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1, (n, K))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(1)[:, :-1]).sum(1)
    wrong = np.exp(sharpness * z)
    names = tuple(f"u{place}" for place in range(n))
    return wrong / wrong.sum(1, keepdims=True), labels, names, np.arange(n)


def attempt(p, labels, units, unit):
    return calibrate.attempt(Outcomes(p, labels), calibrate.drawn(units)[unit])


@pytest.mark.parametrize(
    ("n", "K", "method"),
    [(1_500, 2, "platt"), (5_000, 2, "isotonic"), (1_500, 4, "temperature")],
)
def test_the_method_is_chosen_by_how_many_answers_and_categories(n, K, method):
    tried = attempt(*overconfident(n, K))
    assert tried.calibrator.method == method
    assert tried.helps
    assert tried.fitted_on == round(0.7 * n)
    assert tried.fitted_on + tried.judged_on == n
    assert tried.after["ece"] < 0.06 < tried.before["ece"]
    assert ("classwise_ece" in tried.after) == (K > 2)
    ANY.validate_python(tried.calibrator.model_dump())  # as it will be stored


def test_few_answers_calibrate_nothing():
    assert attempt(*overconfident(999)) is None


def test_answers_of_one_category_calibrate_nothing():
    p, labels, *who = overconfident(1_000)
    assert attempt(p, np.zeros_like(labels), *who) is None


def test_one_unit_is_never_on_both_sides():
    p, labels, _, _ = overconfident(2_000)
    units, unit = ("a", "b", "c", "d"), np.arange(2_000) % 4
    tried = attempt(p, labels, units, unit)
    assert (tried.fitted_on, tried.judged_on) == (1_500, 500)
    assert attempt(p, labels, ("a",), np.zeros(2_000, int)) is None


def test_what_does_not_help_on_other_answers_is_not_kept():
    p, labels, *who = overconfident(1_500, sharpness=1.0)
    tried = attempt(p, labels, *who)
    after = tried.before | {"ece": 0.0}
    same = calibrate.Tried(tried.calibrator, 1, 1, before=tried.before, after=after)
    assert not same.helps  # the Brier score is no lower
    assert same.summary()["kept"] is False


def test_isotonic_is_never_quite_sure():
    p, _, *_ = overconfident(6_000)
    always = (p[:, 1] > 0.5).astype(int)
    values = calibrate.fit(Outcomes(p, always), "isotonic", many=True).values
    assert values == pytest.approx((1 / 6_002, 6_001 / 6_002))


def binned(p, labels):
    """The same answers as the tables keep them: by bins of the score and what came true."""
    place = np.minimum((p[:, 1] * 100).astype(int), 99) * 2 + labels
    rows = np.unique(place)
    score = np.array([p[place == row, 1].mean() for row in rows])
    weights = np.array([float((place == row).sum()) for row in rows])
    return Outcomes(np.stack([1 - score, score], 1), rows % 2, weights)


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature"])
def test_sums_over_bins_fit_what_the_answers_fit(method):
    p, labels, *_ = overconfident(4_000)
    whole, sums = Outcomes(p, labels), binned(p, labels)
    assert sums.count == 4_000
    fitted = [calibrate.fit(each, method, many=True) for each in (whole, sums)]
    given = np.linspace(0.05, 0.95, 19)
    pairs = np.stack([1 - given, given], 1)
    one, other = (each.apply(pairs)[:, 1] for each in fitted)
    np.testing.assert_allclose(one, other, atol=0.05)
    for name in ("ece", "brier"):
        wanted = calibrate.quality(whole)[name]
        assert calibrate.quality(sums)[name] == pytest.approx(wanted, abs=0.003)


ONES = {
    "temperature": Temperature(temperature=2.5),
    "platt": Platt(a=-0.5, b=0.3),
    "isotonic": Isotonic(scores=(0.2, 0.4, 0.7), values=(0.1, 0.3, 0.9)),
}


@pytest.mark.parametrize("inner", ONES)
@pytest.mark.parametrize("outer", ONES)
def test_two_calibrators_are_one(inner, outer):
    first, then = ONES[inner], ONES[outer]
    both = composed(first, then)
    at = np.linspace(0.01, 0.99, 99)
    if both.method == "isotonic":
        at = np.array(both.scores)  # between its knots it is a straight line
    p = np.stack([1 - at, at], 1)
    np.testing.assert_allclose(both.apply(p), then.apply(first.apply(p)), atol=1e-9)
    assert composed(None, then) == then


def test_a_calibrator_that_turns_scores_upside_down_is_no_part_of_another():
    upside_down = Platt(a=0.5, b=0.0)
    assert composed(upside_down, ONES["isotonic"]) is None
    assert composed(ONES["isotonic"], upside_down) is None
    assert composed(upside_down, upside_down) == Platt(a=-0.25, b=0.0)
