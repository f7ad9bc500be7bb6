"""create_app(workspace): the routes put together, as a plain WSGI callable that any server can run.

POST /predict, /models/NAME/predict    predict.py
     /v2/...                           inference.py: the Open Inference Protocol
POST /invocations                      invocations.py: MLflow's scoring format
POST /feedback                         feedback.py: what came of predictions
GET  /metrics                          metrics.py: for Prometheus
GET  /, /docs, /openapi.json           docs.py, openapi.py
GET  /health                           200 always: ok or degraded, and what is served
GET  /ready                            503 until something is served
"""

import os
from pathlib import Path
from typing import Any

import falcon

from kt import http
from kt.predictor import docs, faults, feedback, inference, invocations, metrics, predict
from kt.predictor.guard import Guard, guard_of
from kt.predictor.host import Host, make_host
from kt.predictor.keys import Ring
from kt.predictor.later import one, respond
from kt.predictor.openapi import OpenApi
from kt.predictor.tables import Tables


def create_app(root: str | Path, address: str = "") -> "http.Service":
    """The service of a workspace, which it follows from now on."""
    host = make_host(root, address)
    host.start()
    return routes(host)


def routes(host: Host, guard: Guard | None = None) -> "http.Service":
    guard = guard or guard_of(host)
    app = http.application(falcon.App(middleware=[guard]))
    resource = Predict(host)
    app.add_route("/predict", resource)
    app.add_route("/models/{name}/predict", resource)
    app.add_route("/health", Health(host, guard.ring))
    app.add_route("/ready", Ready(host, guard.ring))
    inference.add_routes(app, host)
    invocations.add_routes(app, host)
    tables = Tables(host.root, host.settings)
    feedback.add_routes(app, host, tables)
    metrics.add_routes(app, host, tables)
    docs.add_routes(app, OpenApi(host))
    faults.install(app)
    return app


class Predict:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.limit = host.settings.predictor.max_body

    def on_post(
        self, request: falcon.Request, response: falcon.Response, name: str | None = None
    ) -> None:
        fields = http.parse(http.body(request, self.limit))
        respond(self.host, request, response, one(predict.ask(self.host, fields, name)))


class Health(http.Readable):
    def __init__(self, host: Host, ring: Ring) -> None:
        self.host, self.ring = host, ring

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, health(self.host, self.ring))


class Ready(http.Readable):
    def __init__(self, host: Host, ring: Ring) -> None:
        self.host, self.ring = host, ring

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if not self.host.current.manifest.models:
            raise self.host.unserved()
        http.answer(response, {"ready": True} | summary(self.host, self.ring))


def summary(host: Host, ring: Ring) -> dict[str, Any]:
    ring.look()
    keys = "no key holds, and nobody is let in: see the log" if ring.broken else ""
    reason = "; ".join(filter(None, (host.state.reason, keys)))
    return {
        "status": "degraded" if reason else "ok",
        "reason": reason or None,
        "seq": host.current.manifest.seq,
    }


def health(host: Host, ring: Ring) -> dict[str, Any]:
    """What this process serves. fallbacks and recording: since it started, of this process alone;
    shadows: of this process and of those that ended before it."""
    manifest = host.current.manifest
    return summary(host, ring) | {
        "since": host.state.since,
        "head": manifest.head,
        "pid": os.getpid(),
        "models": {
            name: {
                "active": route.active.version,
                "previous": route.previous.version if route.previous else None,
                "experiment": route.experiment.model_dump(mode="json")
                if route.experiment
                else None,
            }
            for name, route in manifest.models.items()
        },
        "fallbacks": [
            {
                "model": model,
                "experiment": experiment,
                "version": version,
                "reason": reason,
                "count": count,
            }
            for (model, experiment, version, reason), count in sorted(host.fallbacks.items())
        ],
        "shadows": [report.summary() for report in host.reports],
        "recording": host.recording.card(),
    }
