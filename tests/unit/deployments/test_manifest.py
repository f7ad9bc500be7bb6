"""What to serve now, and which variant a unit gets: a pure function of experiment, unit and traffic."""

import hashlib
import json
from pathlib import Path

import pytest

from kt.deployments import manifest
from kt.deployments.manifest import Treatment, Trial, fraction, treatment_for
from kt.errors import Corrupt

SHA = "0" * 64


def trial(*traffic: float) -> Trial:
    treatments = tuple(
        Treatment(version=f"v{n}", sha256=SHA, traffic=share) for n, share in enumerate(traffic, 2)
    )
    return Trial(name="x", treatments=treatments, phase=1)


def test_the_published_assignments_are_kept(shared: Path) -> None:
    vectors = json.loads((shared / "vectors" / "assignment_sha256.json").read_text())
    for case in vectors["cases"]:
        given = case["input"]
        at = fraction(given["salt"], given["unit"])
        got = treatment_for(trial(100 * given["candidate_share"]), at)
        assert at == pytest.approx(case["expected"]["u"], abs=1e-15)
        assert ("candidate" if got else "control") == case["expected"]["arm"]


def test_a_fraction_is_the_beginning_of_a_sha256() -> None:
    first = hashlib.sha256(b"retrain-v3/student-1").digest()[:8]
    assert fraction("retrain-v3", "student-1") == int.from_bytes(first, "big") / 2**64
    assert fraction("retrain-v3", "student-1") == 0.6513494703020393
    assert 0 <= fraction("x", "\ud800") < 1  # a unit is whatever the caller names


def test_the_treatments_lie_one_after_the_other() -> None:
    two = trial(10.0, 25.0)

    def version(at: float) -> str | None:
        got = treatment_for(two, at)
        return got and got.version

    assert [version(at) for at in (0.0, 0.0999, 0.1, 0.3499, 0.35, 0.999)] == [
        "v2", "v2", "v3", "v3", None, None,
    ]  # fmt: skip


def test_no_traffic_is_nobody_and_all_is_everybody() -> None:
    assert treatment_for(trial(0.0), 0.0) is None
    assert treatment_for(trial(100.0), 1 - 2**-53) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"[]", b"\0" * 40, b'{"kt": 2, "seq": 0, "head": "", "models": {}}',
        b'{"kt": true, "seq": 0, "head": "", "models": {}}',
        b'{"kt": 1, "seq": NaN, "head": "", "models": {}}',
        b'{"kt": 1, "seq": -1, "head": "", "models": {}}',
        b'{"kt": 1, "seq": 1, "head": "short", "models": {}}',
        b'{"kt": 1, "seq": 1, "head": "", "models": {"m": {}}}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_named(text: bytes) -> None:
    with pytest.raises(Corrupt) as error:
        manifest.parse(text)
    assert error.value.where == manifest.MANIFEST


def test_a_newer_kt_may_say_more() -> None:
    said = manifest.parse(b'{"kt": 1, "seq": 0, "head": "", "models": {}, "more": 1}')
    assert manifest.parse(manifest.dump(said)) == said
