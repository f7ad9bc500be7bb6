"""The weights fit: on disk, and in the memory of a worker."""

from pydantic import BaseModel, Field

from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False


class Settings(BaseModel, extra="forbid"):
    max_mb: float = Field(2000.0, gt=0)  # of the weights file, 10^6 bytes


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    size = candidate.weights.stat().st_size / 1e6
    return Verdict(
        gate="",
        passed=size <= settings.max_mb,
        measured=round(size, 3),
        bound=settings.max_mb,
        sentence=f"{size:.1f} MB (bound {settings.max_mb:g})",
    )
