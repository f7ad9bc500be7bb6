"""One check: measure, judge, write down what changed, tell it.

    journal    what opened and what ended: from here on it is so
    tables     what was told, and the messages, in one transaction
    sinks      each message, until it is taken

A check that is killed anywhere goes on with the next one: what the journal says and nobody was told is
told then. Any number of monitors may run: one of them checks at a time, and none evaluates sooner after
another than after itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from kt import change, git, locks
from kt.deployments import audit, courses, deploy
from kt.deployments.plan import Stamp
from kt.errors import KtError
from kt.monitors import aborts, alerts, enforce, events, history, memory, message, spool, thresholds
from kt.monitors.alerts import Key, Known, Seen, Told, Watch
from kt.monitors.events import Alerts, AnyEvent, Ended, Opened, Silenced
from kt.monitors.live import live
from kt.monitors.measure import SELF, Measured, measure
from kt.monitors.memory import Last, Memory
from kt.monitors.spool import Waiting
from kt.monitors.thresholds import Health
from kt.monitors.watching import Recording, watching
from kt.store import connect, rollup
from kt.store.database import Store
from kt.store.streams import streams
from kt.workspace import Workspace

ROLL_UP = 3_600  # seconds
PATIENCE = 20.0  # seconds for the sinks
HEALTH = "health"  # among what was measured


@dataclass(frozen=True)
class Row:
    """A metric as it stands: what was measured, how far its alert is, and what of it is open."""

    measured: Measured
    phase: alerts.Phase = "inactive"
    alert: Opened | None = None
    silence: Silenced | None = None


@dataclass(frozen=True)
class Report:
    """evaluated: what this check judged: "fast", "slow"; nothing where another one did a moment ago.

    said: what a person should know of the check itself. last: when each was judged last, in seconds.
    """

    at: datetime
    rows: Sequence[Row]
    evaluated: Sequence[str] = ()
    told: int = 0
    said: Sequence[str] = ()
    waiting: Sequence[Waiting] = ()
    last: Mapping[str, int] = field(default_factory=dict)


def health(rows: Iterable[Row]) -> Health:
    """Of what is held to something; the watching itself counts where it is not well."""
    return thresholds.health(
        (row.measured.status, row.alert is not None, row.measured.levels.severity)
        for row in rows
        if row.measured.judged and (row.measured.who or row.alert)
    )


def check(
    workspace: Workspace,
    now: datetime,
    recordings: Sequence[Recording] = (),
    patience: float = PATIENCE,
) -> Report:
    """Measure, judge and tell. recordings: of the predictors that run. Raises KtError."""
    with alone(workspace) as mine:
        # first, and without the tables: a treatment that fails ends whatever else is broken
        said = [*experiments(workspace, None, now), *recovered(workspace)] if mine else []
        sinks = spool.sinks(workspace)
        store = connect.open(workspace.root, workspace.settings)
        if mine:
            report = evaluate(workspace, store, sinks, now, recordings)
        else:
            report = look(workspace, store, now, recordings)
    said += report.said
    waiting: Sequence[Waiting] = ()
    try:
        said += spool.deliver(store, workspace, sinks, int(now.timestamp()), patience)
        waiting = spool.waiting(store)
    except KtError as error:  # what was judged stands, and the next check tells what waits
        said.append(f"what waits to be told cannot be read: {error}")
    return replace(report, said=said, waiting=waiting)


def recovered(workspace: Workspace) -> list[str]:
    """Finish what a killed command left: nothing else may be run here for days."""
    if not change.pending(workspace):
        return []
    try:
        with change.locked(workspace, "monitor") as lock:
            deploy.recover(lock)
    except KtError as error:
        return [f"what a killed command left waits: {error}"]
    return lock.notes


@contextmanager
def alone(workspace: Workspace) -> Iterator[bool]:
    """Whether no other monitor checks now; waits for one as long as for the workspace's lock."""
    wait = workspace.settings.lock_wait
    with locks.holding(workspace.local / "monitor", wait=wait) as holder:
        yield not holder


@dataclass(frozen=True)
class Gathered:
    """Every metric of everything that answers, and of the watching. here: what is watched now, by model
    and slot."""

    measured: Sequence[Measured]
    here: Mapping[tuple[str, str], str]


def gather(
    workspace: Workspace, store: Store, now: datetime, recordings: Sequence[Recording]
) -> Gathered:
    _, state = audit.read(workspace)
    lives = live(state, streams(store))
    minute = int(now.timestamp()) // 60
    measured = [
        *measure(store, workspace, lives, minute),
        *watching(store, workspace.settings, recordings, now),
    ]
    here = {("", ""): SELF}
    for who in lives:
        here[who.stream.model, who.slot] = who.deployment
    return Gathered(measured, here)


