"""Several processes change one workspace at once: bench/race.py, at a reduced size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.slow
def test_every_change_becomes_one_event_and_one_commit():
    command = [
        sys.executable,
        str(ROOT / "bench" / "race.py"),
        "--processes",
        "3",
        "--changes",
        "4",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["sound"], done.stdout + done.stderr
