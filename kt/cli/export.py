"""kt export: what other tools need to watch a predictor's /metrics."""

import json
from typing import Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json

KINDS = ("prometheus-rules", "grafana")


def export(
    what: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="What to write.")],
    _json: Json = False,
) -> None:
    """Write what other tools need to watch a predictor: alerting rules of Prometheus by the levels of kt.toml, or
    a dashboard of Grafana. Both are over the names of GET /metrics; the rules are JSON, which is YAML too.

    Example: kt export prometheus-rules > kt.rules.yml
    """
    from kt.errors import Invalid
    from kt.monitors import grafana, prometheus

    match what:
        case "prometheus-rules":
            document = prometheus.rules(options.workspace().settings)
        case "grafana":
            document = grafana.dashboard()
        case _:
            raise Invalid(
                f"there is no kt export {what[:40]}", do=f"choose from: {', '.join(KINDS)}"
            )
    output.emit(document, json.dumps(document, indent=1))