def look(
    workspace: Workspace, store: Store, now: datetime, recordings: Sequence[Recording] = ()
) -> Report:
    """How things stand, without judging anew."""
    gathered = gather(workspace, store, now, recordings)
    _, known = history.read(workspace)
    remembered = memory.load(store)
    return Report(
        now,
        rows(gathered.measured, remembered.watches, known, now),
        waiting=spool.waiting(store),
        last=remembered.evaluated,
    )


def rows(
    measured: Sequence[Measured], watches: Mapping[Key, Watch], known: Alerts, now: datetime
) -> list[Row]:
    is_open = by_key(known)
    out = []
    for one in measured:
        alert = is_open.get(one.key)
        watch = watches.get(one.key)
        pending = watch is not None and watch.phase == "pending"
        phase: alerts.Phase = "firing" if alert else "pending" if pending else "inactive"
        silence = known.silence_on(alert, iso(now)) if alert else None
        out.append(Row(one, phase, alert, silence))
    return out


def evaluate(
    workspace: Workspace,
    store: Store,
    sinks: Sequence[spool.Sink],
    now: datetime,
    recordings: Sequence[Recording],
) -> Report:
    """Judge what is due and write down what follows. Under the monitors' lock."""
    at = int(now.timestamp())
    remembered = memory.load(store)
    settings = workspace.settings.monitor
    intervals = {"fast": settings.interval, "slow": settings.slow_interval}
    due = [
        kind for kind in intervals if is_due(remembered.evaluated.get(kind), at, intervals[kind])
    ]
    said = [*experiments(workspace, store, now)]
    gathered = gather(workspace, store, now, recordings)
    _, known = history.read(workspace)
    watches, new = judge(gathered, due, remembered, known, at, intervals, stamp(now))
    over = courses.courses(audit.read(workspace)[0].events)
    new += aborts.untold(over, known, now, stamp(now))
    if new:
        book, notes = history.append(workspace, "monitor", new, summary(new))
        known = history.fold(book)
        said += notes
    found = standing(known, remembered.told, now)
    telling = alerts.tell(found, remembered.told, at, settings.repeat * alerts.HOUR)
    messages = message.grouped(telling.items, iso(now))
    tidy = ["roll_up"] if is_due(remembered.evaluated.get("roll_up"), at, ROLL_UP) else []
    evaluated = {**remembered.evaluated, **dict.fromkeys([*due, *tidy], at)}
    told = {key: one for key, one in telling.told.items() if one.open or at - one.at < alerts.HOUR}
    judged = rows(gathered.measured, watches, known, now)
    if due or telling.told != remembered.told:
        with store.write() as connection:
            memory.save(connection, Memory(watches, told, evaluated, lasting(judged)), at)
            spool.put(connection, sinks, messages, at)
    if tidy:
        said += roll_up(workspace, store, now)
    return Report(now, judged, due, len(messages), said, last=evaluated)


def lasting(rows: Sequence[Row]) -> dict[Key, Last]:
    """What is to be known of this check until the next one: each metric, and the health of all."""
    word = health(rows)
    found = {("", "", HEALTH): Last("", thresholds.NAGIOS[word], len(rows), word)}
    for row in rows:
        one, sample = row.measured, row.measured.sample
        version = one.who.stream.version if one.who else ""
        found[one.key] = Last(version, sample.value, sample.n, one.status)
    return found


def roll_up(workspace: Workspace, store: Store, now: datetime) -> list[str]:
    """Where it cannot be done it is said, and tried again an hour later."""
    try:
        rollup.roll_up(store, now, *workspace.settings.store.kept)
    except KtError as error:
        return [f"the tables are not rolled up: {error}"]
    return []


def experiments(workspace: Workspace, store: Store | None, now: datetime) -> Iterator[str]:
    """What is due for the experiments that run, by the tables or, without them, by the predictors' word.

    Where it cannot be done, the watching goes on.
    """
    try:
        for done in enforce.enforce(workspace, store, now):
            yield from (*done.notes, *done.warnings)
    except KtError as error:
        yield f"the experiments are left as they are: {error}"


def is_due(last: int | None, now: int, interval: float) -> bool:
    """A clock that was set back makes everything due, once."""
    return last is None or now - last >= interval or now < last


def judge(
    gathered: Gathered,
    due: Sequence[str],
    remembered: Memory,
    known: Alerts,
    at: int,
    intervals: Mapping[str, float],
    stamp: Stamp,
) -> tuple[dict[Key, Watch], list[Opened | Ended]]:
    """Every watch after this evaluation, and what opened or ended. Pure.

    The journal knows what is open; what the tables remember of it may be older, or lost.
    """
    is_open = by_key(known)
    after: dict[Key, Watch] = {}
    new: list[Opened | Ended] = []
    for one in gathered.measured:
        alert = is_open.get(one.key)
        watch = agreed(remembered.watches.get(one.key), alert, at)
        if not one.judged:
            continue
        kind = "fast" if one.fast else "slow"
        if kind not in due:
            if watch is not None:
                after[one.key] = watch
            continue
        seen = Seen(at, one.deployment, one.status, thresholds.cleared(one.levels, one.sample))
        after[one.key], changes = alerts.step(watch, seen, intervals[kind])
        for each in changes:
            if alert is not None and each in ("resolved", "superseded"):
                new.append(ended(alert, each, one, stamp))
            elif each == "fired":
                new.append(opened(one, stamp))
    new += gone(gathered, is_open, remembered.told, stamp)
    return after, new


