"""monitor and alerts: how what is live is doing, and what somebody has to know of it."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, live, options, output
from kt.cli.options import Json, Quiet
from kt.monitors import words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kt.monitors.check import Report, Row
    from kt.monitors.spool import Waiting
    from kt.monitors.thresholds import Health
    from kt.monitors.watching import Recording
    from kt.workspace import Workspace

ACTIONS = ("open", "history", "silence", "test")


def monitor(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL|pull]",
            help="One model; all without. pull: merge another machine's tables into these.",
            autocompletion=complete.models,
        ),
    ] = "",
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="With pull: the other machine's kt.db.")
    ] = "",
    once: Annotated[
        bool, typer.Option("--once", help="One check, as without; says so in a crontab.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Check every minute, until interrupted.")
    ] = False,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="Exit 11 on a warning, 12 if critical, 7 without data."),
    ] = False,
    nagios: Annotated[
        bool, typer.Option("--nagios", help="One line, and exit 0 to 3, as Nagios plugins do.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure, judge by the levels of kt.toml, and tell the sinks what changed: once, or on and on.

    Example: kt monitor --once --quiet
    """
    from kt.errors import Invalid

    workspace = options.workspace()
    if model == "pull":
        pull(workspace, path)
        return
    if path:
        raise Invalid(f"there is no {model[:64]!r} to do", do="merge tables: kt monitor pull PATH")
    if watch:
        go_on(workspace, model)
        return
    report = check(workspace)
    rows = of(workspace, report, model)
    for line in report.said:
        output.warn(line)
    health = health_of(rows)
    if nagios:
        output.emit(document(report, rows), plugin(rows, health))
        raise typer.Exit(NAGIOS[health])
    output.emit(document(report, rows), [*table(rows), *closing(report, rows)])
    if exit_code and EXITS[health]:
        raise typer.Exit(EXITS[health])


EXITS = {"ok": 0, "warning": 11, "critical": 12, "unknown": 7}
NAGIOS = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}


def check(workspace: "Workspace", patience: float = 20.0) -> "Report":
    from kt import clock
    from kt.monitors import check as room

    now = clock.now()
    return room.check(workspace, now, recordings(workspace, now), patience)


def recordings(workspace: "Workspace", now: "datetime") -> "list[Recording]":
    """How long each predictor of this machine has not been able to write down what it answers."""
    from datetime import datetime

    from kt.monitors.watching import Recording
    from kt.predictor import presence

    found = []
    for one in presence.alive(workspace):
        behind = one.recording.get("state") == "behind"
        since = datetime.fromisoformat(one.recording["since"]) if behind else now
        reason = one.recording["reason"] if behind else ""
        found.append(Recording(one.pid, (now - since).total_seconds() / 60, reason))
    return found


def of(workspace: "Workspace", report: "Report", model: str) -> "list[Row]":
    """The rows of a model and of the watching; all without one."""
    from kt.deployments import audit

    if not model:
        return list(report.rows)
    options.choose(workspace, audit.read(workspace)[1], model)
    return [row for row in report.rows if row.measured.key[0] in (model, "")]


def health_of(rows: "Sequence[Row]") -> "Health":
    from kt.monitors.check import health

    return health(rows)


def go_on(workspace: "Workspace", model: str) -> None:
    """Check on and on: in place on a terminal; elsewhere what changes is said, for a service's log."""
    every = min(workspace.settings.monitor.interval, workspace.settings.monitor.slow_interval)
    if sys.stdout.isatty() or output.run.json:
        live.show(lambda: looked(workspace, model), every)
    before: list[str] = []
    while True:
        started = time.monotonic()
        before = say_what_changed(workspace, model, before)
        live.rest(max(0.0, every - (time.monotonic() - started)))


def looked(workspace: "Workspace", model: str) -> "live.Shown":
    """A check, to be shown. What fails once may work the next time."""
    from kt.errors import KtError

    try:
        report = check(workspace, patience=1.0)
        rows = of(workspace, report, model)
    except KtError as error:
        return {"problems": [str(error)]}, [f"ATTENTION   {error}"]
    lines = [*table(rows), *closing(report, rows), *(f"ATTENTION   {one}" for one in report.said)]
    return document(report, rows), lines


