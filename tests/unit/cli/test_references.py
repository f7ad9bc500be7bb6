"""The gain over the references is told where a model is evaluated and where it is deployed."""

from pathlib import Path

import pytest
import torch
from conftest import Kt

from kt.workspace import Workspace

BEATS = {"metric": "auc", "over": "best_lr", "value": 0.031, "low": 0.024, "high": 0.038}


def with_gain(path: Path, gain: dict[str, object], to: Path) -> Path:
    whole = torch.load(path, weights_only=True)
    whole["scores"]["gain"] = gain
    torch.save(whole, to)
    return to


@pytest.mark.parametrize(
    ("low", "said", "warns"),
    [
        (0.024, "auc better by 0.0310 [0.0240, 0.0380] than best_lr", False),
        (-0.001, "auc better by 0.0310 [-0.0010, 0.0380] than best_lr", True),
    ],
)
def test_deploy_tells_the_gain_and_warns_where_it_is_not_sure(
    workspace: Workspace,
    checkpoints: Path,
    tmp_path: Path,
    kt: Kt,
    low: float,
    said: str,
    warns: bool,
) -> None:
    file = with_gain(checkpoints / "1.pt", BEATS | {"low": low}, tmp_path / "g.pt")
    warning = f"no gain over best_lr, which kt train fits in seconds: {said}"
    for what in (str(file), "n@v1"):
        ran = kt("deploy", what, *(["--model", "n"] if what != "n@v1" else []), at=workspace)
        assert ran.code == 0
        assert f"  references  {said}\n" in ran.err
        assert (f"kt: {warning}\n" in ran.err) is warns
    assert f"  references  {said}\n" in kt("show", "n@v1", at=workspace).out


def test_evaluate_fits_references_on_other_students(
    checkpoints: Path, tmp_path: Path, kt: Kt
) -> None:
    for name, first in (("train.csv", 0), ("held.csv", 40)):
        rows = [
            f"s{first + n},{(n + t) % 10},{(n * t + t) % 2}" for n in range(20) for t in range(6)
        ]
        (tmp_path / name).write_text("\n".join(["student_id,item,response", *rows, ""]))
    model, held, train = checkpoints / "1.pt", tmp_path / "held.csv", tmp_path / "train.csv"
    ran = kt("evaluate", str(model), "--data", str(held), "--train", str(train), at=tmp_path)
    assert ran.code == 0, ran.err
    for name in ("marginal", "irt", "pfa", "best_lr"):
        assert f"  {name:<11} auc " in ran.out
    assert "  gain        auc " in ran.out
    # those of one folder, whose file test* is kept for testing
    (folder := tmp_path / "both").mkdir()
    (folder / "train.csv").write_bytes(train.read_bytes())
    (folder / "test.csv").write_bytes(held.read_bytes())
    told = kt("evaluate", str(model), "--data", str(folder), at=tmp_path)
    assert (
        told.out.replace("test students", "students").splitlines()[1:] == ran.out.splitlines()[1:]
    )
    ran = kt("evaluate", str(model), "--data", str(held), "--train", str(held), at=tmp_path)
    assert ran.code == 2
    assert "20 students are in --data too (s40, ...)" in ran.err
