"""kt requests: what was asked, answered and told, of the requests that kt.toml has kept."""

import json as jsons
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.options import Json, Model

if TYPE_CHECKING:
    from kt.store.database import Store
    from kt.store.requests import Asked
    from kt.workspace import Workspace

WIDTH = 40  # characters of a cell of JSON
NUMBERS = {"value", "probability", "category"}


def requests(
    model: Model = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Not older than this: 10m, 1h, 2d.")
    ] = "",
    unit: Annotated[
        str, typer.Option("--unit", metavar="UNIT", help="Those of one unit, as requests name it.")
    ] = "",
    last: Annotated[
        int,
        typer.Option("--last", "-n", metavar="N", min=1, max=1_000_000, help="The last N of them."),
    ] = 20,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One request a line, whole, oldest first.")
    ] = False,
    json: Json = False,
) -> None:
    """Show requests that were kept, newest first: what was asked, which version said what, what came of it.

    Requests are kept where kt.toml asks for it: store.log_inputs says of how many units, store.log_fields
    what of them. Units are shown as pseudonyms.

    Example: kt requests --since 1h --jsonl > asked.jsonl
    """
    from kt import clock
    from kt.store import connect

    workspace = options.workspace()
    now = clock.now().timestamp()
    start = now - options.seconds(since, "--since") if since else 0.0
    store = connect.peek(workspace.root, workspace.settings)
    found = kept(workspace, store, last, start, model, unit) if store else []
    rows = [row_of(one) for one in found]
    if store and (left_out := unlogged(store, start, now)):
        output.warn(
            f"{left_out:,} requests were left out: they came too fast, or the tables failed"
        )
    if jsonl:
        for row in reversed(rows):
            output.write_json(row)
        return
    headers = ("AT", "MODEL", "VERSION", "VARIANT", "UNIT", "ASKED", "SAID", "OUTCOME")
    text = (
        output.table(headers, [cells(row) for row in rows])
        if rows
        else "no such request was kept; how many are: kt config store"
    )
    output.emit({"requests": rows}, text)


def kept(
    workspace: "Workspace", store: "Store", last: int, start: float, model: str, unit: str
) -> "list[Asked]":
    from kt.store import pseudonym, secret
    from kt.store import requests as room

    units = pseudonym.labelled(secret.read(workspace.root), unit) if unit else []
    return room.newest(store, last, start, model, units)


def unlogged(store: "Store", start: float, now: float) -> int:
    from kt.predictor.sampler import UNLOGGED
    from kt.store.counters import counters

    return counters(store, int(start) // 60, int(now) // 60 + 1)[UNLOGGED]


def row_of(asked: "Asked") -> dict[str, Any]:
    at = datetime.fromtimestamp(asked.at, UTC).isoformat(timespec="milliseconds")
    predictions = asked.answer["predictions"]
    return {
        "at": at.replace("+00:00", "Z"),
        "id": asked.id.hex(),
        "model": asked.model,
        "version": asked.answer["version"],
        "variant": asked.variant or None,
        "experiment": asked.experiment or None,
        "fallback": asked.answer.get("fallback", False),
        "unit": asked.unit.hex() or None,
        "request": asked.request,
        "predictions": predictions,
        "outcomes": [asked.outcomes.get(place) for place in range(len(predictions))],
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    told = ["-" if outcome is None else f"{outcome:g}" for outcome in row["outcomes"]]
    return (
        row["at"].partition(".")[0] + "Z",
        row["model"],
        row["version"] + (" (fallback)" if row["fallback"] else ""),
        row["variant"] or "-",
        row["unit"][2:10] if row["unit"] else "-",
        brief(row["request"]),
        ", ".join(map(said, row["predictions"])),
        ", ".join(told),
    )


def said(prediction: dict[str, Any]) -> str:
    """The number that outcomes are compared with; of what was kept whole its JSON."""
    value = prediction.get("value", prediction.get("probability"))
    if not isinstance(value, float) or not prediction.keys() <= NUMBERS:
        return brief(prediction)
    known = f"{value:.4g}"
    return f"{prediction['category']} ({known})" if "category" in prediction else known


def brief(value: Any) -> str:
    return output.short(jsons.dumps(value, separators=(",", ":")), WIDTH)
