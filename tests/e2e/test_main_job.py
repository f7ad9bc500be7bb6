"""The main job on learners' real answers, at a reduced size: bench/main_job.py runs it at full size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASSIST2015 = ROOT.parent / "shared" / "data" / "assist2015"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def main_job(*arguments: str) -> dict[str, object]:
    command = [sys.executable, str(ROOT / "bench" / "main_job.py"), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.stdout, done.stderr[-3000:]
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(
    not ASSIST2015.exists(), reason="needs ../shared/data/assist2015; the simulated twin runs"
)
def test_real_learners_stick_are_split_as_asked_and_get_what_the_version_predicts():
    result = main_job("--data", str(ASSIST2015), "--learners", "400", "--epochs", "2")
    assert all(result["holds"].values()), result


def test_simulated_learners_stick_are_split_as_asked_and_get_what_the_version_predicts():
    result = main_job("--students", "400", "--epochs", "2")
    assert all(result["holds"].values()), result