def say_what_changed(workspace: "Workspace", model: str, before: list[str]) -> list[str]:
    """A check; its table where a state is another than before. The states."""
    from kt import clock
    from kt.errors import KtError

    try:
        report = check(workspace, patience=1.0)
        rows = of(workspace, report, model)
    except KtError as error:
        output.say(f"kt: {output.iso(clock.now())} {error}")
        return before
    for line in report.said:
        output.say(f"kt: {output.iso(report.at)} {line}")
    states = [word(row) for row in rows]
    if states != before:
        output.emit(document(report, rows), [*table(rows), *closing(report, rows)])
        sys.stdout.flush()
    return states


def pull(workspace: "Workspace", path: str) -> None:
    """Merge another machine's tables into these."""
    from pathlib import Path

    from kt.errors import Invalid
    from kt.store import connect, merge

    if not path:
        raise Invalid("name the other machine's tables", do="kt monitor pull PATH")
    store = connect.open(workspace.root, workspace.settings)
    merged = merge.merge(store, Path(path))
    output.emit({"path": path, "rows": merged}, f"brought in {merged:,} rows of {path}")


# For people


def table(rows: "Sequence[Row]") -> list[str]:
    """The metrics, each in a line; of the watching itself those alone that are not well.

    The variant is named where one is not the active version. What must fit 80 characters leaves out what
    is counted and how severe an alert would be: --json and kt.toml have both.
    """
    shown = [row for row in rows if row.measured.who or row.phase != "inactive" or row.alert]
    if not shown:
        return ["nothing is deployed yet.  Next: kt deploy FILE"]
    several = {row.measured.who.variant for row in shown if row.measured.who} != {"active"}
    cells = [cell(row, several) for row in shown]
    headers = ("MODEL", "VARIANT", "METRIC", "VALUE", "STATE", "DEGRADED", "ALERT", "SEEN")
    return [output.table(headers, cells, one_line=True), ""]


def cell(row: "Row", several: bool) -> tuple[str, ...]:
    """A row of the table. several: whether its variant is named."""
    one, levels = row.measured, row.measured.levels
    return (
        one.key[0] or "kt",
        one.who.variant if one.who and several else "",
        levels.metric,
        words.value(levels.metric, one.sample.value) if one.status != "no_data" else "-",
        word(row),
        words.level(levels, levels.limit),
        words.level(levels, levels.alert),
        seen(row),
    )


def word(row: "Row") -> str:
    """How a metric stands, in a word."""
    alert, status = row.alert, row.measured.status
    if alert is not None:
        return alert.severity.upper() + (" silenced" if row.silence else "")
    if row.phase == "pending":
        return "pending"
    if status == "no_data":
        return "no data"
    return status if row.measured.judged else "-"


def seen(row: "Row") -> str:
    """How much it rests on, and what a reader must know of it."""
    one = row.measured
    if one.status == "no_data":
        return (
            one.note or f"{one.sample.n:,} of {one.levels.min_n:,} {words.unit(one.levels.metric)}"
        )
    said = f"{one.sample.n:,} in {words.span(one.window)}"
    return f"{said}, {one.note}" if one.note else said


def closing(report: "Report", rows: "Sequence[Row]") -> list[str]:
    """What it comes to, what is open, and what waits."""
    out = []
    health = health_of(rows)
    is_open = sum(row.alert is not None for row in rows)
    told = f", {report.told} told" if report.told else ""
    counted = f"{is_open} alert{'s' if is_open != 1 else ''} open{told}"
    out.append(f"health {health}: {counted}" + (".  See: kt alerts" if is_open else ""))
    return out + [waits(late, report.at) for late in report.waiting]


def waits(late: "Waiting", now: "datetime") -> str:
    """A sink that has not taken its messages."""
    age = output.ago(now.timestamp() - late.since)
    said = f": {late.error}" if late.error else ""
    count = f"{late.n} message{'s' if late.n != 1 else ''}"
    return f"{late.sink} has not taken {count} for {age}{said}"


