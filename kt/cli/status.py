"""status and history: what is live, and what has happened."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from kt.deployments import history as states
    from kt.deployments.history import Serving
    from kt.predictor.presence import Presence
    from kt.store import tally
    from kt.store.database import Store
    from kt.workspace import Workspace

    Tables = Callable[[], Store | None]  # raises KtError where they cannot be read


def history(
    model: Model = "",
    at: Annotated[
        str,
        typer.Option("--at", metavar="T", help="Up to a time: 2026-01-14 or 2026-01-14T10:30:00Z."),
    ] = "",
    last: Annotated[
        int,
        typer.Option("--last", "-n", metavar="N", min=0, help="Only the last N events; 0 for all."),
    ] = 20,
    json: Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One event a line, as they stand in the file.")
    ] = False,
) -> None:
    """What has happened, newest first.

    Example: kt history --model sakt --last 5
    """
    from kt import journal
    from kt.deployments import audit
    from kt.deployments.events import describe

    workspace = options.workspace()
    book, state = audit.read(workspace)
    if model:
        options.choose(workspace, state, model)
    if at:
        book = audit.at_time(book, at)
    events = [event for event in book.events if not model or event["model"] == model]
    shown = events[-last:] if last else events
    if jsonl:
        for event in shown:
            output.write_json(event)
        return
    rows = [
        (
            event["seq"],
            event["at"],
            event["by"],
            event["model"],
            describe(event),
            output.short(event["reason"]),
            journal.digest(event)[:7],
        )
        for event in reversed(shown)
    ]
    text = (
        output.table(("SEQ", "AT", "BY", "MODEL", "WHAT", "REASON", "RECORD"), rows)
        if rows
        else "nothing has happened yet"
    )
    more = (
        [f"{len(events) - len(shown)} earlier: kt history --last 0"]
        if len(events) > len(shown)
        else []
    )
    output.emit({"events": shown, "total": len(events)}, [text, *more])


def status(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]", help="One model; all without.", autocompletion=complete.models
        ),
    ] = "",
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="T", help="As it was at a time: 2026-01-14 or 2026-01-14T10:30:00Z."
        ),
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it, until interrupted.")
    ] = False,
    every: Annotated[
        float,
        typer.Option(
            "--every", metavar="S", min=0.2, max=86_400, help="With --watch: seconds between looks."
        ),
    ] = 2.0,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help="Exit 11 if something needs attention, 12 if an alert is critical."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """What is live: versions, traffic, how they do, experiments, alerts, and what predictors really serve.

    Example: kt status --watch
    """
    from kt.cli import live
    from kt.errors import CRITICAL, WARNING

    workspace = options.workspace()
    if watch:
        live.show(lambda: look(workspace, model, at), every)
    result, text = look(workspace, model, at)
    output.emit(result, text)
    if exit_code and any(alert["severity"] == "critical" for alert in result["alerts"]):
        raise typer.Exit(CRITICAL)
    if exit_code and (result["attention"] or result["alerts"]):
        raise typer.Exit(WARNING)


def look(workspace: "Workspace", model: str, at: str) -> tuple[dict[str, Any], list[str]]:
    """The state as rows, for people and for JSON."""
    from datetime import datetime

    from kt import clock
    from kt.deployments import audit
    from kt.deployments.events import describe
    from kt.predictor import presence

    book, state = audit.read(workspace)
    if at:
        book = audit.at_time(book, at)
        state = audit.fold(book)
    else:
        audit.refuse_taken_back(workspace)
    if model:
        options.choose(workspace, state, model)
    now = clock.now()
    shown = {
        name: serving
        for name, serving in sorted(state.models.items())
        if not model or name == model
    }
    predictors = [] if at else presence.alive(workspace)
    tables = tables_of(workspace)
    shadows = compared(shown, [] if at else found_of_shadows(workspace, tables))
    experiments = standing(workspace, tables, shown, book.events, at)
    attention = []
    if not at:
        attention += [
            f"{finding.where} {finding.what}; {finding.do}"
            for finding in audit.verify_manifest(workspace, state)
        ]
    for predictor in predictors:
        if predictor.state != "ok":
            attention.append(f"predictor {predictor.pid} is degraded: {predictor.reason}")
        if predictor.seq != state.seq:
            attention.append(
                f"predictor {predictor.pid} serves event {predictor.seq}, the history stands at {state.seq}"
            )
        attention += unrecorded(predictor)
    attention += [] if at else held(workspace, model)
    rows = [row for name, serving in shown.items() for row in variants(name, serving)]
    attention += [
        f"{row['model']} {row['version']} serves past a gate that refused it"
        for row in rows
        if row["forced"]
    ]
    attention += [
        f"{row['model']} {row['version']} was made by running the code in its file: {row['trusted']}"
        for row in rows
        if row["trusted"]
    ]
    numbers = None if at else live_numbers(workspace, tables, state, shown, rows, now, attention)
    alerts = [] if at else open_alerts(workspace, model)
    last = book.events[-1] if book.events else None
    daemon = {"text": "", "running": None} if at else seen_to(workspace, now)
    result = {
        "seq": state.seq,
        "models": rows,
        "predictors": [
            {name: value for name, value in vars(predictor).items() if name != "shadows"}
            for predictor in predictors
        ],
        "experiments": experiments,
        "shadows": shadows,
        "daemon": daemon,
        "alerts": alerts,
        "numbers": numbers,
        "attention": attention,
        "last": last,
    }
    if not rows:
        return result, [
            "nothing is deployed yet.  Next: kt train, then kt deploy FILE; or see it all: kt demo"
        ]

    def age(since: str) -> str:
        return output.ago((now - datetime.fromisoformat(since)).total_seconds())

    headers = ["MODEL", "VARIANT", "VERSION", "TRAFFIC"]
    headers += ["REQ/H", "ERR", "P95", "ACC (LABELS)"] if numbers else []
    headers += ["SINCE", "LABELS"]
    cells = [
        [
            row["model"],
            row["variant"],
            row["version"],
            "copy" if row["variant"] == "shadow" else f"{row['traffic'] * 100:g} %",
            *(columns(row["live"]) if numbers else []),
            age(row["since"]),
            ", ".join(row["labels"]),
        ]
        for row in rows
    ]
    lines = [output.table(headers, cells), ""]
    lines += [f"experiment  {one['text']}" for one in experiments]
    for shadow in shadows:
        lines += beside(shadow)
    if not at:
        lines.append(f"predictor   {who_serves(predictors)}")
        lines.append(f"alerts      {told_of(alerts, numbers)}")
    if daemon["text"]:
        lines.append(f"daemon      {daemon['text']}")
    if last:
        lines.append(
            f"last change event {last['seq']} by {last['by']}, {age(last['at'])} ago: {describe(last)}"
        )
    lines += [f"ATTENTION   {text}" for text in attention]
    return result, lines


def tables_of(workspace: "Workspace") -> "Tables":
    """Opens the tables when it is first asked, for all who ask: what one has compiled serves the next."""
    from functools import cache

    from kt.store import connect

    return cache(lambda: connect.peek(workspace.root, workspace.settings))


def live_numbers(
    workspace: "Workspace",
    tables: "Tables",
    state: "states.State",
    shown: "Mapping[str, Serving]",
    rows: list[dict[str, Any]],
    now: "datetime",
    attention: list[str],
) -> dict[str, Any] | None:
    """Give each row what the tables know of it; how old that is, and when a monitor looked last.

    None where there are no tables, which is then nothing to wait for.
    """
    from kt.errors import KtError

    for row in rows:
        row["live"] = None
    try:
        store = tables()
        if store is None:
            return None
        from kt.monitors import glance, memory
        from kt.monitors.live import live

        lives = [who for who in live(state) if who.stream.model in shown]
        at = int(now.timestamp())
        seen = glance.glance(store, lives, at // 60)
        known = {
            (who.stream.model, who.variant): vars(one) for who, one in zip(lives, seen, strict=True)
        }
        for row in rows:
            row["live"] = known.get((row["model"], row["variant"]))
        remembered = memory.load(store)
        checked = remembered.evaluated.get("fast")
        if late := memory.late(workspace.settings, remembered, at):
            attention.append(f"no monitor has looked for {output.ago(late)}: kt monitor --watch")
        return {
            "age": glance.age(store, lives, at),  # seconds
            "checked": None if checked is None else max(0, at - checked),
        }
    except KtError as error:
        attention.append(f"what was recorded cannot be read: {error}")
        return None


def columns(live: dict[str, Any] | None) -> list[str]:
    """How a version does, in the table's cells."""
    if live is None:
        return ["", "", "", ""]

    def share(found: float | None) -> str:
        return "-" if found is None else f"{found * 100:.2f} %"

    known = "-" if live["accuracy"] is None else f"{live['accuracy']:.3f}"
    labelled = "" if not live["labelled"] else f" ({live['labelled'] * 100:.0f} %)"
    speed = "-" if live["p95"] is None else f"{live['p95']:.3g} ms"
    return [f"{live['requests']:,}", share(live["error_rate"]), speed, known + labelled]


