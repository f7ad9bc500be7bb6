"""A flipped bit in any stored file is found, and its weights are not served: bench/bitflips.py flips more."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.slow
def test_a_flipped_bit_is_found_and_not_served():
    command = [sys.executable, str(ROOT / "bench" / "bitflips.py"), "--flips", "150", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'caught': 150" in done.stdout
