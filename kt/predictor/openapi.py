"""GET /openapi.json: every route, with the bodies that the models which serve now take.

Made of the pydantic models that read the bodies, anew where the manifest has changed. What answers
look like stands here, since nothing else reads them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import falcon
import numpy as np
import orjson
from pydantic import BaseModel

from kt import __version__, http
from kt.deployments.manifest import Manifest
from kt.predictor.engine import Engine
from kt.predictor.feedback import MOST
from kt.predictor.host import Host
from kt.predictor.inference import NAMES, Inference
from kt.predictor.invocations import Invocation
from kt.predictor.loaded import Loaded
from kt.store import outcomes

Schema = dict[str, Any]
LONGEST = 4_000  # characters of an example: an image is none
REF = "#/components/schemas/"

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
OBJECT: Schema = {"type": "object"}


def record(required: Schema, **optional: Schema) -> Schema:
    """An object with these members, and perhaps more."""
    return {"type": "object", "properties": required | optional, "required": list(required)}


def some(schema: Schema) -> Schema:
    """Or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def ref(name: str) -> Schema:
    return {"$ref": REF + name}


OUTCOME: Schema = {"type": ["number", "boolean"]}
SERVED = {
    "model": TEXT,
    "version": TEXT,
    "variant": some({"enum": ["control", "treatment"]}),
    "experiment": some(TEXT),
    "prediction_id": TEXT,
}
SUMMARY = {"status": {"enum": ["ok", "degraded"]}, "reason": some(TEXT), "seq": NUMBER}
TENSOR = {
    "name": TEXT,
    "datatype": {"enum": list(NAMES.values())},
    "shape": many(NUMBER),
}
INVOCATION_ERRORS = {"error_code": TEXT, "message": TEXT}

ANSWERS: dict[str, Schema] = {
    "Problem": record(
        {"type": TEXT, "title": TEXT, "status": NUMBER, "detail": TEXT},
        field=TEXT,
        hint=TEXT,
        id=TEXT,
    ),
    "Answer": record(
        SERVED | {"predictions": many(OBJECT)},
        assigned={"const": "random"},
        fallback={"type": "boolean"},
        reason=TEXT,
        state=TEXT,
    ),
    "Feedback": record(
        {"prediction_id": TEXT, "outcome": {"anyOf": [OUTCOME, many(some(OUTCOME))]}},
        place={"type": "integer", "minimum": 0},
    )
    | {"additionalProperties": False},
    "Counted": record(dict.fromkeys(outcomes.NAMES, NUMBER)),
    "Health": record(SUMMARY | {"since": TEXT, "head": TEXT, "pid": NUMBER, "models": OBJECT, "fallbacks": many(OBJECT), "shadows": many(OBJECT)}),
    "Ready": record({"ready": {"const": True}} | SUMMARY),
    "Index": record({"name": TEXT, "version": TEXT}),
    "Server": record({"name": TEXT, "version": TEXT, "extensions": many(TEXT)}),
    "Live": record({"live": {"const": True}}),
    "ServerReady": record({"ready": {"const": True}}),
    "Model": record({"name": TEXT, "versions": many(TEXT), "platform": TEXT, "inputs": many(record(TENSOR)), "outputs": many(record(TENSOR))}),
    "ModelReady": record({"name": TEXT, "ready": {"const": True}}),
    "InferenceAnswer": record(
        {"model_name": TEXT, "model_version": TEXT, "parameters": OBJECT, "outputs": many(record(TENSOR | {"data": many({})}))},
        id=TEXT,
    ),
    "InferenceError": record({"error": TEXT}),
    "InvocationAnswer": record({"predictions": {}, "served_by": many(record(SERVED))}),
    "InvocationError": record(INVOCATION_ERRORS),
}  # fmt: skip

TITLES = {
    400: "The body is no JSON, or is nested too deep",
    401: "A key is needed, and none that holds was sent",
    403: "The key has another role",
    404: "There is nothing of this name",
    408: "The body did not arrive in time",
    409: "The present state does not allow it",
    413: "The body is too large",
    415: "The body must be JSON",
    421: "The predictor does not go by this name",
    422: "A field is wrong, and named",
    429: "Too many requests",
    500: "A bug, or a model that failed: the log has more",
    503: "Nothing is served yet, or too much waits",
}
ALWAYS = (421, 500, 503)  # may be answered to any request
GUARDED = (401, 403, 429)  # besides, where keys are asked for and rates are limited
POSTED = (400, 404, 408, 409, 413, 415, 422)  # may be answered to a body besides

PROBLEM = (http.PROBLEM, "Problem")
ERROR = ("application/json", "InferenceError")
SCORED = ("application/json", "InvocationError")

KEYED: list[Schema] = [{}, {"key": []}]  # a key where keys are asked for


class OpenApi(http.Readable):
    """The document of a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._of: Manifest | None = None
        self._document: Schema = {}

    def document(self) -> Schema:
        loaded = self.host.current
        if loaded.manifest is not self._of:
            self._document = document(loaded)
            self._of = loaded.manifest
        return self._document

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, self.document())


def document(loaded: Loaded) -> Schema:
    schemas = dict(ANSWERS)
    add(schemas, "Inference", Inference)
    add(schemas, "Invocation", Invocation)
    schemas["Invocation"]["oneOf"] = [
        {"required": [key]}
        for key in ("dataframe_split", "dataframe_records", "instances", "inputs")
    ]
    bodies: dict[str, Any] = {}
    for model, route in loaded.manifest.models.items():
        engine = loaded.of(model, route.active).engine
        bodies[model] = example(engine)
        add(schemas, f"{model}.Request", engine.form.Request)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kt predictor",
            "version": __version__,
            "description": "Answers requests by the version that the manifest names for them.",
        },
        "paths": dict(paths(bodies)),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def add(schemas: dict[str, Schema], name: str, model: type[BaseModel]) -> None:
    """A pydantic model's schema, and those that it refers to, under its name."""
    found = model.model_json_schema(ref_template=f"{REF}{name}.{{model}}")
    for inner, schema in found.pop("$defs", {}).items():
        schemas[f"{name}.{inner}"] = schema
    schemas[name] = found


