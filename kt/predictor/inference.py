"""The Open Inference Protocol, version 2, as KServe and Triton speak it: tensors by name, over JSON.

GET  /v2                              what this server is
GET  /v2/health/live, /v2/health/ready
GET  /v2/models/NAME[/versions/V]     its tensors
GET  /v2/models/NAME[/versions/V]/ready
POST /v2/models/NAME[/versions/V]/infer

    request  {"parameters": {"student_id": "s-17"},
              "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.2]}]}
    answer   {"model_name": "tutor", "model_version": "v4", "parameters": {"prediction_id": "9f…"},
              "outputs": [{"name": "output", "datatype": "FP32", "shape": [1, 1], "data": [0.7]}]}

The unit is the parameter "unit", or the one that the form calls its unit by, or else the request's id.
Data may be flat, in row-major order, or nested; binary tensors and compressed bodies are refused.
V is a version that serves. While an experiment runs, the experiment decides who answers: infer is
then refused where the path names a version.
"""

import math
from typing import Annotated, Any

import falcon
import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from kt import __version__, http
from kt.errors import Invalid, Refused
from kt.models.family import Port
from kt.models.tensors import flat
from kt.predictor import predict, views
from kt.predictor.host import Host
from kt.predictor.later import Deferred, respond
from kt.predictor.predict import Answer, Asked
from kt.predictor.views import View

MOST = 1_000_000  # elements of a tensor

# The protocol's name of a type -> numpy's, and what its elements are in JSON.
TYPES: dict[str, tuple[str, set[type]]] = {
    "BOOL": ("bool", {bool}),
    "INT8": ("int8", {int}), "INT16": ("int16", {int}), "INT32": ("int32", {int}), "INT64": ("int64", {int}),
    "UINT8": ("uint8", {int}), "UINT16": ("uint16", {int}), "UINT32": ("uint32", {int}), "UINT64": ("uint64", {int}),
    "FP16": ("float16", {float, int}), "FP32": ("float32", {float, int}), "FP64": ("float64", {float, int}),
    "BYTES": ("text", {str}),
}  # fmt: skip
PLATFORMS = {"torch": "pytorch", "onnx": "onnxruntime"}
NAMES = {dtype: name for name, (dtype, _) in TYPES.items()}

Parameters = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]


class Loose(BaseModel):
    """Members that are not known are left alone: servers have extensions, and clients use them."""

    model_config = ConfigDict(extra="ignore")


class Tensor(Loose):
    name: str
    datatype: str
    shape: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(max_length=16)]
    data: list[Any]
    parameters: Parameters = {}


class Output(Loose):
    """An output that is asked for."""

    name: str
    parameters: Parameters = {}


class Inference(Loose):
    """The body of infer."""

    id: str | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=256)]
    outputs: Annotated[list[Output], Field(max_length=256)] = []


def add_routes(app: "http.Service", host: Host) -> None:
    app.add_route("/v2", Server())
    app.add_route("/v2/health/live", Live())
    app.add_route("/v2/health/ready", Ready(host))
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_route(path, Model(host))
        app.add_route(f"{path}/ready", ModelReady(host))
        app.add_route(f"{path}/infer", Infer(host))


class Server(http.Readable):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, {"name": "kt", "version": __version__, "extensions": []})


class Live(http.Readable):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, {"live": True})


class Ready(http.Readable):
    def __init__(self, host: Host) -> None:
        self.host = host

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if not self.host.current.manifest.models:
            raise self.host.unserved()
        http.answer(response, {"ready": True})


class Model(http.Readable):
    def __init__(self, host: Host) -> None:
        self.host = host

    def on_get(
        self, request: falcon.Request, response: falcon.Response, name: str, version: str = ""
    ) -> None:
        http.answer(response, metadata(serving(self.host, name, version)))


class ModelReady(http.Readable):
    def __init__(self, host: Host) -> None:
        self.host = host

    def on_get(
        self, request: falcon.Request, response: falcon.Response, name: str, version: str = ""
    ) -> None:
        found = serving(self.host, name, version)
        http.answer(response, {"name": found.model, "ready": True})


class Infer:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.limit = host.settings.predictor.max_body

    def on_post(
        self, request: falcon.Request, response: falcon.Response, name: str, version: str = ""
    ) -> None:
        check_plain(request)
        # tritonclient does not say what it sends
        data = http.body(request, self.limit, unsaid="application/json")
        respond(self.host, request, response, ask(self.host, http.parse(data), name, version))


def check_plain(request: falcon.Request) -> None:
    """Raises NotJson for the extensions of the protocol that kt does not speak."""
    if request.get_header("Inference-Header-Content-Length"):
        raise http.NotJson(
            "tensors are read as JSON, not as binary data", do="tritonclient: binary_data=False"
        )
    if (request.get_header("Content-Encoding") or "identity").lower() != "identity":
        raise http.NotJson(
            "the body must not be compressed", do="send it as it is, without Content-Encoding"
        )


