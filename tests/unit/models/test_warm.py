"""A warm start: the same weights where they mean the same, a clear refusal where they do not."""

import pytest
import torch

from kt.errors import Invalid
from kt.models import gpcm, memory_gru, sakt, warm
from kt.models.memory_gru import Config
from kt.models.tracing import Signature
from kt.models.warm import Start

SMALL = {"hidden": 8, "slots": 4}


def gru(window=10, dimension=4, **other):
    config = Config(dimension=dimension, window=window, **SMALL | other)
    return memory_gru.Model(config), memory_gru.signature(config)


def attention(window=10, items=("a", "b", "c")):
    config = sakt.Config(items=len(items), window=window, d_model=8, heads=2)
    return sakt.Model(config), Signature(items=items, categories=2, window=window)


def test_a_longer_context_goes_on_from_the_same_weights():
    (short, of_short), (long, of_long) = gru(100), gru(500)
    warm.fill(long, of_long, Start("short.pt", short, of_short))
    x = torch.randn(2, 7, 4)
    assert torch.equal(long(x, torch.tensor([7, 7])), short(x, torch.tensor([7, 7])))


@pytest.mark.parametrize(("old", "new"), [(10, 30), (30, 10)])
def test_a_table_by_distance_keeps_what_both_windows_have(old, new):
    (before, of_before), (after, of_after) = attention(old), attention(new)
    with torch.no_grad():
        before.recency.normal_()
    fresh = after.recency.clone()
    warm.fill(after, of_after, Start("m@v1", before, of_before))
    both = min(old, new) + 1
    assert torch.equal(after.recency[:, :both], before.recency[:, :both])
    assert torch.equal(after.recency[:, both:], fresh[:, both:])


def test_what_does_not_fit_is_refused():
    model, signature = gru()
    for start, says in (
        (gru(dimension=5), "knows other dimension"),
        (gru(hidden=9), "other sizes: fuse.bias is \\[9\\] there and \\[8\\] here"),
        (gru(layers=2), "other sizes: recur.bias_hh_l1"),
        (attention(), "another family"),
    ):
        with pytest.raises(Invalid, match=says) as caught:
            warm.fill(model, signature, Start("other.pt", *start))
        assert caught.value.where == "--from"


def test_items_in_other_rows_are_refused():
    model, signature = attention(items=("a", "b", "c"))
    with pytest.raises(Invalid, match="knows other items"):
        warm.fill(model, signature, Start("m@v1", *attention(items=("a", "c", "b"))))


def test_settings_come_with_the_start_and_its_weights_make_its_digest():
    one, other = Start("a", *gru()), Start("b", *gru())
    assert one.settings["hidden"] == 8
    assert one.sha256 != other.sha256
    other.model.load_state_dict(one.model.state_dict())
    assert one.sha256 == other.sha256


def test_a_calibration_is_no_knowledge():
    config = gpcm.Config(items=2, window=5, **gpcm.SIZES["small"])
    signature = gpcm.signature(config)
    model = gpcm.Model(config)
    warm.fill(gpcm.Model(config), signature, Start("m@v1", model, signature))
