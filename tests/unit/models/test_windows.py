"""Histories are cut into windows that own every event once, and those into batches."""

from types import SimpleNamespace

import numpy as np
import pytest

from kt.models.windows import Windows, batches, padded, windows


def histories(*lengths):
    return SimpleNamespace(offsets=np.concatenate([[0], np.cumsum(lengths)]))


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_windows_own_every_event_once(window, overlap):
    data = histories(1, 2, 5, 6, 17, 40)
    pieces = windows(data, window, overlap=overlap)
    owned = [e for a, b in zip(pieces.score, pieces.stop, strict=True) for e in range(a, b)]
    assert sorted(owned) == list(range(71))
    assert pieces.lengths.max() <= window
    for a, b in zip(pieces.start, pieces.stop, strict=True):  # of one student
        assert np.searchsorted(data.offsets, a, "right") == np.searchsorted(
            data.offsets, b - 1, "right"
        )
    if overlap:
        context = pieces.score - pieces.start
        later = ~np.isin(pieces.start, data.offsets[:-1])
        assert (context[later] >= window - max(1, window // 2)).all()


def test_batches_hold_every_window_once_and_repeat_with_the_seed():
    pieces = windows(histories(*[1] * 23), 5, overlap=False)
    drawn = batches(pieces, 4, np.random.default_rng(1))
    assert sorted(np.concatenate(drawn).tolist()) == list(range(23))
    again = batches(pieces, 4, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_padded_is_zero_after_the_end():
    pieces = Windows(np.array([0, 3]), np.array([3, 4]), np.array([0, 3]))
    values = np.array([7, 8, 9, 5])
    assert padded(values, pieces, np.array([0, 1])).tolist() == [[7, 8, 9], [5, 0, 0]]
