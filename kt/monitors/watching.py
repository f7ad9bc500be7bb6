"""The watching watches itself: predictors that record nothing, answers that went unrecorded, outcomes that fit no prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kt.config import Settings
from kt.monitors import thresholds
from kt.monitors.measure import Measured
from kt.monitors.thresholds import Sample
from kt.store.counters import counters
from kt.store.database import Store

OWN = "recording", "dropped", "refused"
REFUSED = "refused_forged", "refused_unknown"


@dataclass(frozen=True)
class Recording:
    """What a running predictor says of its recording. late: minutes that it has not been able to."""

    pid: int
    late: float
    reason: str = ""


def watching(
    store: Store, settings: Settings, recordings: Sequence[Recording], now: datetime
) -> Iterator[Measured]:
    """Each as a metric that should be 0."""
    late = max(recordings, key=lambda one: one.late, default=Recording(0, 0.0))
    note = f"process {late.pid}: {late.reason}" if late.reason else ""
    levels = replace(thresholds.DEFAULTS["recording"], alert=settings.monitor.deadman)
    yield Measured(
        None, levels, Sample(max(1, len(recordings)), late.late, lower=late.late), 0, note
    )
    minute = int(now.timestamp()) // 60
    for metric, names in (("dropped", ("dropped",)), ("refused", REFUSED)):
        levels = thresholds.DEFAULTS[metric]
        seen = counters(store, minute - levels.window, minute + 1)
        n = float(sum(seen[name] for name in names))
        yield Measured(None, levels, Sample(1, n, lower=n), levels.window)
