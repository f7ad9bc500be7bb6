"""`kt train` as a process: killed with -9 and run again it ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kt.registry import checkpoint

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def command(*arguments):
    return [sys.executable, "-m", "kt", *map(str, arguments)]


def kt(folder, *arguments, code=0):
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("simulated")
    kt(tmp_path, "simulate", "gpcm", "--out", "learners", "--students", 200, "--items", 20)
    return tmp_path / "learners"


def weights(path):
    with checkpoint.opening(path) as (file, source):
        return checkpoint.read(file, source, path)


def numbers(scores):
    """Every number of the scores by its path."""
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, list):
            flat |= {f"{name}.{place}": number for place, number in enumerate(value)}
        elif not isinstance(value, str):
            flat[name] = value
    return flat


def test_killed_and_run_again_is_bit_for_bit_the_same(tmp_path, learners):
    train = ("train", "gpcm", "--data", learners, "--size", "small", "--epochs", 8, "--patience", 8)
    straight = json.loads(kt(tmp_path, *train, "--out", "straight.pt", "--json").stdout)["result"]
    process = subprocess.Popen(
        command(*train, "--out", "killed.pt"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[:2] == ["epoch", "3"]:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.pt").exists()
    again = json.loads(kt(tmp_path, *train, "--out", "killed.pt", "--json").stdout)["result"]
    assert again["resumed"] >= 3
    assert again["scores"] == straight["scores"]
    ours, theirs = (weights(tmp_path / name) for name in ("killed.pt", "straight.pt"))
    assert all(tensor.equal(theirs.tensors[name]) for name, tensor in ours.tensors.items())

    scored = json.loads(kt(tmp_path, "evaluate", "killed.pt", "--data", learners, "--json").stdout)
    # here references are fitted on the validation students too
    own, told = (
        {key: value for key, value in scores.items() if key not in ("references", "gain")}
        for scores in (again["scores"], scored["result"]["scores"])
    )
    # weights in a file lie otherwise in memory than those in training, and products round otherwise
    assert numbers(told) == pytest.approx(numbers(own), abs=1e-6)
    assert scored["result"]["scores"]["gain"]["over"] in scored["result"]["scores"]["references"]
    assert scored["result"]["data"]["part"] == "test"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "gpmc", "--data", "learners", "--out", "x.pt"), "there is no gpmc"),
        (("train", "gpcm", "--data", "nowhere", "--out", "x.pt"), "no such file"),
        (
            ("train", "gpcm", "--data", "learners", "--out", "x.pt", "--size", "huge"),
            "no size 'huge'",
        ),
        (
            ("train", "gpcm", "--data", "learners", "--out", "x.pt", "--set", "slots"),
            "not KEY=VALUE",
        ),
        (
            ("train", "gpcm", "--data", "learners", "--out", "x.pt", "--set", "a=1"),
            "no such setting",
        ),
        (("simulate", "rasch", "--out", "x"), "no simulation 'rasch'"),
        (("evaluate", "learners/train.csv", "--data", "learners"), "a text file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(learners, arguments, says):
    done = kt(learners.parent, *arguments, code=2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
