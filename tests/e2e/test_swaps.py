"""kt deploy, promote and rollback by the command itself, while a predictor answers."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from predictors import make, serving, within
from safetensors.torch import save_file

from kt.registry.record import Spec

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def weights_file(path: Path, w: float) -> Path:
    spec = Spec(family="toys.family", config={}, form="toys.form", signature={"largest": 9.0})
    save_file({"w": torch.tensor([w])}, path, metadata={"kt": spec.model_dump_json()})
    return path


def test_no_request_is_lost_while_versions_change_and_each_names_one_that_was_deployed(
    tmp_path: Path,
) -> None:
    made = make(tmp_path / "workspace")
    made.settings('git = "off"\n[predictor]\npoll = 0.02\n')

    def kt(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "kt", "-C", str(made.root), *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=False,
        )
        assert done.returncode == 0, done.stderr

    kt("deploy", str(weights_file(tmp_path / "1.safetensors", 1.0)), "--model", "toy")
    stop, answers, lost = threading.Event(), list[dict[str, Any]](), list[Any]()

    def ask() -> None:
        while not stop.is_set():
            status, answer = running.predict(student_id=f"s-{len(answers)}")
            (answers if status == 200 else lost).append(answer)

    def serves(active: str, experiment: str | None = None) -> bool:
        now = running.health()["models"]["toy"]
        return bool(now["active"] == active and (now["experiment"] or {}).get("name") == experiment)

    with serving(made) as running:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            second = str(weights_file(tmp_path / "2.safetensors", 2.0))
            kt("deploy", second, "--model", "toy", "--traffic", "50", "--ab-test", "x")
            within(lambda: serves("v1", "x"))
            kt("promote", "x", "--force", "--reason", "test")
            within(lambda: serves("v2"))
            before = len(answers)
            within(lambda: len(answers) > before + 20)
            kt("rollback")
            within(lambda: serves("v1"))
            assert running.version() == "v1"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert lost == []
    assert {answer["version"] for answer in answers} == {"v1", "v2"}
    variants = {(answer["version"], answer["variant"]) for answer in answers}
    assert ("v2", "control") not in variants
    assert ("v1", "treatment") not in variants
