"""What kt status shows of each that answers, in a few sums: requests, failures, speed, accuracy. Judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from kt.monitors.live import Live
from kt.store import labels, traffic
from kt.store.batch import LATENCY
from kt.store.database import Store

HOUR, DAY = 60, 1_440  # minutes


@dataclass(frozen=True)
class Glance:
    """Of the last hour; accuracy, outcomes and labelled of the last day. None where there is nothing.

    p95: milliseconds. labelled: the share of answers whose outcome is known.
    """

    requests: int
    error_rate: float | None
    p95: float | None
    accuracy: float | None
    outcomes: int
    labelled: float | None


def glance(store: Store, lives: Sequence[Live], minute: int) -> list[Glance]:
    """One for each, in their order. minute: the present one, as far as it has come."""
    ids, end = [who.stream.id for who in lives], minute + 1
    hour = traffic.total(store, ids, end - HOUR, end, ("counts", LATENCY))
    day = traffic.total(store, ids, end - DAY, end, ("counts",))
    known = labels.total(store, ids, end - DAY, end, ("counts",))
    out = []
    for each in ids:
        seen, served, outcomes = hour[each], day[each].served, known[each]
        out.append(
            Glance(
                requests=seen.assigned,
                error_rate=seen.error_rate,
                p95=seen.latency.quantile(0.95),
                accuracy=outcomes.right / outcomes.n if outcomes.n else None,
                outcomes=outcomes.n,
                labelled=min(1.0, outcomes.n / served) if served else None,
            )
        )
    return out


def age(store: Store, lives: Sequence[Live], now: float) -> float | None:
    """Seconds since the end of the last minute in which anything was recorded; None where nothing was."""
    newest = traffic.newest(store, [who.stream.id for who in lives])
    return None if newest is None else max(0.0, now - newest * 60)