def serving(host: Host, name: str, version: str) -> View:
    """The model of this name. Raises http.Unknown, also for a version that does not serve."""
    found = views.view(host, name)
    names = found.route.answering
    if version and version not in names:
        raise http.Unknown(
            f"{found.model} does not serve {version[:64]}", do=f"it serves {', '.join(names)}"
        )
    return found


def metadata(found: View) -> dict[str, Any]:
    takes, gives = found.ports
    return {
        "name": found.model,
        "versions": found.route.answering,
        "platform": PLATFORMS[found.engine.runtime],
        "inputs": [described(port) for port in takes],
        "outputs": [described(port) for port in gives],
    }


def described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": NAMES[port.dtype], "shape": list(port.shape)}


def ask(host: Host, body: Any, name: str, version: str = "") -> Deferred:
    """The request as predict knows it, to be answered in this protocol. Raises KtError."""
    found = serving(host, name, version)
    trial = found.route.split
    if version and trial:
        raise Refused(
            f"experiment {trial.name} decides which version answers",
            do="leave the version out of the path",
        )
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", do=http.DOCS)
    try:
        given = Inference.model_validate(body)
    except ValidationError as error:
        raise http.first_problem(error) from None
    tensors = nested(given, found)
    asked = predict.ask(host, found.fields(tensors, unit(given, found)), found.model)
    wanted = [output.name for output in given.outputs]
    return Deferred([asked], lambda answers: told(asked, answers[0], given.id, wanted))


def unit(given: Inference, found: View) -> str | None:
    for name in ("unit", found.form.UNIT):
        if name in given.parameters:
            return str(given.parameters[name])
    return given.id or None


def nested(given: Inference, found: View) -> dict[str, Any]:
    """The tensors as nested lists, of the types that the model takes. Raises Invalid."""
    takes = {port.name: port for port in found.ports[0]}
    tensors: dict[str, Any] = {}
    for tensor in given.inputs:
        where = f"inputs.{tensor.name[:64]}"
        if tensor.name in tensors:
            raise Invalid("is given twice", where=where, do="give each input once")
        port = takes.get(tensor.name)
        if port is None:
            raise Invalid(
                "there is no such input", where=where, do=f"there are: {', '.join(takes)}"
            )
        if tensor.datatype != NAMES[port.dtype]:
            raise Invalid(
                f"is {tensor.datatype[:64]}, this model takes {NAMES[port.dtype]}",
                where=where,
                do="send it as that datatype",
            )
        try:
            tensors[tensor.name] = shape(tensor.data, tensor.shape, TYPES[tensor.datatype][1])
        except ValueError as error:
            raise Invalid(
                str(error), where=where, do=f"GET /v2/models/{found.model} tells its tensors"
            ) from None
    return tensors


def shape(data: list[Any], shape: list[int], kinds: set[type]) -> list[Any]:
    """Flat or nested data as a list nested as its shape says. Raises ValueError."""
    leaves, _, found = flat(data)
    # a tensor without elements can still be long
    if math.prod(max(length, 1) for length in shape) > MOST:
        raise ValueError(f"has more than {MOST} elements")
    if len(leaves) != math.prod(shape) or (len(found) > 1 and found != shape):
        raise ValueError(f"has {len(leaves)} elements in its data, and the shape {shape}")
    if not kinds.issuperset(map(type, leaves)):
        raise ValueError("holds what is not of its datatype")
    if not leaves:
        empty: list[Any] = np.empty(shape).tolist()
        return empty
    for length in reversed(shape[1:]):
        leaves = [leaves[at : at + length] for at in range(0, len(leaves), length)]
    return leaves if shape else leaves[0]


def told(asked: Asked, answer: Answer, identity: str | None, wanted: list[str]) -> dict[str, Any]:
    """The answer, with the outputs that were asked for, or all. Raises Invalid for one that there is not."""
    found = views.tensors(asked, answer)
    for name in wanted:
        if name not in found:
            raise Invalid(
                f"there is no output {name[:64]}",
                where="outputs",
                do=f"there are: {', '.join(found)}",
            )
    said = {
        "model_name": answer["model"],
        "model_version": answer["version"],
        "parameters": {
            name: value
            for name, value in answer.items()
            if name not in ("model", "version", "predictions") and value is not None
        },
        "outputs": [output(name, found[name]) for name in wanted or found],
    }
    return said if identity is None else {"id": identity} | said


def output(name: str, array: np.ndarray) -> dict[str, Any]:
    dtype = "text" if array.dtype.kind == "O" else str(array.dtype)
    return {
        "name": name,
        "datatype": NAMES[dtype],
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }
