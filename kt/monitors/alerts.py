"""When an alert opens and ends, and when it is told. Pure: an evaluation in, the next state out.

    inactive -> pending -> firing -> inactive

It fires after 3 alerting evaluations in a row and ends after 5 in a row beyond the clear level. No data
neither fires nor ends; a gap of more than 3 intervals forgets what was pending, so that a monitor that
slept does not fire at once. A new deployment supersedes. While the clock is behind an evaluation that
was made (it was set back), alerts may fire and none ends: old minutes are looked at anew.

What is told is what differs from what was told last. So a monitor that is killed between the two, or
a second one, tells once, and an alert that a silence or a flapping hid is told when that is over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kt.monitors.events import Ended, Opened
    from kt.monitors.thresholds import Status

FIRE = 3  # alerting evaluations in a row
CLEAR = 5  # evaluations beyond the clear level in a row
GAP = 3  # intervals
HOUR = 3_600.0
BACK = 2 * HOUR  # a clock that is further behind was wrong before, and is right now
FLAPS = 3  # changes an hour; more are told once an hour

Phase = Literal["inactive", "pending", "firing"]
Change = Literal["pending", "fired", "resolved", "superseded"]
Key = tuple[str, str, str]  # model, "active" or "treatment", metric


@dataclass(frozen=True)
class Watch:
    """One metric of one variant, between evaluations. bad, good: how many in a row; at: seconds.

    deployment: what is watched; with another one everything begins anew.
    """

    deployment: str
    phase: Phase = "inactive"
    bad: int = 0
    good: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Seen:
    """An evaluation. cleared: the value is beyond the level where an alert ends."""

    at: float
    deployment: str
    status: "Status"
    cleared: bool = False


def step(
    watch: Watch | None, seen: Seen, interval: float, *, fire: int = FIRE, clear: int = CLEAR
) -> tuple[Watch, tuple[Change, ...]]:
    """The state after an evaluation, and what changed. interval: seconds between evaluations."""
    said: tuple[Change, ...] = ()
    if watch is None or watch.deployment != seen.deployment:
        if watch is not None and watch.phase == "firing":
            said = ("superseded",)
        watch = Watch(seen.deployment, at=seen.at)
    behind = 0 < watch.at - seen.at <= BACK
    if seen.at - watch.at > GAP * interval:
        watch = forgotten(watch)
    if watch.phase == "firing":
        after, change = firing(watch, seen, clear, behind=behind)
    else:
        after, change = quiet(watch, seen, fire)
    return replace(after, at=watch.at if behind else seen.at), (*said, *change)


def forgotten(watch: Watch) -> Watch:
    """After a gap nothing is in a row; what fires goes on."""
    return replace(watch, bad=0, good=0, phase="firing" if watch.phase == "firing" else "inactive")


def quiet(watch: Watch, seen: Seen, fire: int) -> tuple[Watch, tuple[Change, ...]]:
    if seen.status != "alerting":
        return Watch(watch.deployment), ()
    bad = watch.bad + 1
    if bad >= fire:
        return Watch(watch.deployment, "firing"), ("fired",)
    pending = Watch(watch.deployment, "pending", bad)
    return pending, ("pending",) if watch.phase == "inactive" else ()


def firing(
    watch: Watch, seen: Seen, clear: int, *, behind: bool
) -> tuple[Watch, tuple[Change, ...]]:
    if not seen.cleared:
        return replace(watch, good=0), ()
    good = watch.good if behind else watch.good + 1
    if good >= clear:
        return Watch(watch.deployment), ("resolved",)
    return replace(watch, good=good), ()


@dataclass(frozen=True)
class Told:
    """What was told last of a metric: that the alert opened by event `seq` is open, or has ended.

    about: as `about` says it, "" where an older kt told it.
    """

    seq: int
    open: bool
    at: float  # seconds
    about: str = ""


@dataclass(frozen=True)
class Item:
    """One alert in a message. changes: how often it opened and ended within an hour, where it flaps."""

    kind: Literal["opened", "open", "resolved", "superseded"]
    alert: "Opened"
    ended: "Ended | None" = None
    changes: int = 0


@dataclass(frozen=True)
class Known:
    """An alert's last opening, its end if it has one, how often it changed within an hour, and whether
    somebody has silenced it."""

    alert: "Opened"
    ended: "Ended | None" = None
    changes: int = 0
    silenced: bool = False


@dataclass(frozen=True)
class Telling:
    """What is to be told now, and what will have been told then."""

    items: list[Item] = field(default_factory=list)
    told: dict[Key, Told] = field(default_factory=dict)


def tell(
    known: Mapping[Key, Known], told: Mapping[Key, Told], now: float, repeat: float
) -> Telling:
    """What differs from what was told. now, repeat: seconds.

    Where answers fail, the other alerts of the same variant wait: they say the same once more.
    """
    failing = {
        key[:2] for key, one in known.items() if key[2] == "error_rate" and one.ended is None
    }
    out = Telling(told=dict(told))
    for key, one in known.items():
        last = told.get(key)
        if last and last.at > now + repeat:  # told by a clock that was wrong
            out.told[key] = last = replace(last, at=now)
        if last and last.open and last.about == about(one.alert):
            # a history that was pulled may number it otherwise: that is no news
            out.told[key] = last = replace(last, seq=one.alert.seq)
        if one.silenced:
            if last and last.open:
                out.told[key] = replace(last, at=0.0)  # due as soon as the silence ends
            continue
        flaps = one.changes > FLAPS
        held = flaps and last is not None and now - last.at < HOUR
        waits = one.ended is None and key[:2] in failing and key[2] != "error_rate"
        if held or waits:
            continue
        item = due(one, last, now, repeat)
        if item is not None:
            out.items.append(replace(item, changes=one.changes if flaps else 0))
            out.told[key] = Told(one.alert.seq, one.ended is None, now, about(one.alert))
    return out


def due(one: Known, last: Told | None, now: float, repeat: float) -> Item | None:
    """What is to be said of an alert, if anything."""
    if one.ended is not None:
        was_told = last is not None and last.open
        return Item(one.ended.kind, one.alert, one.ended) if was_told else None
    if last is None or not last.open or last.seq != one.alert.seq:
        return Item("opened", one.alert)
    return Item("open", one.alert) if now - last.at >= repeat else None


def about(alert: "Opened") -> str:
    """Whom an alert on a metric is about: the same on every machine."""
    return f"{alert.deployment}/{alert.experiment}/{alert.version}"


def changed(times: Iterable[float], now: float) -> int:
    """How many of these lie within the last hour; a clock that was set back makes none older."""
    return sum(now - at < HOUR for at in times)
