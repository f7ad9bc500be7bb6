"""Pictures: which there are, and that what they show is what was predicted."""

import sys

import numpy as np
import pytest
from PIL import Image

from kt.errors import Invalid
from kt.models import fitting, irt, plots, sakt, simulate
from kt.models.answers import predict
from kt.models.data import read
from kt.models.run import Epoch, Options
from kt.models.split import split
from kt.models.train import configure, train


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learners")
    simulate.write(simulate.learning(students=60, items=12, categories=2, seed=1), folder)
    return split(read(folder))


def test_each_picture_is_a_file_that_opens(learners, tmp_path):
    trained = train(
        sakt, "sakt", learners.train, learners.valid, test=learners.test,
        settings=sakt.SIZES["small"], options=Options(epochs=2),
    )  # fmt: skip
    pictures = [
        *plots.learnt(trained.history, "auc"),
        *plots.predicted(trained.scores.predicted),
        *plots.traced(trained.model, trained.signature, learners.test),
    ]
    paths = plots.write(iter(pictures), tmp_path / "new" / "pictures")
    assert [path.name for path in paths] == ["learning.png", "reliability.png", "roc.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 500


def test_without_a_picture_there_is_no_folder(tmp_path):
    assert plots.write(iter([]), tmp_path / "pictures") == []
    assert not (tmp_path / "pictures").exists()


def test_a_model_with_abilities_shows_them_and_its_items(learners):
    config, signature = configure(irt, learners.train, {})
    model = fitting.fit(irt, config, signature, learners.train)
    found = dict(plots.traced(model, signature, learners.test))
    assert list(found) == ["items", "ability"]
    (axes,) = found["items"].axes
    assert len(axes.lines) == plots.ITEMS
    for line in axes.lines:  # of two categories the curve is a probability, and rises
        assert 0 <= line.get_ydata().min() < line.get_ydata().max() <= 1
        assert (np.diff(line.get_ydata()) > 0).all()
    (axes,) = found["ability"].axes
    first = {round(float(line.get_ydata()[0]), 6) for line in axes.lines}
    assert first == {0.0}  # before the first answer


def test_the_roc_has_the_area_that_the_score_has(learners):
    config, signature = configure(irt, learners.train, {})
    events = predict(fitting.fit(irt, config, signature, learners.train), signature, learners.test)
    roc = dict(plots.predicted(events))["roc"]
    area = float(roc.axes[0].get_title().split()[1])
    value = events.prepare("auc")(np.ones((1, len(events.units))))[0]
    assert area == pytest.approx(value, abs=1e-4)


def test_one_epoch_is_no_curve():
    assert not list(plots.learnt([Epoch(1, 0.6, 0.7, best=True, gained=True, seconds=0.1)], "auc"))


def test_without_matplotlib_it_is_told_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Invalid, match="pictures need matplotlib") as caught:
        plots.require()
    assert caught.value.do == "pip install 'kt[plot]'"