def example(engine: Engine) -> Any:
    """A request that the model takes; None where it is too long to be shown."""
    (found,) = engine.form.example(engine.signature, np.random.default_rng(0), 1)
    body = found.model_dump(mode="json")
    return body if len(orjson.dumps(body)) <= LONGEST else None


def paths(bodies: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    yield "/", {"get": got("Where to go from here", "Index")}
    yield "/health", {"get": got("What is served; always 200", "Health", open_=True)}
    yield "/ready", {"get": got("Whether anything is served", "Ready", open_=True)}
    yield "/predict", {"post": predict(bodies, named=False)}
    for model, body in bodies.items():
        yield f"/models/{model}/predict", {"post": predict({model: body}, named=True)}
    yield "/feedback", {"post": feedback()}
    yield "/metrics", {"get": text("Numbers for Prometheus")}
    yield "/v2", {"get": got("This server", "Server", ERROR)}
    yield "/v2/health/live", {"get": got("Whether it runs", "Live", ERROR, open_=True)}
    yield "/v2/health/ready", {"get": got("Whether anything is served", "ServerReady", ERROR, open_=True)}  # fmt: skip
    for path, parts in (
        ("/v2/models/{name}", ("name",)),
        ("/v2/models/{name}/versions/{version}", ("name", "version")),
    ):
        about = {"parameters": [parameter(part) for part in parts]}
        yield path, about | {"get": got("A model's tensors", "Model", ERROR, (404, 422))}
        yield f"{path}/ready", about | {"get": got("Whether it serves", "ModelReady", ERROR, (404, 422))}  # fmt: skip
        yield f"{path}/infer", about | {"post": infer()}
    yield "/invocations", {"post": invocations(bodies)}
    yield (
        "/ping",
        {"get": text("Whether anything is served, as MLflow's server tells it", open_=True)},
    )
    yield "/version", {"get": text("kt's version, as MLflow's server tells its own")}
    yield "/openapi.json", {"get": got("This document", "")}
    yield "/docs", {"get": text("This document as a page", "text/html")}
    yield "/docs/style.css", {"get": text("How the page looks", "text/css")}


def parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def got(
    summary: str,
    schema: str,
    errors: tuple[str, str] = PROBLEM,
    statuses: tuple[int, ...] = (),
    *,
    open_: bool = False,
) -> Schema:
    return operation(
        summary, content(ref(schema) if schema else OBJECT), errors, statuses, open_=open_
    )


def text(summary: str, kind: str = "text/plain", *, open_: bool = False) -> Schema:
    return operation(summary, {kind: {"schema": TEXT}}, PROBLEM, (), open_=open_)


def predict(bodies: Mapping[str, Any], *, named: bool) -> Schema:
    """named: the path names the model, else the body may."""
    takes = [ref(f"{model}.Request") for model in bodies]
    if not named:
        takes = [{"type": "object", "properties": {"model": TEXT}}]
    return posted(
        "A prediction" if not named else f"A prediction of {next(iter(bodies))}",
        takes[0] if len(takes) == 1 else {"anyOf": takes},
        bodies,
        "Answer",
        PROBLEM,
    )


def feedback() -> Schema:
    one = {"prediction_id": "AQE…", "outcome": 1}
    listed = many(ref("Feedback")) | {"minItems": 1, "maxItems": MOST}
    return posted(
        "What came of predictions: outcomes, which are counted once",
        {"anyOf": [ref("Feedback"), listed]},
        {"one": one, "many": [one, {"prediction_id": "AQE…", "outcome": [1, None, 0]}]},
        "Counted",
        PROBLEM,
    )


def infer() -> Schema:
    body = {
        "parameters": {"unit": "s-17"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.5]}],
    }
    return posted("A prediction, in tensors", ref("Inference"), {"tensors": body}, "InferenceAnswer", ERROR)  # fmt: skip


def invocations(bodies: Mapping[str, Any]) -> Schema:
    examples = {
        model: body if set(body) >= {"inputs"} else {"dataframe_records": [body]}
        for model, body in bodies.items()
        if body is not None
    }
    return posted("Predictions, in MLflow's format", ref("Invocation"), examples, "InvocationAnswer", SCORED)  # fmt: skip


def posted(
    summary: str, body: Schema, examples: Mapping[str, Any], schema: str, errors: tuple[str, str]
) -> Schema:
    shown = {name: {"value": value} for name, value in examples.items() if value is not None}
    media: Schema = {"schema": body} | ({"examples": shown} if shown else {})
    return operation(summary, content(ref(schema)), errors, POSTED) | {
        "requestBody": {"required": True, "content": {"application/json": media}}
    }


def operation(
    summary: str,
    answer: Schema,
    errors: tuple[str, str],
    statuses: tuple[int, ...],
    *,
    open_: bool = False,
) -> Schema:
    kind, schema = errors
    failures = {
        str(status): {"description": TITLES[status], "content": {kind: {"schema": ref(schema)}}}
        for status in sorted({*ALWAYS, *(() if open_ else GUARDED), *statuses})
    }
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": answer}} | failures,
        "security": [] if open_ else KEYED,
    }


def content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
