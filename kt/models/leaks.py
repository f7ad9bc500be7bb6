"""Leaks: what makes held-out answers easier to predict than those of the next student will be.

    copies    an answer that always agrees with the one before it: one row, written down once for each
              skill of its problem (ASSISTments 2009). Whoever repeats the last response is right on it.
    students  a student in training and held out: what is asked has been seen.
    twins     the same under two names: a whole history that is in both, answer for answer.

Found in a second. An item that is practised again and again is no copy: its responses change.
"""

from collections.abc import Collection, Hashable, Sequence

import numpy as np

from kt.models.data import Data
from kt.models.task import Leak

OFTEN = 50  # times that two items must follow each other before their responses say anything
AGREEMENT = 0.8  # Cohen's kappa: 1 is always, 0 as by chance; pairs of honest data stay under 0.7
COPIES = 0.01  # the share of answers from which on scores are no longer to be trusted
LONG = 20  # answers of a history that two students do not have in common by chance
TWINS = 0.02  # share of those students; of 50 binary answers to the same items, 0.1 % do

Twin = tuple[str, Hashable]
"""The name of a student, and all that is known of them."""


def find(train: Data | None, held_out: Data) -> list[Leak]:
    """What leaks in these answers, or from those that a model was trained on, where they are known."""
    found = [copies(held_out)]
    if train is not None:
        known = {content for _, content in histories(train, train.names)}
        theirs = set(train.students)
        own = [twin for twin in histories(held_out, train.names) if twin[0] not in theirs]
        found += [
            shared(train.students, held_out.students, "students"),
            twins(known, own, "histories of students"),
        ]
    return [leak for leak in found if leak is not None]


def copies(data: Data) -> Leak | None:
    """Answers that agree with the one before: pair of items by pair, and repeats of rare items together."""
    K, Q = data.categories, len(data.names)
    student = np.repeat(np.arange(len(data.students)), np.diff(data.offsets))
    at = np.flatnonzero(student[1:] == student[:-1])  # the first of two answers in a row
    if not len(at):
        return None
    first, second = data.items[at], data.items[at + 1]
    pair, number, count = np.unique(first * Q + second, return_inverse=True, return_counts=True)
    repeats = pair // Q == pair % Q
    group = np.arange(len(pair))
    group[repeats & (count < OFTEN)] = len(pair)  # together, in a group of their own
    number = group[number]
    groups = len(pair) + 1
    before, after = data.responses[at], data.responses[at + 1]
    times = np.bincount(number, minlength=groups)
    agreed = np.bincount(number, before == after, groups)
    p, q = (
        np.bincount(number * K + r, minlength=groups * K).reshape(-1, K) for r in (before, after)
    )
    chance = (p * q).sum(1) / np.maximum(times, 1)  # agreements to be expected
    copied = (times >= OFTEN) & (chance < times) & (agreed - chance >= AGREEMENT * (times - chance))
    total = int(times[copied].sum())
    if total < COPIES * len(at):
        return None
    most = int(np.argmax(np.where(copied, times, 0)))
    like = ""
    if most < len(pair):
        one, other = (data.names[place] for place in (pair[most] // Q, pair[most] % Q))
        like = f" (item {other[:40]} after {one[:40]}, {times[most]:,} times)"
    says = (
        f"{total / len(at):.1%} of answers agree with the one before them as copies do{like}: "
        "whoever repeats the last response is right on them, so scores are too high; "
        "keep one row of each answer"
    )
    return Leak(kind="copies", count=total, of=len(at), says=says)


def shared(train: Sequence[str], held_out: Sequence[str], whose: str) -> Leak | None:
    """Whoever stands in both, by name. whose: "students"."""
    both = sorted(set(train) & set(held_out))
    if not both:
        return None
    says = (
        f"{len(both):,} of {len(held_out):,} held-out {whose} are among those trained on "
        f"({both[0][:40]}, ...): what is asked of them has been seen; keep them apart"
    )
    return Leak(kind=whose, count=len(both), of=len(held_out), says=says)


def twins(known: Collection[Hashable], held_out: Sequence[Twin], what: str) -> Leak | None:
    """What is held out of others, but was trained on word for word. what: "histories of students"."""
    found = sorted(name for name, content in held_out if content in known)
    if len(found) < max(1, TWINS * len(held_out)):
        return None
    says = (
        f"{len(found):,} of {len(held_out):,} held-out {what} ({found[0][:40]}, ...) were trained on "
        "under another name; keep each once"
    )
    return Leak(kind="twins", count=len(found), of=len(held_out), says=says)


def histories(data: Data, names: Sequence[str]) -> list[Twin]:
    """Each student's items, as places in `names`, and responses; of those who gave enough answers."""
    place = {name: number for number, name in enumerate(names)}
    items = np.array([place.get(name, -1) for name in data.names], np.int64)[data.items]
    bounds = zip(data.students, data.offsets[:-1], data.offsets[1:], strict=True)
    return [
        (student, (items[a:b].tobytes(), data.responses[a:b].tobytes()))
        for student, a, b in bounds
        if b - a >= LONG
    ]
