"""One request is answered fast enough, here and now: the 95th percentile over repeated calls."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from pydantic import BaseModel, Field

from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False
WARM = 3  # the first calls allocate
FEWEST, ENOUGH = 10, 1000.0  # calls; milliseconds


class Settings(BaseModel, extra="forbid"):
    p95_ms: float = Field(100.0, gt=0)  # of the model alone, one thread, the longest request
    calls: int = Field(40, ge=10)


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    loaded = candidate.loaded
    longest = loaded.form.example(loaded.signature, np.random.default_rng(0), 2)[-1:]
    arrays = loaded.form.collate(longest, loaded.signature)
    times: list[float] = []
    with one_thread():
        for _ in range(WARM):
            loaded.run(arrays)
        # a slow model need not be asked for long to be known as slow
        while len(times) < settings.calls and (len(times) < FEWEST or sum(times) < ENOUGH):
            started = time.perf_counter()
            loaded.run(arrays)
            times.append((time.perf_counter() - started) * 1000)
    p95 = float(np.quantile(times, 0.95))
    return Verdict(
        gate="",
        passed=p95 <= settings.p95_ms,
        measured=round(p95, 3),
        bound=settings.p95_ms,
        sentence=f"p95 {p95:.1f} ms (bound {settings.p95_ms:g})",
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """As a worker of the predictor runs it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
