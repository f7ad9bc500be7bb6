"""Mastery of a skill: what a student is expected to earn now of the items that stand for it, in the mean. Pure.

In [0, 1]: of two categories the mean probability of a right answer, of more the mean share of the highest
response. All students are asked the same items, those of the skill that the version knows, each at the end
of all that they have answered: so two students, and one at two times, are told by the same measure. Which
items these were is kept as a digest beside each value.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import NamedTuple

import numpy as np

DIGITS = 16  # of a digest
# seconds since 1970 at which the years 2000 and 10,000 begin: a number beyond counts something else, an order or days
EARLIEST, LATEST = 946_684_800.0, 253_402_300_800.0


class Skill(NamedTuple):
    """items: all of it, whose answers count as practice. asked: those that a version knows, which stand for it."""

    name: str
    items: frozenset[str]
    asked: tuple[str, ...]

    @property
    def digest(self) -> str:
        return sha256("\0".join(self.asked).encode()).hexdigest()[:DIGITS]


class Standing(NamedTuple):
    """How a student stands in a skill. answers: to items of it. last: when the latest of these was given, in
    seconds since 1970; None where there is none or the data do not say."""

    mastery: float
    answers: int
    last: int | None


def skills(found: Mapping[str, Collection[str]], vocabulary: Sequence[str]) -> list[Skill]:
    """In the order given, those of which the vocabulary has an item. found: the items of each skill."""
    every = [
        Skill(name, frozenset(items), tuple(item for item in vocabulary if item in items))
        for name, items in found.items()
    ]
    return [skill for skill in every if skill.asked]


@dataclass(frozen=True)
class Measure:
    """S skills, and by numbers: which of the M items asked stand for each, and which each of N items practises,
    item n the skills practised[first[n] : first[n] + width[n]]."""

    skills: Sequence[Skill]
    items: Sequence[str]  # M, that are asked
    stand_for: Sequence[np.ndarray]  # S, places in `items`
    first: np.ndarray  # (N,)
    width: np.ndarray  # (N,)
    practised: np.ndarray

    def standings(
        self, earned: np.ndarray, offsets: np.ndarray, items: np.ndarray, times: np.ndarray | None
    ) -> Iterator[list[Standing]]:
        """How each student stands in each skill, in their order.

        earned: (L, M), in [0, 1]. offsets: student l gave answers offsets[l] to offsets[l + 1]. items: (E,) of
        the N. times: (E,) seconds since 1970, NaN where unknown; None where none is known.
        """
        mastery = np.stack([earned[:, places].mean(1) for places in self.stand_for], 1)
        answers, last = self.practice(offsets, items, times)
        for student in zip(mastery.tolist(), answers.tolist(), last.tolist(), strict=True):
            yield [
                Standing(value, n, int(at) if EARLIEST <= at < LATEST else None)
                for value, n, at in zip(*student, strict=True)
            ]

    def practice(
        self, offsets: np.ndarray, items: np.ndarray, times: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(L, S) answers to items of each skill, and the latest time of one, -inf where none is known."""
        L, S = len(offsets) - 1, len(self.skills)
        # an answer to an item of two skills counts in both: it is repeated
        often = self.width[items]
        answer = np.repeat(np.arange(len(items)), often)
        nth = np.arange(len(answer)) - np.repeat(np.cumsum(often) - often, often)
        skill = self.practised[self.first[items[answer]] + nth]
        student = np.repeat(np.arange(L), np.diff(offsets))[answer]
        cell = student * S + skill
        answers = np.bincount(cell, minlength=L * S)
        last = np.full(L * S, -np.inf)
        if times is not None:
            at = times[answer]
            known = ~np.isnan(at)
            np.maximum.at(last, cell[known], at[known])
        return answers.reshape(L, S), last.reshape(L, S)


def measure(skills: Sequence[Skill], names: Sequence[str]) -> Measure:
    """names: of the N items that were answered."""
    items = list(dict.fromkeys(item for skill in skills for item in skill.asked))
    place = {item: number for number, item in enumerate(items)}
    of: dict[str, list[int]] = {}
    for number, skill in enumerate(skills):
        for item in skill.items:
            of.setdefault(item, []).append(number)
    practised = [of.get(name, []) for name in names]
    width = np.array([len(one) for one in practised], np.int64)
    return Measure(
        skills,
        items,
        [np.array([place[item] for item in skill.asked]) for skill in skills],
        np.cumsum(width) - width,
        width,
        np.fromiter(chain.from_iterable(practised), np.int64),
    )
