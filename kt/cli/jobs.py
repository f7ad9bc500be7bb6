"""retrain, jobs, runs, daemon: what is trained anew, when it was, what came of it, and who sees to it."""

import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json, Quiet, Reason

if TYPE_CHECKING:
    from kt.jobs.asked import Asked
    from kt.jobs.decide import Due
    from kt.jobs.retrain import Done
    from kt.jobs.runs import Run
    from kt.workspace import Workspace

DUE = 10
JobName = Annotated[
    str,
    typer.Argument(
        metavar="[JOB]",
        help="A job of kt.toml; the only one without.",
        autocompletion=complete.jobs,
    ),
]


def retrain(
    job: JobName = "",
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether it is due: exit 10 if so, else 0.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Whatever the triggers say, also on hold; never past the gates."
        ),
    ] = False,
    deploy: Annotated[
        bool,
        typer.Option(
            "--deploy/--no-deploy",
            help="Give a better version traffic, as the job says; without, it is registered.",
        ),
    ] = False,
    hold: Annotated[bool, typer.Option("--hold", help="From now on no trigger starts it.")] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Triggers may start it again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    reason: Reason = "",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a job's model anew if it is due; keep the result only if it is better.

    Due is what a trigger says: the last training is old, there are new samples, a critical alert is
    open. The candidate and the active version are compared on the newest units of the data, whom
    neither has learnt from. One that is not better by the job's margin, surely, is not kept. For cron:

        */30 * * * * kt retrain --deploy --quiet

    Example: kt retrain nightly --check
    """
    from kt import clock
    from kt.errors import Invalid, Unavailable
    from kt.jobs import retrain as room
    from kt.jobs.asked import Asked

    if hold and release:
        raise Invalid("say one of the two", where="--hold, --release")
    workspace = options.workspace()
    stamp = options.stamp(reason)
    chosen = [
        Asked(workspace, name, found, stamp.by, clock.now, stamp.reason, force, deploy)
        for name, found in room.named(workspace, job, several=not (hold or release or force))
    ]
    if hold or release:
        (asked,) = chosen
        room.hold(asked, on=hold)
        said = "on hold" if hold else "released"
        output.emit({"job": asked.name, "held": hold}, f"{asked.name} is {said}")
        return
    if check or dry_run:
        found = [(asked, room.check(asked)) for asked in chosen]
        due = [one for one in found if one[1].yes]
        lines = [line for one in (due if quiet else found) for line in lines_of(*one)]
        output.emit({"jobs": [said_of(asked.name, one) for asked, one in found]}, lines)
        if due and check:
            raise typer.Exit(DUE)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end says so
    done = [(asked, room.retrain(asked, output.step)) for asked in chosen]
    for asked, one in done:
        if one.held:
            what = f"{asked.name} is on hold: {one.held}"
            output.warn(f"{what}; let it go on: kt retrain {asked.name} --release")
    for asked, one in done:
        if one.ended and one.ended.kind == "failed":
            raise Unavailable(
                f"run {one.run} of {asked.name} {one.ended.how}: {one.ended.reason}",
                do=f"see: kt runs show {one.run}",
            )
    output.emit(
        {"jobs": [said_of(asked.name, one.due) | came_of(one) for asked, one in done]},
        [line for one in done for line in lines_after(*one)],
    )


def said_of(name: str, due: "Due") -> dict[str, Any]:
    return {
        "job": name,
        "due": due.yes,
        "reasons": due.reasons,
        "blocked": due.blocked,
        "blocked_until": due.at,
    }


def lines_of(asked: "Asked", due: "Due") -> list[str]:
    from kt.jobs.retrain import family_of

    several = len(asked.workspace.settings.jobs) > 1
    name = f"{asked.name} is " if several else ""
    if due.yes:
        what = " ".join(asked.job.command) or f"kt train {family_of(asked)}"
        return [
            f"{name}due: {'; '.join(due.reasons.values())}",
            f"would run: {what}   (kt retrain {asked.name})",
        ]
    waits = f", not before {output.iso(due.at)}" if due.at else ""
    held = "; ".join(f"{name}: {why}" for name, why in due.blocked.items())
    if due.reasons:
        return [f"{name}due, but {held}{waits}"]
    return [f"{name}not due{f' ({held}{waits})' if held else ''}"]


def came_of(done: "Done") -> dict[str, Any]:
    ended = done.ended.model_dump(mode="json") if done.ended else None
    return {"run": done.run or None, "ended": ended, "held": done.held or None}


def lines_after(asked: "Asked", done: "Done") -> list[str]:
    ended = done.ended
    if ended is None or ended.kind == "failed":
        return lines_of(asked, done.due)
    what = f"{asked.model}@{ended.version}"
    match ended.outcome:
        case "kept":
            return [f"run {done.run}: the active version stays: {ended.reason}"]
        case "registered":
            why = f" ({ended.reason})" if ended.reason else ""
            return [f"run {done.run}: registered {what}{why}.  Next: kt deploy {what} --traffic 10"]
        case _:
            share = f" as experiment {ended.experiment}" if ended.experiment else ""
            return [f"run {done.run}: deployed {what}{share}.  Watch: kt status"]


def jobs(json: Json = False) -> None:
    """The jobs of kt.toml: whether each is due, and what its last run came to.

    Example: kt jobs
    """
    from kt import clock
    from kt.jobs import book
    from kt.jobs import retrain as room
    from kt.jobs.asked import Asked

    workspace = options.workspace()
    _, state = book.read(workspace)
    rows, found = [], []
    for name, job in workspace.settings.jobs.items():
        due = room.glance(Asked(workspace, name, job, "", clock.now))
        last = state.job(name).runs[-1:] or (None,)
        found.append(said_of(name, due) | {"last_run": last[0].number if last[0] else None})
        rows.append(
            (
                name,
                job.model or name,
                now_of(due),
                "; ".join((due.blocked or due.reasons).values()),
                f"{last[0].number}: {last[0].outcome}" if last[0] else "",
                last[0].started.at if last[0] else "",
            )
        )
    text = (
        output.table(("JOB", "MODEL", "NOW", "BECAUSE", "LAST RUN", "AT"), rows)
        if rows
        else "there are no jobs; write one into kt.toml: [jobs.NAME], see kt config"
    )
    output.emit({"jobs": found}, text)


def now_of(due: "Due") -> str:
    """How a job stands, in a word or two."""
    for block, said in (("running", "running"), ("held", "on hold")):
        if block in due.blocked:
            return said
    if not due.reasons:
        return "not due"
    return "waiting" if due.blocked else "due"


def runs(
    what: Annotated[str, typer.Argument(metavar="[show]", help="show, for one of them.")] = "",
    number: Annotated[int, typer.Argument(metavar="[N]", help="Its number.")] = 0,
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=0, help="Only the last N; 0 for all.")
    ] = 20,
    json: Json = False,
) -> None:
    """The runs of jobs, newest first; or all that is known of one: its data, its log, why it ended as it did.

    Example: kt runs show 12
    """
    from kt.errors import Invalid
    from kt.jobs import book

    workspace = options.workspace()
    _, state = book.read(workspace)
    everything = sorted(
        ((name, run) for name, job in state.jobs.items() for run in job.runs),
        key=lambda one: -one[1].number,
    )
    if what == "show":
        one = next((run for run in everything if run[1].number == number), None)
        if one is None:
            raise Invalid(f"there is no run {number}", do="see them: kt runs")
        output.emit(*shown(workspace, *one))
        return
    if what:
        raise Invalid(f"there is no {what[:64]!r} of runs", do="write: kt runs, or kt runs show N")
    some = everything[:last] if last else everything
    rows = [
        (
            run.number,
            name,
            run.started.at,
            "; ".join(run.started.reasons.values()),
            run.outcome,
            getattr(run.ended, "version", ""),
            end.reason if (end := run.settled or run.ended) else "",
        )
        for name, run in some
    ]
    text = (
        output.table(("RUN", "JOB", "STARTED", "BECAUSE", "OUTCOME", "VERSION", "WHY"), rows)
        if rows
        else "no job has run yet"
    )
    output.emit({"runs": [facts(name, run) for name, run in some]}, text)


def facts(name: str, run: "Run") -> dict[str, Any]:
    return {
        "run": run.number,
        "job": name,
        "outcome": run.outcome,
        "started": run.started.model_dump(mode="json"),
        "ended": run.ended.model_dump(mode="json") if run.ended else None,
        "settled": run.settled.model_dump(mode="json") if run.settled else None,
    }


def shown(workspace: "Workspace", name: str, run: "Run") -> tuple[dict[str, Any], list[str]]:
    """A run, all of it; for people with the end of its log."""
    from kt.jobs import logs

    path = logs.path(workspace, run.number)
    log = path.read_text(errors="replace").splitlines() if path.is_file() else []
    began, ended = run.started, run.ended
    out = [
        f"run {run.number} of {name}: {run.outcome}",
        f"  started     {began.at} by {began.by}",
        *(f"  {trigger:<11} {why}" for trigger, why in began.reasons.items()),
        f"  data        {began.data.source}, {began.data.samples:,} samples, sha256 {began.data.sha256[:12]}…",
        f"  seed        {began.seed}",
        f"  active      {began.model}@{began.parent}" if began.parent else "  active      nothing",
    ]
    if ended:
        out.append(f"  ended       {ended.at}{f': {ended.reason}' if ended.reason else ''}")
    if ended and ended.kind == "finished":
        scores = [f"{name} {value:.4f}" for name, value in ended.scores.items() if is_number(value)]
        out += [f"  scores      {', '.join(scores)}"] if scores else []
        if ended.comparison:
            from kt.jobs.candidate import sentence

            out.append(f"  compared    {sentence(ended.comparison)}")
        if ended.version:
            out.append(f"  version     {began.model}@{ended.version}")
        if run.settled:
            why = f": {run.settled.reason}" if run.settled.reason else ""
            out.append(f"  settled     {run.settled.at}: {run.settled.how}{why}")
        made = ", ".join(f"{key} {value}" for key, value in ended.made_with.items())
        out.append(f"  made with   {made}, {ended.seconds:g} s")
    out += ["", *log[-20:]] if log else []
    return facts(name, run) | {"log": str(path) if log else None}, out


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def daemon(quiet: Quiet = False, json: Json = False) -> None:
    """Start kt commands when it is time, until it is told to end: monitors, jobs that are due, canaries.

    It does what these lines of cron do, and may run in their place; both at once do nothing twice:

        * * * * *     kt monitor --once --quiet && kt canary step --quiet
        */30 * * * *  kt retrain --deploy --quiet

    SIGTERM ends it, with what it runs; SIGHUP has it read kt.toml again. `kt status` says how it stands.

    Example: kt daemon
    """
    import logging

    from kt import clock
    from kt.jobs import daemon as room

    workspace = options.workspace()
    logging.basicConfig(
        format="%(asctime)s %(message)s", level=logging.WARNING if quiet else logging.INFO
    )
    logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def said(tasks: list[str]) -> None:
        output.emit({"tasks": tasks}, f"the daemon runs: {', '.join(tasks)}")
        sys.stdout.flush()

    room.serve(workspace, clock.now, said)