def open_alerts(workspace: "Workspace", model: str) -> list[dict[str, Any]]:
    """Those of a model and of the watching; all without one."""
    from kt.monitors import history

    _, known = history.read(workspace)
    return [
        alert.model_dump(mode="json", exclude={"prev"})
        for alert in known.open.values()
        if not model or alert.model in (model, "")
    ]


def told_of(alerts: list[dict[str, Any]], numbers: dict[str, Any] | None) -> str:
    """The alerts that are open, and how fresh what is known is."""
    said = "; ".join(
        f"{one['severity'].upper()} {one['metric']} of {one['model'] or 'kt'} {one['version']}".rstrip()
        for one in alerts
    )
    parts = [f"{said}: kt alerts" if said else "none"]
    if numbers is None or numbers["checked"] is None:
        return f"{parts[0]}; nobody watches: kt monitor --watch"
    parts.append(f"checked {output.ago(numbers['checked'])} ago")
    if numbers["age"] is not None:
        parts.append(f"numbers of {output.ago(numbers['age'])} ago")
    return ", ".join(parts)


def seen_to(workspace: "Workspace", now: "datetime") -> dict[str, Any]:
    """How the daemon stands; without one, when cron last looked at the jobs."""
    from kt.jobs import daemon, looks

    found = daemon.standing(workspace)
    text = daemon.line(found, looks.last(workspace), now, output.ago)
    return {"text": text, "running": found.running, "next": found.next, "last": found.last}


