"""A split by unit: whoever is in one part is in no other, and stays there as data grows.

Kept for testing are those of fold TEST. The others are split for validation by the fold that their file
gives them, otherwise by a hash of the id.
"""

import hashlib
from collections.abc import Mapping
from typing import Protocol, Self, TypeVar

import numpy as np

from kt.errors import Invalid
from kt.models.task import Parts

TEST = -1  # fold of the students kept for testing
UNASSIGNED = -2  # no fold in the file: the hash of the id decides
FOLDS = 10  # of which the hash makes one for validation


class Sided(Protocol):
    """Data whose units each stand on one side of a split. folds: (L,) TEST, UNASSIGNED or the file's."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def folds(self) -> np.ndarray: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def source(self) -> str: ...
    def take(self, places: np.ndarray, /) -> Self: ...


S = TypeVar("S", bound=Sided)


def split(data: S, valid: S | None = None) -> Parts:
    """By unit. valid: others to stop by. Raises Invalid where a part would be empty."""
    hashes = np.array([fold_of(unit) for unit in data.units])
    folds = np.where(data.folds == UNASSIGNED, hashes, data.folds)
    test = folds == TEST
    kept = data.take(test) if test.any() else None
    if valid is not None:
        return Parts(data.take(~test), valid, kept)
    chosen = folds == 0
    train = ~test & ~chosen
    if not train.any() or not chosen.any():
        _, whom = data.counts
        raise Invalid(
            f"{len(data.units)} {whom} ({int(test.sum())} for testing) are too few to train and to validate",
            where=data.source,
            do=f"give more {whom}, or those to validate on with --valid",
        )
    return Parts(data.take(train), data.take(chosen), kept)


def without_test(data: S) -> S:
    """All units but those kept for testing."""
    return data.take(data.folds != TEST)


def only_test(data: S) -> S:
    """The units kept for testing, or all where none are."""
    test = data.folds == TEST
    return data.take(test) if test.any() else data


def fold_of(unit: str) -> int:
    """0 .. FOLDS - 1, by the id alone."""
    return int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8]) % FOLDS
