"""Treatments that the predictors of this machine took out of traffic themselves, within seconds.

.kt/tripped.json   written by predictor/brake.py, from which nothing is imported here
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kt import files
from kt.deployments.courses import Course
from kt.errors import KtError

FILE = "tripped.json"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Counts(Part):
    """calls: of the version, each for a batch of requests."""

    requests: int
    failed: int
    calls: int
    slow: int


class Trip(Part):
    """phase: of the experiment, in which the treatment was taken out."""

    model: str
    experiment: str
    phase: int
    metric: str  # errors | slow
    control: Counts
    treatment: Counts

    @property
    def why(self) -> str:
        ours, theirs = self.treatment, self.control
        if self.metric == "errors":
            return (
                f"errors: {ours.failed:,} of {ours.requests:,} requests to the treatment,"
                f" {theirs.failed:,} of {theirs.requests:,} to the control"
            )
        return (
            f"slow answers: in {ours.slow:,} of {ours.calls:,} calls of the treatment,"
            f" {theirs.slow:,} of {theirs.calls:,} of the control"
        )


class Book(Part):
    trips: tuple[Trip, ...] = ()


def of(local: Path, course: Course) -> Trip | None:
    """What happened in the phase that an experiment is in. local: the folder .kt."""
    asked = course.model, course.name, course.now.seq
    trips = read(local).trips
    return next((one for one in trips if (one.model, one.experiment, one.phase) == asked), None)


def read(local: Path) -> Book:
    """Nothing where there is no file that can be read: the rows in the tables tell of it too."""
    try:
        return Book.model_validate_json(files.read(local / FILE))
    except (FileNotFoundError, KtError, ValidationError):
        return Book()
