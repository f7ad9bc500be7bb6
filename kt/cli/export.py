"""kt export: what other tools need, to watch a predictor or to run kt on a machine."""

import json as notation
import sys
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
    json: Json = False,
) -> None:
    """Write what other tools need: alerting rules of Prometheus by the levels of kt.toml or a dashboard of
    Grafana, both over the names of GET /metrics; units of systemd for kt serve and kt daemon, or the lines of
    cron that do what the daemon does.

    The rules are JSON, which is YAML too.

    Example: kt export prometheus-rules > kt.rules.yml
    """
    from kt.errors import Invalid
    from kt.jobs import units
    from kt.monitors import grafana, prometheus

    workspace = options.workspace()
    root, kt = str(workspace.root), (sys.executable, "-m", "kt")
    match what:
        case "prometheus-rules":
            document = prometheus.rules(workspace.settings)
            output.emit(document, notation.dumps(document, indent=1))
        case "grafana":
            document = grafana.dashboard()
            output.emit(document, notation.dumps(document, indent=1))
        case "systemd":
            found = units.systemd(root, kt, user=user)
            output.emit({"units": found}, [f"# {name}\n{text}" for name, text in found.items()])
        case "cron":
            lines = units.cron(root, kt)
            output.emit({"crontab": lines}, lines.rstrip())
        case _:
            raise Invalid(
                f"there is no kt export {what[:40]}", do=f"choose from: {', '.join(KINDS)}"
            )
