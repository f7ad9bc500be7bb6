"""kt export: what other tools need, to watch a predictor or to run kt on a machine."""

import json as notation
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json

KINDS = ("prometheus-rules", "grafana", "systemd", "cron")


def export(
    what: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="What to write.")],
    user: Annotated[
        bool, typer.Option("--user", help="With systemd: units for systemctl --user.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="With systemd: write the units into this folder."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write what other tools need: alerting rules of Prometheus by the levels of kt.toml or a dashboard of
    Grafana, both over the names of GET /metrics; units of systemd for kt serve and kt daemon, or the lines of
    cron that do what the daemon does.

    The rules are JSON, which is YAML too. Units run as the owner of the workspace.

    Example: kt export systemd --user --out ~/.config/systemd/user
    """
    from kt import process
    from kt.errors import Invalid, Refused
    from kt.jobs import units
    from kt.monitors import grafana, prometheus

    workspace = options.workspace()
    root, kt = str(workspace.root), process.command("kt")
    if what != "systemd" and (user or out):
        raise Invalid(
            "it goes with systemd alone",
            where="--out" if out else "--user",
            do=f"leave it out: kt export {what[:40]} > FILE",
        )
    if what in ("systemd", "cron") and "\n" in root:
        raise Refused(
            "the workspace's path has a line break, which no line can hold", do="rename it"
        )
    match what:
        case "prometheus-rules":
            document = prometheus.rules(workspace.settings)
            output.emit(document, notation.dumps(document, indent=1))
        case "grafana":
            document = grafana.dashboard()
            output.emit(document, notation.dumps(document, indent=1))
        case "systemd":
            found = units.systemd(root, kt, "" if user else owner_of(workspace.root))
            output.emit({"units": found, "out": out}, placed(found, out, user=user))
        case "cron":
            lines = units.cron(root, kt, mastery=bool(workspace.settings.mastery))
            output.emit({"crontab": lines}, lines.rstrip())
        case _:
            raise Invalid(
                f"there is no kt export {what[:40]}", do=f"choose from: {', '.join(KINDS)}"
            )


def placed(found: Mapping[str, str], out: Path | None, *, user: bool) -> str:
    """Units as text; or, written into a folder, how to start them."""
    from kt import files

    if out is None:
        return "\n".join(f"# {name}\n{unit}" for name, unit in found.items())
    files.write_together({out / name: unit.encode() for name, unit in found.items()})
    control = "systemctl --user" if user else "systemctl"
    start = f"{control} daemon-reload && {control} enable --now {' '.join(found)}"
    return f"wrote {', '.join(found)} to {out}.  Next: {start}"


def owner_of(folder: Path) -> str:
    """By name; by number where the machine has no name for it."""
    try:
        return folder.owner()
    except KeyError:
        return str(folder.stat().st_uid)
