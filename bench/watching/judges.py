"""The published judges on kt's rules: what names a winner, opens an alert, is drift, is a wrong ratio.

    python bench/monitoring.py judges [--runs 2000] [--jobs 1]      about five minutes

Ends with 1 where one of them fails. They lie in ../shared/judges beside the repository, kt's side in tests/rules.py.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
JUDGES = ROOT.parent / "shared" / "judges"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2_000, help="of every scenario")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    if not JUDGES.is_dir():
        sys.exit("there is no ../shared/judges beside the repository")
    runs = ["--reps", str(asked.runs)]
    found = [
        judge("judge_sequential.py", "--decide", "rules:decide", "--jobs", str(asked.jobs), *runs),
        judge("judge_monitors.py", "alert", "--rule", "rules:alert"),
        judge("judge_monitors.py", "drift", "--rule", "rules:drift", *runs),
        judge("judge_monitors.py", "srm", "--rule", "rules:srm", *runs),
    ]
    return max(found)


def judge(file: str, *asked: str) -> int:
    """Its exit status."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.run([sys.executable, str(JUDGES / file), *asked], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
