"""Histories in pieces of a window, and batches of those."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Pieces of histories: window i is events start[i] to stop[i]; those from score[i] on are its own."""

    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.stop - self.start)


class Grouped(Protocol):
    """Events in groups, as a student's answers: group l has events offsets[l] to offsets[l + 1]."""

    @property
    def offsets(self) -> np.ndarray: ...


def windows(data: Grouped, window: int, *, overlap: bool, shortest: int = 1) -> Windows:
    """Cut histories into pieces of at most `window` events; those shorter than `shortest` are left out.

    overlap: each piece after a student's first repeats the half before it as context and owns its
    second half, so that every event is owned once and few are predicted from a short history.
    """
    step = max(1, window // 2)
    pieces: list[tuple[int, int, int]] = []
    for begin, end in zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True):
        first = min(begin + window, end)
        pieces.append((begin, first, begin))
        if overlap:
            stops = range(first + step, end + step, step) if first < end else ()
            pieces += [(min(s, end) - window, min(s, end), s - step) for s in stops]
        else:
            pieces += [(s, min(s + window, end), s) for s in range(first, end, window)]
    start, stop, score = (
        np.array([p for p in pieces if p[1] - p[0] >= shortest], np.int64).reshape(-1, 3).T
    )
    return Windows(start, stop, score)


def batches(windows: Windows, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Places of windows, `size` together, of like length so that little is padding.

    With an rng, ties and the order of the batches are drawn; without, longest first.
    """
    if rng is None:
        order = np.argsort(-windows.lengths, kind="stable")
        return [order[i : i + size] for i in range(0, len(order), size)]
    order = np.lexsort((rng.random(len(windows)), windows.lengths))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def padded(values: np.ndarray, windows: Windows, places: np.ndarray) -> np.ndarray:
    """(B, T) the values of these windows' events, zero after each one's end."""
    lengths = windows.lengths[places]
    steps = np.arange(lengths.max(initial=1))
    inside = steps < lengths[:, None]
    index = np.where(inside, windows.start[places][:, None] + steps, 0)
    return np.where(inside, values[index], 0)
