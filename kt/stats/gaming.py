"""Gaming: answers too fast to have been thought about, and help asked for again and again.

    rapid    within 10 % of the item's mean time, at most 10 s (NT10; Wise and Ma 2012)
    effort   of a student: the share of answers that are not rapid (Wise and Kong 2005); under 0.9 is low

A rule of times is right only where what it flags is guessed: the accuracy of rapid answers must be near chance.
Where it is surely nearer to that of the others, students are quick, not careless, and nothing is said of them.
Help is abused where it is asked for at three answers in a row and far more often than others ask. Of a student
with fewer than ten answers nothing is known. A score is never given without what it is made of.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kt.stats.arms import TWO_SIDED, wilson

SHARE = 0.1  # of an item's mean time, within which an answer is rapid
MOST = 10.0  # seconds, whatever the mean
LOW_EFFORT = 0.9
FEWEST = 10  # answers, of a student or of those that judge the rule
STREAK = 3  # answers in a row with help
FAR = 3.0  # standard errors above the population's share of answers with help

Fit = Literal["fits", "does not fit", "unknown"]
Verdict = Literal["engaged", "rapid guessing", "help abuse", "unknown"]


@dataclass(frozen=True)
class Rule:
    """What rapid answers earn beside the others, as shares; and whether that is near chance."""

    rapid: int
    others: int
    rapid_accuracy: float | None
    others_accuracy: float | None
    chance: float
    fit: Fit


@dataclass(frozen=True)
class Student:
    """What one student's answers show. score: the share of them that are rapid or of a streak of help."""

    answers: int
    rapid: int
    effort: float | None  # None where no answer is timed
    help: int  # answers with help
    streak: int  # the most of these in a row
    score: float | None  # None where the verdict is unknown
    verdict: Verdict
    evidence: str


def thresholds(seconds: np.ndarray, items: np.ndarray, count: int) -> np.ndarray:
    """(count,) seconds within which an answer to each item is rapid; 0 where none is timed.

    seconds: (E,), NaN where unknown. items: (E,) in 0 .. count - 1.
    """
    timed = ~np.isnan(seconds)
    n = np.bincount(items[timed], minlength=count)
    mean = np.bincount(items[timed], seconds[timed], count) / np.maximum(n, 1)
    return np.asarray(np.minimum(SHARE * mean, MOST))


def rule(rapid: np.ndarray, earned: np.ndarray, timed: np.ndarray, chance: float) -> Rule:
    """Whether rapid answers are guesses. All (E,): flags; shares earned, 0 to 1; whether there is a time."""
    fast, slow = earned[rapid], earned[timed & ~rapid]
    fit: Fit = "unknown"
    if len(fast) >= FEWEST and len(slow) >= FEWEST:
        nearer_to_others = (chance + float(slow.mean())) / 2
        fit = (
            "does not fit"
            if wilson(float(fast.sum()), len(fast), TWO_SIDED)[0] > nearer_to_others
            else "fits"
        )
    return Rule(
        len(fast),
        len(slow),
        float(fast.mean()) if len(fast) else None,
        float(slow.mean()) if len(slow) else None,
        chance,
        fit,
    )


def students(
    offsets: np.ndarray,
    rapid: np.ndarray,
    timed: np.ndarray,
    help_asked: np.ndarray,
    judged: Rule,
) -> list[Student]:
    """Of each of L students, with answers offsets[l] to offsets[l + 1] in order; the rest (E,) flags.

    Where the rule does not fit, rapid answers count for nothing.
    """
    if judged.fit == "does not fit":
        rapid = np.zeros_like(rapid)
    usual = float(help_asked.mean()) if len(help_asked) else 0.0
    spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return [_student(rapid[a:b], timed[a:b], help_asked[a:b], usual, judged) for a, b in spans]


def _student(
    rapid: np.ndarray, timed: np.ndarray, helped: np.ndarray, usual: float, judged: Rule
) -> Student:
    n, times, fast, asked = len(rapid), int(timed.sum()), int(rapid.sum()), int(helped.sum())
    in_streak = _streaks(helped)
    streak = _longest(helped)
    effort = 1 - fast / times if times else None
    spread = math.sqrt(n * usual * (1 - usual))
    abuses = streak >= STREAK and asked - n * usual > FAR * spread
    verdict: Verdict = "engaged"
    if n < FEWEST or (judged.fit == "does not fit" and not abuses):
        verdict = "unknown"
    elif effort is not None and times >= FEWEST and effort < LOW_EFFORT:
        verdict = "rapid guessing"
    elif abuses:
        verdict = "help abuse"
    flagged = rapid | in_streak if abuses else rapid
    score = None if verdict == "unknown" else float(flagged.mean())
    evidence = _evidence(n, times, fast, asked, streak, usual, judged)
    return Student(n, fast, effort, asked, streak, score, verdict, evidence)


def _evidence(
    n: int, times: int, fast: int, asked: int, streak: int, usual: float, judged: Rule
) -> str:
    if n < FEWEST:
        return f"{n} answers, fewer than {FEWEST}"
    said = []
    if judged.fit == "does not fit":
        said.append("rapid answers are right too often to be guesses")
    elif times:
        said.append(f"{fast} of {times} rapid")
    if asked:
        said.append(f"{asked} of {n} with help ({usual:.0%} is usual), {streak} in a row")
    return ", ".join(said)


def _streaks(flags: np.ndarray) -> np.ndarray:
    """Which of the flags stand in a row of at least STREAK."""
    inside = np.zeros(len(flags), bool)
    for begin, end in _runs(flags):
        inside[begin:end] = end - begin >= STREAK
    return inside


def _longest(flags: np.ndarray) -> int:
    return max((end - begin for begin, end in _runs(flags)), default=0)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of flags."""
    edges = np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
