import pytest

from kt.predictor.decision import decide


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [
        (1.0, "accept"),
        (0.9, "accept"),
        (0.89, "review"),
        (0.7, "review"),
        (0.69, "escalate"),
        (0.0, "escalate"),
    ],
)
def test_a_threshold_belongs_to_the_better_side(confidence: float, verdict: str) -> None:
    assert decide(confidence, accept=0.9, review=0.7) == verdict
