"""ONNX Runtime as kt starts it."""

import subprocess
import sys
from pathlib import Path

import pytest

from kt import process


def test_the_runtime_keeps_no_id_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'kt[onnx]'")
    alone = process.environment(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    alone.pop("ORT_DISABLE_TELEMETRY", None)  # kt sets it, in this process too
    said = "from kt.registry import session; session.runtime()"
    subprocess.run([sys.executable, "-c", said], env=alone, check=True)
    assert not list(tmp_path.iterdir())
