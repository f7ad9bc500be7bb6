"""status and history: what is live, and what has happened."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json, Model

if TYPE_CHECKING:
    from datetime import datetime

    from kt.workspace import Workspace


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
    """How things stand, for JSON and for people."""
    from kt import clock
    from kt.cli import standing

    found = standing.standing(workspace, model, at)
    return found, told(found, clock.now(), past=bool(at))


def told(found: dict[str, Any], now: "datetime", *, past: bool) -> list[str]:
    """For people. past: how it was at a time, of which nobody knows who served."""
    from datetime import datetime

    from kt.deployments.events import describe

    rows, numbers, last = found["models"], found["numbers"], found["last"]
    if not rows:
        return [
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
    lines += [f"experiment  {one['text']}" for one in found["experiments"]]
    for shadow in found["shadows"]:
        lines += beside(shadow)
    if not past:
        lines.append(f"predictor   {who_serves(found['predictors'])}")
        lines.append(f"alerts      {told_of(found['alerts'], numbers)}")
    if found["daemon"]["text"]:
        lines.append(f"daemon      {found['daemon']['text']}")
    if last:
        lines.append(
            f"last change event {last['seq']} by {last['by']}, {age(last['at'])} ago: {describe(last)}"
        )
    lines += [f"ATTENTION   {text}" for text in found["attention"]]
    return lines


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


def who_serves(predictors: list[dict[str, Any]]) -> str:
    """Who answers, in a few words."""
    if not predictors:
        return "none is running: kt serve"
    addresses = sorted({predictor["address"] for predictor in predictors})
    workers = f"{len(predictors)} workers" if len(predictors) > 1 else "1 worker"
    engines = {str(one.get("engine", "")) for each in predictors for one in each["versions"]} - {""}
    return ", ".join([*addresses, workers, *sorted(engines)])