def held(workspace: "Workspace", model: str) -> list[str]:
    """The jobs of a model that no trigger starts any more, and why; of all without one."""
    known = workspace.settings.jobs
    ours = {name for name, job in known.items() if not model or (job.model or name) == model}
    if not ours:
        return []
    from kt.jobs import book

    _, state = book.read(workspace)
    return [
        f"job {name} is on hold: {job.held}; let it go on: kt retrain {name} --release"
        for name, job in state.jobs.items()
        if job.held and name in ours
    ]


def standing(
    workspace: "Workspace",
    tables: "Tables",
    shown: "Mapping[str, Serving]",
    events: "Sequence[dict[str, Any]]",
    at: str,
) -> list[dict[str, Any]]:
    """The experiments that split traffic now, each with the report on it and a line that says how it stands."""
    from kt import clock
    from kt.deployments import courses
    from kt.errors import KtError
    from kt.monitors import experiment as room
    from kt.monitors import told

    rows = []
    for course in courses.courses(events):
        trial = shown[course.model].experiment if course.model in shown else None
        if course.end or trial is None or trial.shadow:
            continue
        report, text = None, f"{trial.traffic:g} % of traffic"
        if not at:
            try:
                found = room.report(tables(), workspace.settings, course, clock.now())
                report, text = told.summary(found), told.state(found)
            except KtError as error:
                text = f"nobody can tell how it stands: {error}"
        if trial.canary:
            text = f"{next_step(trial)}; {text}"
        text = f"{course.name} on {course.model}: {text}"
        rows.append(
            {"experiment": course.name, "model": course.model, "report": report, "text": text}
        )
    return rows


def next_step(canary: "states.Experiment") -> str:
    """What a canary's plan does next."""
    from kt.deployments.plan import due_at

    assert canary.canary is not None
    later = [share for share in canary.canary.steps if share > canary.traffic]
    after = f"{later[0]:g} % after {due_at(canary)}: kt canary step" if later else "no step is left"
    return f"canary at {canary.traffic:g} %, {after}"


