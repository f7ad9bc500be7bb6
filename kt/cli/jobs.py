"""retrain, jobs, daemon: what is trained anew, when it is due, and who sees to it."""

import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json, Quiet, Reason
from kt.errors import ACTION_NEEDED, Invalid, KtError, Unavailable

if TYPE_CHECKING:
    from datetime import datetime

    from kt.jobs.asked import Asked
    from kt.jobs.decide import Due
    from kt.jobs.retrain import Done
    from kt.jobs.runs import Run

T = TypeVar("T")
JobName = Annotated[
    str,
    typer.Argument(
        metavar="[JOB]",
        help="A job of kt.toml; all of them without.",
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
    from kt.jobs import check as room
    from kt.jobs.asked import Asked

    if (hold or release) and sum((hold, release, check, force, deploy)) > 1:
        raise Invalid(
            "it goes with --dry-run and --reason alone",
            where="--hold" if hold else "--release",
            do="hold or release first, then run kt retrain again",
        )
    workspace = options.workspace()
    stamp = options.stamp(reason)
    chosen = [
        Asked(workspace, name, found, stamp.by, clock.now, stamp.reason, force, deploy)
        for name, found in room.named(workspace, job, several=not (hold or release or force))
    ]
    if hold or release:
        from kt.jobs.retrain import hold as put

        (asked,) = chosen
        put(asked, on=hold, dry_run=dry_run)
        said = "on hold" if hold else "released"
        would = "would be" if dry_run else "is"
        result = {"job": asked.name, "held": hold, "dry_run": dry_run}
        output.emit(result, f"{asked.name} {would} {said}")
        return
    if check or dry_run:
        found, errors = each(chosen, room.glance if dry_run else room.check)
        told = [said_of(asked, one) for asked, one in found]
        tell(told, [line for one in found for line in lines_of(*one)], errors)
        if check and any(due.yes for _, due in found):
            raise typer.Exit(ACTION_NEEDED)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end says so
    done, errors = each(chosen, trained)
    told = [said_of(asked, one.due) | came_of(one) for asked, one in done]
    tell(told, [line for one in done for line in lines_after(*one)], errors)


def each(
    chosen: "Sequence[Asked]", ask: "Callable[[Asked], T]"
) -> "tuple[list[tuple[Asked, T]], list[KtError]]":
    """What every job answers, and the errors of those that cannot: one that is wrong holds up no other."""
    found, errors = [], []
    for asked in chosen:
        try:
            found.append((asked, ask(asked)))
        except KtError as error:
            if len(chosen) > 1:
                error.where = ": ".join(filter(None, (f"job {asked.name}", error.where)))
            errors.append(error)
    return found, errors


def tell(told: list[dict[str, Any]], lines: list[str], errors: list[KtError]) -> None:
    """The answers; where there are errors the first one ends the command, after all else is said."""
    if not errors or not output.run.json:
        output.emit({"jobs": told}, lines)
    for error in errors[1:]:
        output.warn(str(error))
    if errors:
        raise errors[0]


def trained(asked: "Asked") -> "Done":
    """What came of a job. Raises Unavailable where it was trained and that failed."""
    from kt.jobs import retrain as room

    done = room.retrain(asked, output.step)
    if done.held:
        what = f"{asked.name} is on hold: {done.held}"
        output.warn(f"{what}; let it go on: kt retrain {asked.name} --release")
    if done.ended and done.ended.kind == "failed":
        raise Unavailable(
            f"run {done.run} of {asked.name} {done.ended.how}: {done.ended.reason}",
            do=f"see: kt runs show {done.run}",
        )
    return done


def said_of(asked: "Asked", due: "Due") -> dict[str, Any]:
    return {
        "job": asked.name,
        "model": asked.model,
        "due": due.yes,
        "reasons": due.reasons,
        "blocked": due.blocked,
        "blocked_until": due.at,
    }


def lines_of(asked: "Asked", due: "Due") -> list[str]:
    from kt.jobs.check import family_of

    several = len(asked.workspace.settings.jobs) > 1
    name = f"{asked.name} is " if several else ""
    if due.yes:
        what = " ".join(asked.job.command) or f"kt train {family_of(asked)}"
        return [
            f"{name}due: {'; '.join(due.reasons.values())}",
            f"would run: {what}   (kt retrain {asked.name})",
        ]
    stands = in_the_way(due)
    go_on = f"; let it go on: kt retrain {asked.name} --release" if "held" in due.blocked else ""
    if due.reasons:
        return [f"{name}due, but {stands}{go_on}"]
    return [f"{name}not due{f' ({stands}{go_on})' if stands else ''}"]


def in_the_way(due: "Due") -> str:
    """What blocks a job, and until when, where that can be told."""
    names = {"held": "on hold"}
    said = "; ".join(f"{names.get(block, block)}: {why}" for block, why in due.blocked.items())
    return f"{said}, not before {output.iso(due.at)}" if due.at else said


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
            share = " --traffic 10" if is_deployed(asked) else ""
            return [f"run {done.run}: registered {what}{why}.  Next: kt deploy {what}{share}"]
        case _:
            share = f" as experiment {ended.experiment}" if ended.experiment else ""
            return [f"run {done.run}: deployed {what}{share}.  Watch: kt status"]


def is_deployed(asked: "Asked") -> bool:
    """Whether a version of the model is active already: the first one takes all traffic."""
    from kt.deployments import audit

    return audit.read(asked.workspace)[1].serving(asked.model).active is not None


def jobs(json: Json = False) -> None:
    """The jobs of kt.toml: whether each is due, and what its last run came to.

    Example: kt jobs
    """
    from kt import clock
    from kt.jobs import book
    from kt.jobs.asked import Asked

    workspace = options.workspace()
    _, state = book.read(workspace)
    rows, found = [], []
    for name, job in workspace.settings.jobs.items():
        asked = Asked(workspace, name, job, "", clock.now)
        told, now, why = standing(asked)
        last = next(reversed(state.job(name).runs), None)
        found.append(told | {"last_run": last.number if last else None})
        ended = f"{last.number}: {last.outcome}, {ago(last, clock.now())}" if last else ""
        rows.append((name, asked.model, now, ended, why))
    text = (
        output.table(("JOB", "MODEL", "NOW", "LAST RUN", "BECAUSE"), rows, one_line=True)
        if rows
        else "there are no jobs; write one into kt.toml: [jobs.NAME], see kt config"
    )
    output.emit({"jobs": found}, text)


def ago(run: "Run", now: "datetime") -> str:
    """How long a run's last event is past."""
    from kt.jobs import runs

    since = runs.time((run.ended or run.started).at)
    return f"{output.ago((now - since).total_seconds())} ago"


def standing(asked: "Asked") -> tuple[dict[str, Any], str, str]:
    """How a job stands: for JSON; in a word or two; and why. One that is wrong hides none of the others."""
    from kt.jobs.check import glance

    try:
        due = glance(asked)
    except KtError as error:
        return {"job": asked.name, "model": asked.model, "error": str(error)}, "wrong", str(error)
    return said_of(asked, due), now_of(due), why_now(due)


def why_now(due: "Due") -> str:
    """Why a job stands as it does, in a table's cell."""
    if due.at and due.blocked.keys().isdisjoint(("running", "held")):
        return f"{', '.join(due.blocked)} until {output.iso(due.at)}"
    return "; ".join((due.blocked or due.reasons).values())


def now_of(due: "Due") -> str:
    """How a job stands, in a word or two."""
    for block, said in (("running", "running"), ("held", "on hold")):
        if block in due.blocked:
            return said
    if not due.reasons:
        return "not due"
    return "waiting" if due.blocked else "due"


def daemon(quiet: Quiet = False, json: Json = False) -> None:
    """Start kt commands when it is time, until it is told to end: monitors, jobs that are due, canaries, mastery.

    It does what these lines of cron do, and may run in their place; both at once do nothing twice:

        * * * * *     kt monitor --once --quiet; kt canary step --quiet
        */30 * * * *  kt retrain --deploy --quiet
        */30 * * * *  nice kt mastery update --quiet      where kt.toml has a [mastery.NAME]

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