def gone(
    gathered: Gathered,
    is_open: Mapping[Key, Opened],
    told: Mapping[Key, Told],
    stamp: Stamp,
) -> Iterator[Ended]:
    """The ends of alerts on what is not watched any more. One whose data fell silent stays open."""
    unheld = {one.key for one in gathered.measured if not one.judged}
    for key, alert in is_open.items():
        if alert.metric.startswith(thresholds.RETRAINING):
            continue
        if alert.metric == aborts.METRIC:  # over as it opens: it stays so until it is told
            over = key in told and told[key].seq == alert.seq
        else:
            over = gathered.here.get(key[:2]) is None
        if over:
            yield ended(alert, "superseded", None, stamp, "it answers nobody any more")
        elif key in unheld:
            yield ended(alert, "superseded", None, stamp, "kt.toml holds it to nothing any more")


def agreed(watch: Watch | None, alert: Opened | None, at: int) -> Watch | None:
    """What the tables remember, as far as the journal agrees."""
    if alert is None:
        if watch is None or watch.phase != "firing":
            return watch
        return Watch(watch.deployment, at=watch.at)
    about = watched(alert)
    if watch is not None and watch.phase == "firing" and watch.deployment == about:
        return watch
    return Watch(about, "firing", at=watch.at if watch else at)


def by_key(known: Alerts) -> dict[Key, Opened]:
    """The alerts that are open."""
    return {key_of(alert): alert for alert in known.open.values()}


def key_of(alert: Opened) -> Key:
    slot = "treatment" if alert.variant == "treatment" else "active" if alert.variant else ""
    return alert.model, slot, alert.metric


def watched(alert: Opened) -> str:
    """What an alert is about, as `Live.deployment` says it."""
    if not alert.variant:
        return SELF
    trial = f"{alert.experiment}/" if alert.variant == "treatment" else ""
    return f"{alert.deployment}/{trial}{alert.version}"


def opened(one: Measured, stamp: Stamp) -> Opened:
    value, level = one.sample.value, one.levels.alert
    assert value is not None
    assert level is not None
    stream = one.who.stream if one.who else None
    return Opened(
        seq=1,
        prev="",
        at=stamp.at,
        by=stamp.by,
        model=stream.model if stream else "",
        metric=one.levels.metric,
        reason=one.note,
        version=stream.version if stream else "",
        variant=one.who.variant if one.who else "",
        deployment=stream.deployment if stream else 0,
        experiment=stream.experiment if stream else "",
        severity=one.levels.severity,
        value=round(value, 6),
        level=level,
        n=one.sample.n,
    )


def ended(alert: Opened, how: str, one: Measured | None, stamp: Stamp, why: str = "") -> Ended:
    """one: what was measured, where that is what ended it."""
    value = one.sample.value if one and how == "resolved" else None
    if how == "superseded" and one and one.who:
        why = f"{one.who.stream.version} answers now"
    return Ended(
        seq=1,
        prev="",
        at=stamp.at,
        by=stamp.by,
        model=alert.model,
        metric=alert.metric,
        reason=why,
        kind="resolved" if how == "resolved" else "superseded",
        alert=alert.seq,
        value=None if value is None else round(value, 6),
        n=one.sample.n if one else 0,
    )


def standing(known: Alerts, told: Mapping[Key, Told], now: datetime) -> dict[Key, Known]:
    """The last alert of each metric, as far as there may be something to tell of it."""
    changes: defaultdict[Key, list[float]] = defaultdict(list)
    last: dict[Key, Opened] = {}
    for alert in known.all.values():
        key = key_of(alert)
        last[key] = alert
        end = known.ended.get(alert.seq)
        changes[key] += [seconds(event.at) for event in (alert, end) if event is not None]
    out = {}
    for key, alert in last.items():
        end = known.ended.get(alert.seq)
        if end is None or key in told:
            silenced = known.silence_on(alert, iso(now)) is not None
            recent = alerts.changed(changes[key], now.timestamp())
            out[key] = Known(alert, end, recent, silenced)
    return out


def stamp(now: datetime) -> Stamp:
    return Stamp(git.identity(), iso(now), "")


def summary(new: Sequence[AnyEvent]) -> str:
    """The message of the commit."""
    first = f"alerts: {new[0].model or 'kt'} {events.describe(new[0].model_dump())}"
    return first + (f", and {len(new) - 1} more" if len(new) > 1 else "")


def seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
