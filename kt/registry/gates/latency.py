"""One request is answered fast enough, here and now: the 95th percentile over repeated calls."""

import math
import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from kt.registry.gate import Subject
from kt.registry.load import one_thread
from kt.registry.record import Verdict

SAFETY = False
ENOUGH = 500.0, 5  # a slow model need not be asked for long: so many milliseconds, and calls


class Settings(BaseModel, extra="forbid"):
    p95_ms: float = Field(100.0, gt=0)  # of the model alone, one thread, the longest request
    calls: int = Field(40, ge=10)


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    longest = loaded.form.example(loaded.signature, np.random.default_rng(0), 2)[-1:]
    arrays = loaded.form.collate(longest, loaded.signature)

    def call() -> float:
        started = time.perf_counter()
        loaded.run(arrays)
        return (time.perf_counter() - started) * 1000

    times: list[float] = []
    with one_thread():  # warm: `finite` has asked it already
        while not decided(times, settings):
            times.append(call())
    p95 = float(np.quantile(times, 0.95))
    return Verdict(
        gate="",
        passed=p95 <= settings.p95_ms,
        measured=round(p95, 3),
        bound=settings.p95_ms,
        sentence=f"p95 {p95:.1f} ms (bound {settings.p95_ms:g})",
    )


def decided(times: Sequence[float], settings: Settings) -> bool:
    """Asked often enough or long enough, or so often too slow that no further call can mend the percentile."""
    too_slow = sum(each > settings.p95_ms for each in times)
    return (
        len(times) >= settings.calls
        or too_slow > math.ceil(0.05 * (settings.calls - 1))
        or (sum(times) >= ENOUGH[0] and len(times) >= ENOUGH[1])
    )
