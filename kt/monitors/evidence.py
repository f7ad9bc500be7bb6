"""What the tables hold of an experiment: both variants, phase by phase."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from kt.config import Experiment
from kt.deployments.courses import Course, Phase
from kt.monitors.variants import Side, Stretch
from kt.monitors.verdict import Interval, Report
from kt.store.database import Store

DAY = 1_440  # minutes
VARIANTS = ("control", "treatment")
BETWEEN = 15 * 60  # seconds, of looks that are kept

Ids = Mapping[tuple[int, str], int]  # of streams, by phase and variant


def minute(at: datetime) -> int:
    """Whole minutes since the epoch."""
    return int(at.timestamp() // 60)


def streams(store: Store, course: Course) -> dict[tuple[int, str], int]:
    """Those that answered while both variants did."""
    from kt.store import streams as room

    phases = {phase.seq for phase in course.split}
    return {
        (one.phase, one.variant): one.id
        for one in room.streams(store, course.model, course.name)
        if one.phase in phases and one.variant in VARIANTS
    }


def stretches(
    store: Store, course: Course, ids: Ids, metric: str, now: datetime, mature: float
) -> list[Stretch]:
    """Of every phase in which both variants answer. mature: hours that outcomes may take; those of days
    that are younger do not count, in either variant: some kinds come sooner than others."""
    from kt.store import buckets, traffic

    every, begin = list(ids.values()), minute(datetime.fromisoformat(course.begin))
    end = minute(now) + 1
    seen = traffic.total(store, every, begin, end, parts=("counts",))
    young = minute(now - timedelta(hours=mature)) // DAY if mature else None
    outcomes = buckets.buckets(store, every, metric, young)
    slow = spells(store, ids, begin, end)

    def side(phase: Phase, variant: str, units: Mapping[int, int]) -> Side:
        stream = ids.get((phase.seq, variant))
        if stream is None:
            return Side()
        found = seen[stream]
        return Side(
            assigned=found.assigned,
            answered=found.served + found.fallback,
            bad=found.bad,
            slow=found.over_alert,
            spells=slow[stream],
            units=units[stream],
            outcomes={place: one for place, one in outcomes[stream].items() if one.n},
        )

    out = []
    for phase in course.split:
        units = distinct(store, [ids[key] for key in ids if key[0] == phase.seq])
        control, treatment = (side(phase, variant, units) for variant in VARIANTS)
        out.append(Stretch(phase.seq, phase.share / 100, control, treatment))
    return out


def distinct(store: Store, ids: Sequence[int]) -> dict[int, int]:
    """Units of each stream of one phase, as far as they are kept: the same sample of them all."""
    from kt.store import units

    return {stream: found.kept for stream, found in units.units(store, ids).items()}


def spells(store: Store, ids: Ids, begin: int, end: int) -> dict[int, float]:
    """Minutes with slow answers, each shared by the variants of its phase as those are."""
    from kt.store import traffic

    phase_of = {stream: phase for (phase, _), stream in ids.items()}
    rows = list(traffic.slow(store, list(ids.values()), begin, end))
    whole: dict[tuple[int, int], int] = defaultdict(int)
    for stream, at, n in rows:
        whole[phase_of[stream], at] += n
    out = dict.fromkeys(phase_of, 0.0)
    for stream, at, n in rows:
        out[stream] += n / whole[phase_of[stream], at]
    return out


def outcomes_a_day(store: Store, ids: Ids, begin: datetime, now: datetime) -> float:
    """Of both variants, over the last day, or for as long as it has run."""
    from kt.store import labels

    day = timedelta(days=1)
    lasted = min(max(now - begin, timedelta(hours=1)), day)
    found = labels.total(
        store, list(ids.values()), minute(now - lasted), minute(now) + 1, parts=("counts",)
    )
    return sum(one.n for one in found.values()) * (day / lasted)


def looks(store: Store, course: Course, settings: Experiment) -> list[Interval]:
    """What earlier looks at the same question found."""
    from kt.store import looks as room

    phases = [phase.seq for phase in course.split]
    return [
        Interval(one.lower, one.upper)
        for one in room.looks(store, course.name, phases)
        if (one.metric, one.alpha) == (settings.metric, settings.alpha)
    ]


def keep(store: Store, report: Report, now: datetime) -> None:
    """Keep a look at an experiment, unless there is a recent one or nothing new."""
    from kt.store import looks as room

    seen, at = report.effect, int(now.timestamp())
    if seen is None or report.lacks:
        return
    earlier = room.looks(store, report.subject.name, [report.subject.phase])[-1:]
    counts = report.control.outcomes, report.treatment.outcomes
    if earlier and (
        at - earlier[0].at < BETWEEN or (earlier[0].n_control, earlier[0].n_treatment) == counts
    ):
        return
    room.add(
        store,
        room.Look(
            experiment=report.subject.name,
            phase=report.subject.phase,
            at=at,
            metric=report.settings.metric,
            alpha=report.alpha,
            estimate=seen.difference,
            lower=seen.interval.lower,
            upper=seen.interval.upper,
            log_e=seen.log_e,
            n_control=counts[0],
            n_treatment=counts[1],
            verdict=report.state,
        ),
    )