def document(report: "Report", rows: "Sequence[Row]") -> dict[str, Any]:
    """The same for programs."""
    return {
        "at": output.iso(report.at),
        "health": health_of(rows),
        "evaluated": list(report.evaluated),
        "told": report.told,
        "metrics": [row_of(row) for row in rows],
        "waiting": [vars(late) for late in report.waiting],
        "problems": list(report.said),
    }


def row_of(row: "Row") -> dict[str, Any]:
    one, who = row.measured, row.measured.who
    held, sample = one.levels, one.sample
    return {
        "model": who.stream.model if who else None,
        "version": who.stream.version if who else None,
        "variant": who.variant if who else None,
        "experiment": who.stream.experiment or None if who else None,
        "deployment": who.stream.deployment if who else None,
        "metric": held.metric,
        "status": one.status,
        "value": None if one.status == "no_data" else sample.value,
        "lower": sample.lower,
        "upper": sample.upper,
        "n": sample.n,
        "min_n": held.min_n,
        "window": one.window * 60,
        "limit": held.limit,
        "alert": held.alert,
        "severity": held.severity,
        "phase": row.phase,
        "alert_id": row.alert.seq if row.alert else None,
        "since": row.alert.at if row.alert else None,
        "silenced_until": row.silence.until if row.silence else None,
        "note": one.note or None,
    }


def plugin(rows: "Sequence[Row]", health: "Health") -> str:
    """One line as monitoring plugins write it: a state, what is not well, and numbers after a bar."""
    bad = [row for row in rows if row.alert or row.measured.status in ("degraded", "alerting")]
    said = ", ".join(
        f"{'/'.join(filter(None, row.measured.key))} "
        f"{words.value(row.measured.levels.metric, row.measured.sample.value)}"
        for row in bad
    )
    numbers = " ".join(
        f"'{'/'.join(filter(None, row.measured.key))}'={row.measured.sample.value:.6g}"
        for row in rows
        if row.measured.status != "no_data" and row.measured.sample.value is not None
    )
    return f"KT {health.upper()}{' - ' + said if said else ''} | {numbers}"


