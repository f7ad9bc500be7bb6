"""What `kt status` tells, gathered from the history, the tables, the predictors, the monitors and the jobs."""

from math import isfinite
from typing import TYPE_CHECKING, Any

from kt.cli import options, output

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


def standing(workspace: "Workspace", model: str, at: str) -> dict[str, Any]:
    """What is live, as `kt status --json` tells it: of one model or of all (""), now or at a time."""
    from kt import clock
    from kt.deployments import audit
    from kt.predictor import presence

    book, state = audit.read(workspace)
    if at:
        book = audit.at_time(book, at)
        state = audit.fold(book)
    else:
        audit.refuse_taken_back(workspace)
    if model:
        options.choose(workspace, state, model)
    shown = {
        name: serving
        for name, serving in sorted(state.models.items())
        if not model or name == model
    }
    rows = [row for name, serving in shown.items() for row in variants(name, serving)]
    tables = tables_of(workspace)
    result: dict[str, Any] = {
        "seq": state.seq,
        "models": rows,
        "predictors": [],
        "experiments": experiments(workspace, tables, shown, book.events, at),
        "shadows": compared(shown, [] if at else found_of_shadows(workspace, tables)),
        "daemon": {"text": "", "running": None},
        "alerts": [],
        "numbers": None,
        "attention": unusual(rows),
        "last": book.events[-1] if book.events else None,
    }
    if at:
        return result
    predictors, now = presence.alive(workspace), clock.now()
    numbers, unread = live_numbers(workspace, tables, state, shown, rows, now)
    return result | {
        "predictors": [
            {name: value for name, value in vars(predictor).items() if name != "shadows"}
            for predictor in predictors
        ],
        "daemon": seen_to(workspace, now),
        "alerts": open_alerts(workspace, model),
        "numbers": numbers,
        "attention": [
            *(
                f"{finding.where} {finding.what}; {finding.do}"
                for finding in audit.verify_manifest(workspace, state)
            ),
            *lost(workspace, rows),
            *(text for predictor in predictors for text in troubled(predictor, state.seq)),
            *held(workspace, model),
            *unmeasured(workspace, tables, model, now),
            *unusual(rows),
            *unread,
        ],
    }


def troubled(predictor: "Presence", seq: int) -> list[str]:
    """Why a predictor needs attention. seq: of the last event."""
    found = []
    if predictor.state != "ok":
        found.append(f"predictor {predictor.pid} is degraded: {predictor.reason}")
    if predictor.seq != seq:
        found.append(
            f"predictor {predictor.pid} serves event {predictor.seq}, the history stands at {seq}"
        )
    return found + unrecorded(predictor)


def lost(workspace: "Workspace", rows: list[dict[str, Any]]) -> list[str]:
    """Which versions are live whose weights this machine should have and has not."""
    from kt.registry import absence

    return [
        f"the weights of {row['model']} {row['version']} are missing here;"
        " get them from another machine: kt pull; or register the same file again: kt register FILE"
        for row in rows
        if absence.where(workspace, row["model"], row["version"]) == "missing"
    ]


def unusual(rows: list[dict[str, Any]]) -> list[str]:
    """Which versions serve that a gate refused, or whose file is code."""
    return [
        f"{row['model']} {row['version']} serves past a gate that refused it"
        for row in rows
        if row["forced"]
    ] + [
        f"{row['model']} {row['version']} was made by running the code in its file: {row['trusted']}"
        for row in rows
        if row["trusted"]
    ]


def tables_of(workspace: "Workspace") -> "Tables":
    """Opens the tables when it is first asked, for all who ask: what one has compiled serves the next."""
    from functools import cache

    from kt.store import connect

    return cache(lambda: connect.peek(workspace.root, workspace.settings))


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


def live_numbers(
    workspace: "Workspace",
    tables: "Tables",
    state: "states.State",
    shown: "Mapping[str, Serving]",
    rows: list[dict[str, Any]],
    now: "datetime",
) -> tuple[dict[str, Any] | None, list[str]]:
    """Give each row what the tables know of it; how old that is, and when a monitor looked last.

    None where there are no tables, which is then nothing to wait for. Also what needs attention.
    """
    from kt.errors import KtError

    for row in rows:
        row["live"] = None
    try:
        store = tables()
        if store is None:
            return None, []
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
        late = memory.late(workspace.settings, remembered, at)
        since = f"for {output.ago(late)}" if isfinite(late) else "since the clock was set back"
        unseen = f"no monitor has looked {since}: kt monitor --watch" if late else ""
        numbers = {
            "age": glance.age(store, lives, at),  # seconds
            "checked": None if checked is None else max(0, at - checked),
        }
        return numbers, [unseen] if unseen else []
    except KtError as error:
        return None, [f"what was recorded cannot be read: {error}"]


def open_alerts(workspace: "Workspace", model: str) -> list[dict[str, Any]]:
    """Those of a model and of the watching; all without one."""
    from kt.monitors import history

    _, known = history.read(workspace)
    return [
        alert.model_dump(mode="json", exclude={"prev"})
        for alert in known.open.values()
        if not model or alert.model in (model, "")
    ]


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


def unmeasured(workspace: "Workspace", tables: "Tables", model: str, now: "datetime") -> list[str]:
    """Whose mastery nobody has measured for twice as long as kt.toml asks: of a model, or of all without one."""
    from contextlib import suppress

    from kt.errors import KtError

    found = []
    for name, how in workspace.settings.mastery.items():
        if model and (how.model or name) != model:
            continue
        from kt.store import students

        with suppress(KtError):  # who serves tells what is wrong with the tables
            store = tables()
            last = students.last(store, name) if store else None
            age = now.timestamp() - last.ended if last and last.ended else None
            if age is None or age > 2 * 3_600 * how.every:
                asked = f"every {how.every:g} h is asked"
                when = (
                    "never measured" if age is None else f"measured {output.ago(age)} ago, {asked}"
                )
                found.append(f"mastery {name} was {when}: kt mastery update {name}")
    return found


def experiments(
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


def unrecorded(predictor: "Presence") -> list[str]:
    """What a predictor could not write down of what it answered."""
    told, found = predictor.recording, []
    if told.get("state") == "behind":
        waiting = f"{told['waiting']:,} answers wait to be recorded"
        found.append(f"predictor {predictor.pid}: {waiting}: {told['reason']}")
    if told.get("dropped"):
        found.append(f"predictor {predictor.pid}: {told['dropped']:,} answers were never recorded")
    return found