def found_of_shadows(workspace: "Workspace", tables: "Tables") -> "list[tally.Report]":
    """What is known of shadows: by this machine's predictors, who are seconds ahead of the tables, or by the
    tables, which know of other machines and of processes that have ended."""
    from contextlib import suppress

    from kt.errors import KtError
    from kt.predictor import presence

    found = {one.shadow: one for one in presence.shadows(workspace)}
    with suppress(KtError):  # who serves tells what is wrong with the tables
        if store := tables():
            from kt.store import shadows

            for one in shadows.shadows(store):
                if one.shadow not in found or one.tally.copies > found[one.shadow].tally.copies:
                    found[one.shadow] = one
    return list(found.values())


def compared(shown: "Mapping[str, Serving]", reports: "list[tally.Report]") -> list[dict[str, Any]]:
    """What the shadows that run now were found to say, each as a row; of zeros where nothing is known."""
    from kt.store.tally import Report, Tally

    rows = []
    for model, serving in shown.items():
        trial = serving.experiment
        if trial and trial.shadow:
            nothing = Report(model, trial.name, trial.version, trial.phase, Tally())
            known = [one for one in reports if one.shadow == nothing.shadow]
            rows.append((known or [nothing])[0].summary() | {"since": trial.changed})
    return rows


def beside(shadow: dict[str, Any]) -> list[str]:
    """A shadow's answers beside those that were returned, for people."""
    name = f"{shadow['experiment']}: {shadow['version']} on {shadow['model']}"
    if not any(shadow[count] for count in ("compared", "failed", "invalid", "slow", "dropped")):
        return [f"shadow      {name}, nothing is compared yet"]
    lines = [f"{name}, {shadow['compared']:,} answers compared"]
    if shadow["agreement"] is not None:
        same = f"{shadow['agreement']:.2%}".replace("%", " %")
        lines.append(f"{same} of {shadow['predictions']:,} predictions agree")
    if shadow["mean_difference"] is not None:
        mean, worst = shadow["mean_difference"], shadow["worst_difference"]
        lines.append(f"numbers differ by {mean:.3g} on average, by {worst:.3g} at worst")
        lines[-1] += f" ({shadow['worst_prediction_id']})" if worst else ""
    took = f"p95 {shadow['p95'] * 1000:.1f} ms; " if shadow["p95"] is not None else ""
    counts = ("failed", "failed"), ("invalid", "gave no answer"), ("slow", "took too long")
    told = [f"{shadow[key]:,} {words}" for key, words in counts]
    lines.append(f"{took}{', '.join(told)}, {shadow['dropped']:,} copies were dropped")
    return [f"{'' if n else 'shadow':<11} {line}" for n, line in enumerate(lines)]


def unrecorded(predictor: "Presence") -> list[str]:
    """What a predictor could not write down of what it answered."""
    told, found = predictor.recording, []
    if told.get("state") == "behind":
        waiting = f"{told['waiting']:,} answers wait to be recorded"
        found.append(f"predictor {predictor.pid}: {waiting}: {told['reason']}")
    if told.get("dropped"):
        found.append(f"predictor {predictor.pid}: {told['dropped']:,} answers were never recorded")
    return found


def who_serves(predictors: "list[Presence]") -> str:
    """Who answers, in a few words."""
    if not predictors:
        return "none is running: kt serve"
    addresses = sorted({predictor.address for predictor in predictors})
    workers = f"{len(predictors)} workers" if len(predictors) > 1 else "1 worker"
    engines = {str(one.get("engine", "")) for each in predictors for one in each.versions} - {""}
    return ", ".join([*addresses, workers, *sorted(engines)])


def variants(model: str, serving: "Serving") -> list[dict[str, Any]]:
    """A model's variants, each as a row."""
    active, experiment = serving.active, serving.experiment
    if active is None:
        return []

    def row(variant: str, version: str, traffic: float, since: str) -> dict[str, Any]:
        return {
            "model": model,
            "variant": variant,
            "version": version,
            "traffic": traffic,  # a fraction
            "since": since,
            "labels": list(serving.labels.get(version, ())),
            "forced": version in serving.forced,
            "trusted": serving.trusted.get(version),
        }

    if experiment is None:
        return [row("active", active.version, 1.0, active.since)]
    if experiment.shadow:
        return [
            row("active", active.version, 1.0, active.since),
            row("shadow", experiment.version, 0.0, experiment.since),
        ]
    share = experiment.traffic / 100
    return [
        row("control", active.version, 1.0 - share, active.since),
        row("treatment", experiment.version, share, experiment.since),
    ]
