"""kt dashboard: the page that shows what is live, as a file or served on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.options import Json

if TYPE_CHECKING:
    from kt.monitors.dashboard.facts import Dashboard
    from kt.workspace import Workspace

HOST = "127.0.0.1"
PAGE = "dashboard.html"  # in .kt/


def dashboard(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help=f"Where the page is written; .kt/{PAGE} without."
        ),
    ] = None,
    last: Annotated[
        str, typer.Option("--last", metavar="T", help="How far back: 24h, 7d or 30d.")
    ] = "7d",
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on this machine, renewed every minute.")
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="With --serve; 0 takes a free one."
        ),
    ] = 8610,
    show: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    json: Json = False,
) -> None:
    """Show what is live as a page: versions, traffic, metrics and their levels, experiments, alerts.

    The page is one file that loads nothing and opens from a disk. With --json all its numbers, and no
    page but with --out.

    Example: kt dashboard --open
    """
    from kt.errors import Invalid
    from kt.monitors.dashboard import charts
    from kt.monitors.dashboard.facts import WINDOWS

    workspace = options.workspace()
    if last not in WINDOWS:
        raise Invalid(
            f"{last[:20]!r} is no time that is shown",
            where="--last",
            do=f"there are: {', '.join(WINDOWS)}",
        )
    if serve:
        charts.library()
        served(workspace, port, show)
        return
    wanted = out is not None or not output.run.json
    if wanted:
        charts.library()
    facts = look(workspace, last)
    path = written(facts, last, out or workspace.local / PAGE) if wanted else None
    if path and show:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
    from dataclasses import asdict

    output.emit(
        {"page": str(path) if path else None} | asdict(facts), f"written to {path}; show it: --open"
    )


def look(workspace: "Workspace", last: str) -> "Dashboard":
    """The facts now, with the predictors that run on this machine."""
    from kt import clock
    from kt.cli.standing import found_of_shadows, tables_of
    from kt.monitors.dashboard import gather
    from kt.monitors.dashboard.facts import Predictor
    from kt.predictor import presence

    running = [
        Predictor(one.pid, one.address, one.state, one.reason, one.seq, one.since)
        for one in presence.alive(workspace)
    ]
    shadows = found_of_shadows(workspace, tables_of(workspace))
    return gather.gather(workspace, last, clock.now(), running, shadows)


def written(facts: "Dashboard", last: str, path: Path) -> Path:
    from kt import files
    from kt.monitors.dashboard import page

    files.write_whole(path, page.one_file(facts, last).encode())
    return path


def served(workspace: "Workspace", port: int, show: bool) -> None:
    """Serve until SIGTERM or SIGINT: one process, on loopback alone."""
    import multiprocessing
    import sys

    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels

    from kt.predictor.server import Listening, claim

    multiprocessing.set_start_method("fork", force=True)
    port = claim(HOST, port, "kt dashboard --serve")
    address = f"http://{HOST}:{port}"
    server = Listening(
        target="kt",
        address=HOST,
        port=port,
        interface=Interfaces.WSGI,
        blocking_threads=2,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    )

    def listening() -> None:
        output.emit({"address": address}, f"the dashboard is at {address}")
        sys.stdout.flush()
        if show:
            import webbrowser

            webbrowser.open(address)

    def app() -> Any:
        from kt.monitors.dashboard.app import create_app

        return create_app(lambda window: look(workspace, window))

    server.on_startup(listening)
    server.serve(target_loader=app, wrap_loader=False)
