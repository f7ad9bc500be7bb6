"""kt demo as a person runs it, once: each turn of its story has come to pass, and the commands say so."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from kt.cli.app import VERBS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def kt(*arguments: str) -> str:
    command = [sys.executable, "-m", "kt", *arguments]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The workspace that the demo leaves, and what it showed."""
    root = tmp_path_factory.mktemp("demo") / "w"
    return root, kt("demo", str(root))


def told(root: Path, *arguments: str) -> Mapping[str, Any]:
    result: Mapping[str, Any] = json.loads(kt("-C", str(root), *arguments, "--json"))["result"]
    return result


def test_two_winners_are_promoted_on_evidence_and_the_last_is_rolled_back(
    shown: tuple[Path, str],
) -> None:
    events = told(shown[0], "history")["events"]
    assert [event["kind"] for event in events] == [
        "deployed",
        "experiment_started",
        "traffic_changed",
        "promoted",
        "experiment_started",
        "traffic_changed",
        "promoted",
        "rolled_back",
    ]
    assert [event["traffic"] for event in events if "traffic" in event] == [10, 50, 20, 50]
    assert [e["evidence"]["verdict"] for e in events if e["kind"] == "promoted"] == ["better"] * 2
    assert not any(event.get("forced") for event in events)
    assert events[-1]["version"] == "v2"


def test_a_changed_world_raises_an_alert(shown: tuple[Path, str]) -> None:
    events = told(shown[0], "alerts", "history")["events"]
    opened = [e for e in events if (e["kind"], e["metric"]) == ("opened", "accuracy")]
    assert (opened[0]["severity"], opened[0]["version"]) == ("critical", "v2")


def test_the_alert_makes_the_job_due_and_its_candidate_a_canary(shown: tuple[Path, str]) -> None:
    (run,) = told(shown[0], "runs")["runs"]
    assert run["started"]["reasons"] == {"alert": "critical alert: accuracy"}
    assert (run["outcome"], run["ended"]["experiment"]) == ("deployed", "refresh-1")
    assert run["ended"]["comparison"]["low"] > 0.01


def test_every_step_shows_the_command_that_did_it(shown: tuple[Path, str]) -> None:
    typed = re.findall(r"^\$ kt (\S+)", shown[1], re.MULTILINE)
    assert {"train", "deploy", "serve", "promote", "retrain", "canary", "rollback"} <= set(typed)
    assert set(typed) <= VERBS.keys()
    assert "\x1b" not in shown[1]
