"""Cross-validation: each unit is left out once, and what is scored was not learnt from."""

import numpy as np
import pytest
from conftest import Kt

from kt.config import Compute
from kt.errors import Invalid
from kt.models import folds
from kt.models.data import Data
from kt.models.run import Options


def learners(count):
    """Half of them always answer 1, the others 0."""
    return Data(
        students=tuple(f"s{n}" for n in range(count)),
        offsets=np.arange(count + 1) * 8,
        items=np.tile(np.arange(8) % 5, count),
        responses=np.repeat(np.arange(count) % 2, 8),
        folds=np.full(count, -2),
        names=tuple("abcde"),
        source="learners",
    )


def run(count, many, n_jobs=1, **options):
    return folds.validate(
        "best_lr",
        None,
        learners(count),
        many,
        settings={},
        options=Options(epochs=1),
        how=Compute(n_jobs=n_jobs),
        **options,
    )


def test_each_unit_is_left_out_once_and_folds_are_told_as_they_end(tmp_path):
    told = []
    found = run(60, 3, on_fold=told.append)
    assert sum(fold.units for fold in found.folds) == 60
    assert [fold.number for fold in told] == [1, 2, 3]
    mean, apart = found.means["auc"]
    assert mean == pytest.approx(np.mean([fold.scores["auc"] for fold in told]))
    assert mean > 0.95
    assert apart < 0.1
    assert found.summary()["scores"]["auc"] == {"mean": mean, "deviation": apart}


def test_side_by_side_it_comes_to_the_same():
    assert run(60, 2, n_jobs=2) == run(60, 2)


def test_too_few_for_so_many_folds():
    with pytest.raises(Invalid, match="3 units are too few for 90 folds"):
        run(3, 90)


def test_the_record_keeps_them(kt: Kt, tmp_path):
    rows = [f"s{n // 6},{n % 3},{n // 6 % 2}" for n in range(360)]
    (tmp_path / "a.csv").write_text("\n".join(["student_id,item,response", *rows]))
    (tmp_path / "kt.toml").write_text("[compute]\nn_jobs = 1\n")
    given = ("--data", "a.csv", "--out", "m.pt", "--folds", "2")
    done = kt("train", "best_lr", *given, "--json", at=tmp_path)
    assert done.code == 0, done.err
    assert len(done.result["training"]["cross_validation"]["folds"]) == 2
    assert "from one to the next" in done.err
    refused = kt("train", "best_lr", *given, "--sweep", "lr=1,2", at=tmp_path)
    assert refused.code == 2
    assert "--folds: it goes with neither" in refused.err
