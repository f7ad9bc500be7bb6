"""Items come back as they were drawn, an ability is a skill's, and guessing is a floor."""

import numpy as np
import pytest
import torch

from kt.models import data as room
from kt.models import simulate_irt, train, wide_deep_irt
from kt.models.answers import configure, skills
from kt.models.run import Options
from kt.models.simulate import write_tables
from kt.models.split import split
from kt.models.tracing import RESERVED

ITEMS = 6


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = wide_deep_irt.Config(items=ITEMS, skills=(1, 1, 2, 2, 0, 0), d_value=8, hidden=8)
    module = wide_deep_irt.Model(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def asked(model, items, responses, *items_asked):
    rows = [torch.tensor(x)[None] + RESERVED for x in (items, items_asked)]
    with torch.inference_mode():
        return model.serve(
            rows[0], torch.tensor(responses)[None], torch.tensor([len(items)]), rows[1]
        )


def test_difficulties_are_recovered(tmp_path):
    drawn = simulate_irt.simulate(students=500, items=30, seed=5)
    write_tables({"answers.csv": drawn.before}, drawn.truth, tmp_path)
    parts = split(room.read(tmp_path))
    trained = train.train(
        wide_deep_irt,
        "wide_deep_irt",
        parts.train,
        parts.valid,
        settings=wide_deep_irt.SIZES["small"],
        options=Options(epochs=4, lr=5e-3),
    )
    found = wide_deep_irt.items(trained.model)
    truth = [drawn.truth["items"][name] for name in trained.signature.items]
    for name, least in (("difficulty", 0.95), ("discrimination", 0.4)):
        true = [item[name] for item in truth]
        assert np.corrcoef(found[name].detach(), true)[0, 1] >= least, name
    assert int(found["answers"].sum()) == parts.train.events


def test_an_ability_is_the_skill_s_and_an_item_met_before_stands_apart(model):
    told = asked(model, [0, 2, 4], [1, 0, 1], 0, 1, 2, 3)
    ability = told["ability"][0]
    torch.testing.assert_close(ability[[0, 2]], ability[[1, 3]])
    assert abs(ability[0] - ability[2]) > 1e-4
    a, b = told["discrimination"][0], told["steps"][0, :, 0]
    plain = torch.sigmoid(a * (ability - b))
    p = told["probabilities"][0, :, 1]
    torch.testing.assert_close(p[[1, 3]], plain[[1, 3]])
    assert (p[[0, 2]] - plain[[0, 2]]).abs().min() > 1e-4


def test_what_can_be_guessed_is_never_less_likely_than_a_guess():
    torch.manual_seed(0)
    config = wide_deep_irt.Config(items=ITEMS, guessing=True, d_value=8, hidden=8)
    model = wide_deep_irt.Model(config).eval()
    with torch.no_grad():
        model.steps.weight.fill_(20.0)  # far too hard
    told = asked(model, [0], [0], 1, 2)
    torch.testing.assert_close(told["probabilities"][0, :, 1], told["guessing"][0])
    assert torch.allclose(wide_deep_irt.items(model)["guessing"], torch.tensor(0.2))


def test_guessing_is_for_right_or_wrong():
    with pytest.raises(ValueError, match="not for 3 categories"):
        wide_deep_irt.Model(wide_deep_irt.Config(items=3, categories=3, guessing=True))


def test_items_begin_at_their_share_and_rare_ones_at_their_skill_s():
    model = wide_deep_irt.Model(wide_deep_irt.Config(items=3, skills=(1, 1, 2)))
    items = torch.tensor([[0] * 90 + [1] + [2] * 50]) + RESERVED
    responses = torch.tensor([[1] * 60 + [0] * 30 + [0] + [1, 0] * 25])
    wide_deep_irt.prepare(model, [(items, responses, torch.tensor([141]))])
    b = wide_deep_irt.items(model)["difficulty"].tolist()
    assert b[0] == pytest.approx(-np.log(2), abs=0.1)  # two in three
    assert b[1] == pytest.approx(b[0], abs=0.5)
    assert b[2] == pytest.approx(0, abs=0.1)
    assert model.answers[RESERVED:].tolist() == [90, 1, 50]


def test_skills_come_from_the_data(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("student_id,item,skill,response\ns,a,x,1\ns,b,y,0\ns,c,,1\ns,a,y,1\ns,a,x,0\n")
    data = room.read(path)
    config, signature = configure(wide_deep_irt, data, {})
    assert signature.items == ("a", "b", "c")
    assert config.skills == (1, 2, 0)
    assert skills(room.read([path]).take(np.array([], int)), ("a", "new")) == (1, 0)
