"""Learners of the demo, who ask a predictor for their next items and tell what they answered."""

import csv
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.cli import progress
from kt.errors import Unavailable

if TYPE_CHECKING:
    from kt.client import Client

FIRST = 4  # answers before a learner asks
LESSON = 8  # items that are asked for at once, and answered
PATIENCE = 60.0  # seconds for an answer: the demo may run on a machine that has much to do
LESSONS = 3  # that a learner takes before it is the next one's turn
Versions = dict[str, set[str]]  # that answered, by learner


class Pupils:
    """The learners of a file, at a predictor. Each goes on where it stopped, as long as it has answers."""

    def __init__(self, path: Path, address: str) -> None:
        self.address = address
        self.answers: dict[str, list[tuple[str, int]]] = defaultdict(list)  # item, response
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                self.answers[row["student_id"]].append((row["item"], int(row["response"])))
        self.known = dict.fromkeys(self.answers, FIRST)  # answers that a learner has told so far

    def learn(self, lessons: int = LESSONS) -> str:
        """Some lessons for each. Returns who answered whom."""
        from kt.client import Client

        before = sum(self.known.values())
        seen: Versions = {}
        with (
            Client(self.address, timeout=PATIENCE) as client,
            progress.counting("learners", len(self.answers)) as done,
        ):
            for student in self.answers:
                told: list[dict[str, Any]] = []
                while len(told) < lessons and self.known[student] < len(self.answers[student]):
                    version, outcome = self.lesson(client, student)
                    told.append(outcome)
                    seen.setdefault(student, set()).add(version)
                if told:
                    client.feedback_all(told)
                done(1)
        return summary(sum(self.known.values()) - before, seen)

    def learn_all(self) -> str:
        """All the lessons that are left."""
        return self.learn(sys.maxsize)

    def lesson(self, client: "Client", student: str) -> tuple[str, dict[str, Any]]:
        """Ask for the next items. Returns the version that answered, and what to tell of it."""
        answers, known = self.answers[student], self.known[student]
        lesson = answers[known : known + LESSON]
        history = [{"item": item, "response": response} for item, response in answers[:known]]
        reply = client.predict(
            {"student_id": student, "answers": history, "items": [item for item, _ in lesson]}
        )
        self.known[student] += len(lesson)
        came = [response for _, response in lesson]
        return reply.version, {"prediction_id": reply.prediction_id, "outcome": came}


def summary(outcomes: int, seen: Versions) -> str:
    """Who answered whom. Raises Unavailable where a learner got answers of two versions."""
    if moved := [student for student, versions in seen.items() if len(versions) > 1]:
        raise Unavailable(
            f"learners did not stay with one version: {', '.join(moved[:5])}",
            do="this is a bug in kt",
        )
    counts = Counter(version for (version,) in seen.values())
    shares = " · ".join(
        f"{version} {n} learners ({100 * n / len(seen):.0f} %)"
        for version, n in sorted(counts.items())
    )
    return f"{outcomes:,} answers predicted, and told: {shares}"
