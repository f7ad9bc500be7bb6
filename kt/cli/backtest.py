"""backtest: what a job would have done in times gone by, and what that would have gained."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.jobs import JobName
from kt.cli.options import Json, Quiet

if TYPE_CHECKING:
    from kt.jobs.backtest import Backtest
    from kt.jobs.hindsight import Gain, Retraining
    from kt.jobs.replay import Look


def backtest(
    job: JobName = "",
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help="The first look: 2026-01-14, in UTC.")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Until then; what comes later is not read.")
    ] = "",
    every: Annotated[
        str, typer.Option("--every", metavar="T", help="How long between two looks: 12h, 1d.")
    ] = "1d",
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="A picture of it: .png, .svg (pip install 'kt[plot]')."
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Replay a job's past: when it would have trained anew, and what that would have gained.

    At each look the triggers are asked with what was so then: the samples that had come, the alerts that
    were open, the items that had drifted for the version active then. Each retraining learns from what was
    known, is compared with the version active before it as the job does, and then both are scored on what
    came next, until the retraining after it. The version active at --from is where it begins, and what it
    is held against in the end. The trainings run side by side, where compute in kt.toml says; one after
    another where item_drift is a trigger: it hangs on what came of the one before. Nothing is registered
    or deployed.

    The data must say when each sample came: by a column came or time (ISO 8601, or seconds since 1970), or by
    a date in the names of files (answers-2026-01-14.csv), which had all come when that day was over.

    Example: kt backtest nightly --from 2026-01-01 --to 2026-04-01 --plot backtest.svg
    """
    from kt.errors import Invalid
    from kt.jobs import backtest as room
    from kt.jobs import check, picture

    workspace = options.workspace()
    ((name, found),) = check.named(workspace, job, several=False)
    asked = room.Asked(
        workspace,
        name,
        found,
        time(begin, "--from"),
        time(end, "--to"),
        timedelta(seconds=options.seconds(every)),
    )
    if asked.begin >= asked.end or not asked.every:
        raise Invalid(
            "there is no time between",
            where="--from, --to, --every",
            do="give a --from before --to, and an --every above 0",
        )
    if plot:
        picture.require(plot)

    def told_looks(looks: "Sequence[Look]") -> None:
        due = sum(look.due.yes for look in looks)
        output.step("looks", f"{len(looks)}, of which {due} are due")

    def told(one: "Retraining") -> None:
        output.step(one.outcome, f"{output.iso(one.at)}  {one.why}")

    def told_unknown(at: datetime, why: str) -> None:
        output.step("drift", f"{output.iso(at)}  nobody could tell: {why}")

    done = room.backtest(asked, on_looks=told_looks, on_retraining=told, on_unknown=told_unknown)
    if plot:
        picture.write(name, done.began, done.retrainings, plot)
    output.emit(said(name, done, plot), lines(done, plot))


def time(text: str, where: str) -> datetime:
    """Raises Invalid."""
    from kt.errors import Invalid

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f"{text[:40]!r} is no time" if text else "it is needed",
            where=where,
            do="write it as 2026-01-14 or 2026-01-14T10:30:00Z",
        ) from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def said(name: str, done: "Backtest", plot: Path | None) -> dict[str, Any]:
    return {
        "job": name,
        "active": done.began or None,
        "looks": [
            {"at": look.at, "due": look.due.yes, "reasons": look.due.reasons, "blocked": look.due.blocked}
            for look in done.looks
        ],
        "retrainings": [
            asdict(one) | {"comparison": one.comparison}
            for one in done.retrainings
        ],
        "retrained": done.mean(lambda gain: gain.after),
        "unchanged": done.mean(lambda gain: gain.first),
        "held": done.held or None,
        "plot": plot,
    }  # fmt: skip


def lines(done: "Backtest", plot: Path | None) -> Iterator[str]:
    if not done.retrainings:
        yield f"{len(done.looks)} looks: it would not have trained"
        return
    rows = [
        (
            short(one.at),
            ", ".join(one.reasons),
            one.outcome,
            f"{one.comparison.candidate:.4f}" if one.comparison else "",
            f"{one.comparison.active:.4f}" if one.comparison else "",
            gained(one.gain) if one.comparison else "",
        )
        for one in done.retrainings
    ]
    yield output.table(
        ("AT", "BECAUSE", "OUTCOME", "CANDIDATE", "ACTIVE", "GAIN ON WHAT CAME NEXT"), rows
    )
    better = sum(one.outcome in ("first", "better") for one in done.retrainings)
    yield f"{len(done.looks)} looks, {len(done.retrainings)} retrainings, {better} of them better"
    with_it, without = done.mean(lambda gain: gain.after), done.mean(lambda gain: gain.first)
    if with_it is not None and without is not None:
        metric = next(one.gain.metric for one in done.retrainings if one.gain)
        whose = done.began or "the first"
        yield f"{metric} over all that came: {with_it:.4f} with retraining, {without:.4f} with {whose} alone"
    if done.held:
        yield f"then on hold: {done.held}"
    if plot:
        yield f"picture: {plot}"


def gained(gain: "Gain | None") -> str:
    if gain is None:
        return "nothing came"
    return f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def short(at: datetime) -> str:
    """A time of look, in UTC: the day where it is the day's beginning."""
    return output.iso(at).removesuffix("T00:00:00Z")
