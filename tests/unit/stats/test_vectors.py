"""Every statistic gives the published answers; and a few that can be checked by hand, without them."""

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from answers import FAMILIES, answer

from kt.stats import arms

NOT_OURS = {
    "assignment_growthbook": "kt draws by SHA-256 alone",
    "psi_evidently": "its constant for empty bins is what kt's PSI avoids",
}
VECTORS = Path(__file__).parents[4] / "shared" / "vectors"
CASES = [
    pytest.param(family["name"], case, id=f"{family['name']} {case['id']}")
    for path in sorted(VECTORS.glob("*.json"))
    for family in [json.loads(path.read_text())]
    for case in family["cases"]
]


@pytest.mark.parametrize(
    ("family", "case"),
    CASES or [pytest.param("", {}, marks=pytest.mark.skip("there is no ../shared"))],
)
def test_the_published_answers_are_found(family: str, case: dict[str, Any]) -> None:
    if family in NOT_OURS:
        pytest.skip(NOT_OURS[family])
    got = answer(family, case["input"])
    assert got is not None, family
    wanted = dict(case["expected"])
    other = wanted.pop("expected_alternatives", None)
    assert any(
        all(
            same(got.get(key), want[key], case["tol"])
            for key in want
            if key in got or key == "status"
        )
        for want in (wanted, other)
        if want
    ), (got, wanted)


def test_they_need_the_standard_library_alone() -> None:
    """But for those that count whole columns at once."""
    folder = Path(arms.__file__).parent
    for path in folder.glob("*.py"):
        if path.stem in ("gaming", "item_drift", "scores"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                ours = name.startswith("kt.stats")
                standard = name.partition(".")[0] in sys.stdlib_module_names
                assert ours or standard, f"{path.name} imports {name}"


def same(got: Any, want: Any, tol: dict[str, float]) -> bool:
    if want is None:
        return got is None or not math.isfinite(got)
    if isinstance(want, list):
        return len(got) == len(want) and all(map(same, got, want, [tol] * len(want)))
    if isinstance(want, str | bool) or got is None:
        return got == want
    return math.isclose(got, want, rel_tol=tol["rel"], abs_tol=tol["abs"])


# family, input, the answers and where they come from
BY_HAND: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # 1/2 of 4 against 3/4 of 4: pooled 5/8, error sqrt(5/8 3/8 / 2)
    (
        "compare_binary",
        {"a": {"n": 4, "successes": 2}, "b": {"n": 4, "successes": 3}, "alpha": 0.05},
        {"difference": 0.25, "z": 0.25 / math.sqrt(15 / 128)},
    ),
    # equal variances and sizes: Welch is Student with 2 n - 2 degrees of freedom; t_0.975,8 of the tables
    (
        "compare_continuous",
        {
            "a": {"n": 5, "mean": 0.0, "m2": 4.0},
            "b": {"n": 5, "mean": 1.0, "m2": 4.0},
            "alpha": 0.05,
        },
        {
            "t": 1 / math.sqrt(0.4),
            "df": 8.0,
            "ci95": [1 - 2.306004 * math.sqrt(0.4), 1 + 2.306004 * math.sqrt(0.4)],
        },
    ),
    # with one bad answer, the treatment's: E(θ | θ > 1/2) / s under Beta(1, 1)
    (
        "guardrail_evalue",
        {"bad_a": 0, "bad_b": 1, "share_b": 0.5, "k": 2, "alpha": 0.05},
        {"log_e": math.log(1.5), "abort": False},
    ),
    # Beta(1, 1) and three of the one arm: B(4, 1) / B(1, 1) / 2^-3
    (
        "multinomial_evalue",
        {"counts": [3, 0], "shares": [0.5, 0.5], "k": 2},
        {"log_e": math.log(2), "p_value": 0.5},
    ),
    # two degrees of freedom: exp(-x / 2), x = 2
    ("srm_chi2", {"counts": [12, 12, 6], "shares": [1, 1, 1]}, {"p_value": math.exp(-1.2)}),
    # Beta(2, 1) against Beta(1, 2): 1 - ∫ 2x² (2 - ...) = 5/6
    (
        "thompson",
        {
            "arms": [{"successes": 1, "failures": 0}, {"successes": 0, "failures": 1}],
            "floor": 0.1,
            "lower_is_better": False,
        },
        {"p_best": [5 / 6, 1 / 6], "allocation": [0.1 + 0.8 * 5 / 6, 0.1 + 0.8 / 6]},
    ),
    ("auc_histogram", {"positives": [0, 1, 2], "negatives": [2, 1, 0]}, {"auc": 8.5 / 9}),
    # (q - p) ln (q / p) of two bins, whose counts are 9.5 and 19.5 of 99
    (
        "psi",
        {"reference": [9, 89], "current": [19, 79]},
        {
            "psi": 10 / 99 * (math.log(19.5 / 9.5) - math.log(79.5 / 89.5)),
            "null999": 10.827566 * 2 / 98,
        },
    ),
    (
        "ks",
        {"reference": [1, 2, 3], "current": [4, 5, 6]},
        {"statistic": 1.0, "p_value": 2 / 20},
    ),
    (
        "wasserstein",
        {"centres": [0, 1], "reference_counts": [1, 1], "current_counts": [0, 2]},
        {"distance": 0.5, "normed": 1.0},
    ),
    ("js_distance", {"reference": [1, 0], "current": [1, 1]}, {"distance": 0.558}),
    (
        "cbpe",
        {"probabilities": [0.9, 0.6, 0.2], "threshold": 0.5},
        {"accuracy": 2.3 / 3, "precision": 0.75, "recall": 1.5 / 1.7},
    ),
    (
        "promotion_gate",
        {"n": 100, "new_only_right": 9, "old_only_right": 1},
        {"accept": True, "difference": 0.08, "lower95": 0.08 - 1.644854 * math.sqrt(0.0936 / 100)},
    ),
    (
        "recalibration_decision",
        {"n": 1000, "ece": 0.14, "baseline_ece": None},
        {"decision": "warn"},
    ),
]


@pytest.mark.parametrize(("family", "given", "wanted"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_answers_by_hand(family: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    got = FAMILIES[family](given)
    for key, want in wanted.items():
        assert same(
            got[key], want, {"rel": 1e-5, "abs": 1e-3 if family == "js_distance" else 1e-9}
        ), (
            key,
            got[key],
        )
