"""The traffic split: as large as asked, sticky, and of one experiment independent of another's."""

import hashlib
import math
import uuid
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.deployments.manifest import Treatment, Trial, fraction, treatment_for

N = 100_000
IDS: dict[str, Callable[[int], str]] = {
    "counted": str,
    "uuid": lambda n: str(
        uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128, version=4)
    ),
    "mail": lambda n: f"{'abcdefghij'[n % 10]}.learner{n}@school-{n % 37}.example.org",
    "padded": lambda n: f"student-{n:06d}",
    "hashed": lambda n: hashlib.sha256(str(n).encode()).hexdigest(),
}


def fractions(experiment: str, kind: str) -> np.ndarray:
    return np.array([fraction(experiment, IDS[kind](n)) for n in range(N)])


@pytest.mark.parametrize("kind", IDS)
def test_a_share_is_as_large_as_asked(kind: str) -> None:
    at = fractions("bigger-memory", kind)
    for share in (0.01, 0.1, 0.25, 0.5, 0.9):
        error = math.sqrt(share * (1 - share) / N)
        assert abs((at < share).mean() - share) < 3 * error


@pytest.mark.parametrize("kind", IDS)
def test_two_experiments_are_independent(kind: str) -> None:
    cells = np.histogram2d(
        fractions("x", kind), fractions("y", kind), bins=10, range=((0, 1), (0, 1))
    )[0]
    chi2 = float(((cells - N / 100) ** 2 / (N / 100)).sum())
    assert chi2 < 156  # of 99 degrees of freedom: p = 0.0002


names = st.text(max_size=20)


@given(names, names, st.floats(0, 100), st.floats(0, 100))
def test_a_ramp_moves_nobody_back(experiment: str, unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    at = fraction(experiment, unit)

    def treated(traffic: float) -> bool:
        treatment = Treatment(version="v2", sha256="0" * 64, traffic=traffic)
        return treatment_for(Trial(name="x", treatments=(treatment,), phase=1), at) is not None

    assert treated(low) <= treated(high)
    assert not treated(0.0)


@given(names, names)
def test_an_assignment_is_the_same_every_time(experiment: str, unit: str) -> None:
    assert fraction(experiment, unit) == fraction(experiment, unit)
    assert 0 <= fraction(experiment, unit) <= 1
