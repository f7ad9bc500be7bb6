"""runs: what the runs of jobs came to, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.options import Json

if TYPE_CHECKING:
    from kt.jobs.runs import Run
    from kt.workspace import Workspace


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
        if not number:
            raise Invalid("which run?", do="name it: kt runs show N; see them: kt runs")
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
            ", ".join(run.started.reasons),
            run.outcome,
            getattr(run.ended, "version", ""),
            end.reason if (end := run.settled or run.ended) else "",
        )
        for name, run in some
    ]
    text = (
        output.table(
            ("RUN", "JOB", "STARTED", "BECAUSE", "OUTCOME", "VERSION", "WHY"), rows, one_line=True
        )
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
        made = ", ".join(f"{key} {value[:12]}" for key, value in ended.made_with.items())
        out.append(f"  made with   {made}, {ended.seconds:g} s")
    out += ["", *log[-20:]] if log else []
    return facts(name, run) | {"log": str(path) if log else None}, out


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
