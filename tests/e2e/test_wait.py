"""kt deploy --wait: done when every running predictor serves it, undone where one cannot."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from predictors import make, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# a predictor whose machine lacks something that the one that deployed has
BROKEN = """
import os
if os.environ.get("LACKS_IT") and config.does == "new":
    raise RuntimeError("this machine lacks what it needs")
"""


def kt(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kt", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def workspace(root: Path) -> Any:
    made = make(root)
    family = root / "toys" / "family.py"
    lines = "\n".join(f"        {line}" for line in BROKEN.strip().splitlines())
    family.write_text(
        family.read_text().replace(
            "        self.config = config", f"        self.config = config\n{lines}"
        )
    )
    made.settings('git = "off"\n[predictor]\npoll = 0.02\n[models.toy]\nfamily = "toys.family"\n')
    for name in ("old", "new"):
        torch.save({"w": torch.tensor([len(name) + (name == "new") * 0.5])}, root / f"{name}.pt")
        (root / f"{name}.json").write_text(
            f'{{"config": {{"does": "{name}"}}, "signature": {{"largest": 9.0}}}}'
        )
    done = kt(
        root, "deploy", str(root / "old.pt"), "--model", "toy", "--config", str(root / "old.json")
    )
    assert done.returncode == 0, done.stderr
    return made


def deploy_new(root: Path) -> subprocess.CompletedProcess[str]:
    config = str(root / "new.json")
    return kt(root, "deploy", str(root / "new.pt"), "--model", "toy", "--config", config, "--wait")


def test_it_returns_when_all_serve_it(tmp_path: Path):
    made = workspace(tmp_path / "w")
    with serving(made, "--workers", "2") as one:
        done = deploy_new(made.root)
        assert done.returncode == 0, done.stderr
        assert {one.version() for _ in range(20)} == {"v2"}


def test_where_one_cannot_it_is_undone_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = workspace(tmp_path / "w")
    with serving(made) as able:
        monkeypatch.setenv("LACKS_IT", "1")
        with serving(made) as lacking:
            monkeypatch.delenv("LACKS_IT")
            done = deploy_new(made.root)
            assert done.returncode == 3
            assert "lacks what it needs" in done.stderr
            assert "undone" in done.stderr
            status = kt(made.root, "status", "--json")
            assert '"version": "v1"' in status.stdout
            assert lacking.version() == "v1"
        assert able.health()["seq"] >= 2
    assert os.environ.get("LACKS_IT") is None


def test_with_no_predictor_there_is_nothing_to_wait_for(tmp_path: Path):
    made = workspace(tmp_path / "w")
    assert deploy_new(made.root).returncode == 0
