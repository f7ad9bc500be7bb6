"""A sweep: which settings are tried, that the best of them is kept, that what is done is not done again."""

import numpy as np
import pytest

from kt.config import Compute
from kt.errors import Invalid
from kt.models import sweep, train
from kt.models.data import Data
from kt.models.run import Options

HERE = Compute(n_jobs=2)
SMALL = {"d_model": 4, "heads": 1, "window": 8}


def learners(count, seed):
    rng = np.random.default_rng(seed)
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(count)),
        offsets=np.arange(count + 1) * 8,
        items=rng.integers(5, size=count * 8),
        responses=np.repeat(np.arange(count) % 2, 8),
        folds=np.full(count, -2),
        names=tuple("abcde"),
        source="learners",
    )


def run(out, texts, tries=None, **options):
    chosen = sweep.draw(sweep.axes(texts), tries, 0)
    return sweep.sweep(
        "sakt",
        out.parent,
        learners(24, 1),
        learners(12, 2),
        chosen,
        test=None,
        settings=SMALL,
        options=Options(epochs=2, batch=8),
        out=out,
        how=HERE,
        **options,
    )


def test_lists_are_combined():
    chosen = sweep.draw(sweep.axes(["lr=0.1,0.2", "slots=3,4,5"]), None, 0)
    assert len(chosen) == 6
    assert chosen[0] == {"lr": "0.1", "slots": "3"}


def test_some_of_them_are_drawn_alike_for_a_seed_and_none_twice():
    along = sweep.axes(["lr=0.1,0.2,0.3", "slots=3,4,5"])
    some = sweep.draw(along, 5, seed=1)
    assert some == sweep.draw(along, 5, seed=1) != sweep.draw(along, 5, seed=2)
    assert len({str(one) for one in some}) == 5


def test_a_range_is_drawn_by_ratio_and_whole_numbers_stay_whole():
    drawn = sweep.draw(sweep.axes(["lr=0.0001..0.01", "slots=2..5"]), 200, 0)
    rates = np.array([one["lr"] for one in drawn])
    assert 0.0001 <= rates.min() <= rates.max() <= 0.01
    assert np.median(rates) == pytest.approx(0.001, rel=0.4)
    assert {one["slots"] for one in drawn} == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["lr"], "is not NAME=A,B"),
        (["lr="], "is not NAME=A,B"),
        (["lr=2..1"], "is no range"),
        (["lr=0..inf"], "is no range"),
        (["lr=1..2"], "is a range"),
        (["lr=1,2", "lr=3,4"], "is named twice"),
        (["a=" + ",".join(map(str, range(50))), "b=" + ",".join(map(str, range(50)))], "too many"),
    ],
)
def test_what_is_no_sweep(texts, why):
    with pytest.raises(Invalid, match=why):
        sweep.draw(sweep.axes(texts), None, 0)


def test_the_best_is_kept_and_is_what_that_training_alone_would_give(tmp_path):
    told = []
    done = run(tmp_path / "m.pt", ["lr=0.0001,0.03", "d_model=4,6"], on_try=told.append)
    assert [one.number for one in told] == [1, 2, 3, 4]
    metrics = [one.metric for one in done.tries]
    assert metrics == sorted(metrics, reverse=True)  # auc
    best = done.tries[0].chosen
    alone = train.train(
        sweep.family_of("sakt", tmp_path),
        "sakt",
        learners(24, 1),
        learners(12, 2),
        settings=SMALL | {"d_model": best["d_model"]},
        options=Options(epochs=2, batch=8, lr=float(best["lr"])),
    )
    assert done.trained.scores.values == alone.scores.values
    assert [one["number"] for one in done.trained.training["sweep"]] == [
        one.number for one in done.tries
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def kill(one):
        if one.number == 2:
            raise Killed

    out = tmp_path / "m.pt"
    texts = ["lr=0.001,0.003,0.01"]
    with pytest.raises(Killed):
        run(out, texts, on_try=kill)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "m.pt.sweep").iterdir()}
    assert len(kept) >= 2
    again = run(out, texts)
    assert len(again.tries) == 3
    assert out.exists()


def test_a_try_that_fails_stops_no_other(tmp_path):
    done = run(tmp_path / "m.pt", ["lr=0.01,1e30"])
    assert done.tries[0].chosen == {"lr": "0.01"}
    assert "not a number" in done.tries[1].error


def test_a_setting_that_there_is_not_is_told_before_all_the_work(tmp_path):
    with pytest.raises(Invalid, match="there is no such setting"):
        run(tmp_path / "m.pt", ["nothing=1,2"])
    with pytest.raises(Invalid, match="could not convert"):
        run(tmp_path / "m.pt", ["lr=fast,slow"])
    assert not list(tmp_path.iterdir())
