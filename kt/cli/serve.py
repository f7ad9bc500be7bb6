"""kt serve and kt predict: the predictor, and one request to it from the shell."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kt.cli import early, options, output
from kt.cli.options import Json
from kt.errors import Invalid

pipe: int | None = None  # in a child of the server: where it waits to be told what was asked for


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Listen on this address.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65535, help="Listen on this port; 0 takes a free one."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=256, help="Processes that answer.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines send requests, without any key.")
    ] = False,
    _json: Json = False,
) -> None:
    """Answer requests by HTTP, following what is deployed.

    Example: kt serve --port 8600 --workers 2
    """
    if pipe is None:
        early.serve(sys.argv[1:])
    order = {
        "run": asdict(output.run),
        "settings": {"host": host, "port": port, "workers": workers},
        "insecure": insecure,
    }
    os.write(pipe, json.dumps(order).encode())


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]", help="The model, if there are several.", show_default=False
        ),
    ] = "",
    data: Annotated[str, typer.Option("--data", "-d", metavar="JSON", help="The request.")] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="A file with the request; - or none is standard input.",
        ),
    ] = None,
    url: Annotated[str, typer.Option(metavar="URL", help="A predictor elsewhere.")] = "",
    _json: Json = False,
) -> None:
    """Send one request: to the predictor that runs on this workspace, else in this process.

    Example: kt predict sakt --data '{"answers": [{"item": "19", "response": 1}], "items": ["20"]}'
    """
    from kt import workspace
    from kt.predictor import client

    body = data.encode() if data else read(file)
    if url:
        answer = client.over_http(url, model, body)
    else:
        here = workspace.find(options.here(), output.run.workspace)
        running = client.running(here)
        answer = (
            client.over_http(running, model, body) if running else client.here(here, model, body)
        )
    output.emit(answer, lines(answer))


def read(file: Path | None) -> bytes:
    from kt import files

    if file is None or str(file) == "-":
        body = sys.stdin.buffer.read()
    else:
        with files.named("read", file):
            body = file.read_bytes()
    if not body.strip():
        raise Invalid(
            "there is no request",
            do="give one: --data JSON, --file FILE, or on standard input; kt predict --help shows one",
        )
    return body


def lines(answer: dict[str, Any]) -> list[str]:
    """The answer for people: who answered, then a row for each prediction."""
    who = f"{answer['model']} {answer['version']}"
    if answer.get("experiment"):
        who += f", {answer['variant']} of {answer['experiment']}"
    if answer.get("fallback"):
        who += f" (in place of the treatment: {answer['reason']})"
    rows = answer["predictions"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [who, output.table(names, [[shown(row.get(name)) for name in names] for row in rows])]


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " ".join(shown(item) for item in value)
    return "" if value is None else str(value)