def alerts(
    action: Annotated[
        str, typer.Argument(metavar="[open|history|silence|test]", help="What is open, without.")
    ] = "open",
    name: Annotated[
        str, typer.Argument(metavar="[METRIC|SINK]", help="What to silence, or to test.")
    ] = "",
    model: options.Model = "",
    time: Annotated[
        str, typer.Option("--for", metavar="T", help="How long: 30m, 2h, 1d; 0m takes it back.")
    ] = "",
    reason: options.Reason = "",
    last: Annotated[
        int,
        typer.Option("--last", "-n", metavar="N", min=0, help="Only the last N; 0 for all."),
    ] = 20,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """What is open, what has happened, silence, and whether a sink is heard.

    Example: kt alerts silence latency --for 2h --reason "moving the database"
    """
    from kt.errors import Invalid

    workspace = options.workspace()
    match action:
        case "open":
            show_open(workspace, model)
        case "history":
            show_history(workspace, model, last)
        case "silence":
            silence(workspace, name, model, time, reason)
        case "test":
            test(workspace, name)
        case _:
            raise Invalid(
                f"there is no {action[:64]!r} to do", do=f"there is: {', '.join(ACTIONS)}"
            )


def show_open(workspace: "Workspace", model: str) -> None:
    from datetime import datetime

    from kt import clock
    from kt.monitors import history

    _, known = history.read(workspace)
    now = clock.now()
    found = [one for one in known.open.values() if not model or one.model == model]
    silences = [one for one in known.silences.values() if output.iso(now) < one.until]
    late = waiting(workspace)
    result = {
        "open": [one.model_dump(mode="json", exclude={"prev"}) for one in found],
        "silences": [one.model_dump(mode="json", exclude={"prev"}) for one in silences],
        "waiting": [vars(one) for one in late],
    }
    cells = [
        (
            one.seq,
            output.ago((now - datetime.fromisoformat(one.at)).total_seconds()),
            one.severity,
            one.model or "kt",
            one.version,
            one.metric,
            words.value(one.metric, one.value),
            words.value(one.metric, one.level),
            "silenced" if known.silence_on(one, output.iso(now)) else "",
        )
        for one in found
    ]
    headers = ("ID", "FOR", "SEVERITY", "MODEL", "VERSION", "METRIC", "VALUE", "ALERT", "")
    lines = [output.table(headers, cells)] if cells else ["no alert is open"]
    for quiet in silences:
        where = f" of {quiet.model}" if quiet.model else ""
        lines.append(
            f"silence     {quiet.metric}{where} until {quiet.until}, by {quiet.by}: {quiet.reason}"
        )
    lines += [f"waiting     {waits(one, now)}" for one in late]
    output.emit(result, lines)


def waiting(workspace: "Workspace") -> "list[Waiting]":
    """Messages that no sink has taken; none where there are no tables."""
    from kt.store import connect

    store = connect.peek(workspace.root, workspace.settings)
    if store is None:
        return []
    from kt.monitors import spool

    return spool.waiting(store)


def show_history(workspace: "Workspace", model: str, last: int) -> None:
    from kt.monitors import events, history

    book, _ = history.read(workspace)
    found = [one for one in book.events if not model or one["model"] in (model, "")]
    shown = found[-last:] if last else found
    cells = [
        (
            one["seq"],
            one["at"],
            one["model"] or "kt",
            events.describe(one),
            output.short(one["reason"]),
            one["by"],
        )
        for one in reversed(shown)
    ]
    headers = ("SEQ", "AT", "MODEL", "WHAT", "REASON", "BY")
    text = output.table(headers, cells) if cells else "no alert has ever opened"
    output.emit({"events": shown, "total": len(found)}, text)


def silence(workspace: "Workspace", metric: str, model: str, time: str, reason: str) -> None:
    """Nothing is told of a metric for a while, by whom and why."""
    import re
    from datetime import timedelta

    from kt import clock, git
    from kt.config import METRIC
    from kt.errors import Invalid
    from kt.monitors import history
    from kt.monitors.events import Silenced
    from kt.monitors.watching import OWN

    if not re.match(METRIC, metric) and metric not in OWN:
        raise Invalid(f"{metric[:64]!r} is no metric", do="see them: kt monitor")
    if not time:
        raise Invalid("a silence has an end", where="--for", do="say how long: --for 2h")
    lasts = options.seconds(time, "--for")
    if lasts and not reason.strip():
        raise Invalid("a silence has a reason", where="--reason", do="say why: --reason TEXT")
    now = clock.now()
    event = Silenced(
        seq=1,
        prev="",
        at=output.iso(now),
        by=options.text(git.identity()),
        model=model,
        metric=metric,
        reason=options.kept(reason.strip(), "--reason"),
        until=output.iso(now + timedelta(seconds=lasts)),
    )
    about = f"{metric} of {model}" if model else metric
    book, notes = history.append(workspace, "alerts", [event], f"alerts: silence {about}")
    for note in notes:
        output.warn(note)
    undo = f"kt alerts silence {metric}{f' --model {model}' if model else ''} --for 0m"
    output.emit(
        {"metric": metric, "model": model or None, "until": event.until, "id": book.seq},
        f"{about} is silenced until {event.until}.  Undo: {undo}"
        if lasts
        else f"{about} is told of again",
    )


def test(workspace: "Workspace", name: str) -> None:
    """Send a message that says it is a test, now."""
    from kt import clock
    from kt.errors import Invalid, Unavailable
    from kt.monitors import message, spool

    known = spool.sinks(workspace)
    found = [one for one in known if one.name == name]
    if not found:
        there = ", ".join(one.name for one in known)
        raise Invalid(
            f"there is no sink {name[:64]!r}" if name else "name the sink to test",
            do=f"kt.toml has: {there}" if there else "add one to kt.toml: [[sink]]",
        )
    error = spool.send(workspace, found[0], message.trial(output.iso(clock.now())))
    if error:
        raise Unavailable(error, where=name, do="mend it in kt.toml: [[sink]]")
    output.emit({"sink": name}, f"{name} has taken a test message")
