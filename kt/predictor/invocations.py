"""MLflow's scoring format, so that what calls an MLflow model server can call kt.

POST /invocations   one of dataframe_split, dataframe_records, instances, inputs; params
GET  /ping          200 where something is served
GET  /version       of kt

    request  {"dataframe_records": [{"student_id": "s-17", "answers": [], "items": ["20"]}]}
    answer   {"predictions": [[{"item": "20", "probabilities": [0.3, 0.7], …}]],
              "served_by": [{"model": "tutor", "version": "v4", "prediction_id": "9f…", …}]}

A row (a record, an instance) is the body of one request where the form asks so, as knowledge tracing
does; of a program, which takes tensors, rows are stacked into those of one request. `inputs` are
tensors by name. Rows get rows back, tensors get tensors: of several outputs by name, of one as it is.
The unit of a row is its own field, else params["unit"]. JSON only: CSV and Parquet are refused.

The model is the one there is, or `model` in kt.toml.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt import __version__, http
from kt.errors import Invalid
from kt.predictor import predict, views
from kt.predictor.host import Host
from kt.predictor.later import Deferred, respond
from kt.predictor.predict import Answer, Asked
from kt.predictor.views import View

ROWS = 1_000  # of one body
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")

Rows = Annotated[list[Any], Field(min_length=1, max_length=ROWS)]


class Split(BaseModel):
    """A table as pandas splits it."""

    model_config = ConfigDict(extra="ignore")

    columns: list[str]
    data: Annotated[list[list[Any]], Field(min_length=1, max_length=ROWS)]


class Invocation(BaseModel):
    """Exactly one of the first four."""

    model_config = ConfigDict(extra="ignore")

    dataframe_split: Split | None = None
    dataframe_records: Annotated[
        list[dict[str, Any]] | None, Field(min_length=1, max_length=ROWS)
    ] = None
    instances: Rows | None = None
    inputs: dict[str, Any] | Rows | None = None
    params: dict[str, Any] | None = None


def add_routes(app: "http.Service", host: Host) -> None:
    app.add_route("/invocations", Invocations(host))
    app.add_route("/ping", Ping(host))
    app.add_route("/version", Version())


class Invocations:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.limit = host.settings.predictor.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        body = http.parse(http.body(request, self.limit))
        respond(self.host, request, response, ask(self.host, body))


class Ping(http.Readable):
    def __init__(self, host: Host) -> None:
        self.host = host

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if not self.host.current.manifest.models:
            raise self.host.unserved()
        plain(response, "\n")


class Version(http.Readable):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        plain(response, __version__)


def plain(response: falcon.Response, text: str) -> None:
    response.content_type, response.text = "text/plain; charset=utf-8", text


def ask(host: Host, body: Any) -> Deferred:
    """The rows of an invocation as predict knows them, to be answered in this format. Raises KtError."""
    given, key = parsed(body)
    found = views.view(host, None)
    params = given.params or {}
    unit = params.get("unit", params.get(found.form.UNIT))
    tensors, rows = split(given, key, found)
    if tensors is None:
        asked = list(asked_by(host, found, rows, unit, key))
        return Deferred(
            asked, lambda answers: told([answer["predictions"] for answer in answers], answers)
        )
    only = predict.ask(host, found.fields(tensors, unit), found.model)
    return Deferred([only], lambda answers: told(arrays(only, answers[0]), answers))


def told(predictions: Any, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "predictions": predictions,
        "served_by": [
            {name: value for name, value in answer.items() if name != "predictions"}
            for answer in answers
        ],
    }


def parsed(body: Any) -> tuple[Invocation, str]:
    """The body, and which of the four it is. Raises Invalid."""
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", do=f"with one of {', '.join(FORMATS)}")
    found = [key for key in FORMATS if key in body]
    if len(found) != 1:
        raise Invalid(
            f"the body must have exactly one of {', '.join(FORMATS)}", do="leave the others out"
        )
    try:
        given = Invocation.model_validate(body)
    except ValidationError as error:
        raise http.first_problem(error) from None
    if getattr(given, found[0]) is None:
        raise Invalid("must not be null", where=found[0], do="give it rows, or tensors by name")
    return given, found[0]


def split(given: Invocation, key: str, found: View) -> tuple[dict[str, Any] | None, list[Any]]:
    """The tensors of one request, or rows that are each a request."""
    value = getattr(given, key)
    if isinstance(value, dict):
        return value, []
    rows = records(value) if isinstance(value, Split) else value
    if not found.form.STACKS:
        return None, rows
    if key == "inputs":
        return {only(found): rows}, []
    return stacked(rows, found), []


def records(table: Split) -> list[Any]:
    if len(set(table.columns)) < len(table.columns):
        raise Invalid(
            "a column is named twice", where="dataframe_split.columns", do="give each column once"
        )
    for place, row in enumerate(table.data):
        if len(row) != len(table.columns):
            raise Invalid(
                f"has {len(row)} values for {len(table.columns)} columns",
                where=f"dataframe_split.data.{place}",
                do="give each row a value for each column",
            )
    return [dict(zip(table.columns, row, strict=True)) for row in table.data]


def stacked(rows: list[Any], found: View) -> dict[str, Any]:
    """Rows as tensors: a row by name is an element of each, any other an element of the one there is."""
    if not isinstance(rows[0], dict):
        return {only(found): rows}
    names = list(rows[0])
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise Invalid(
                "must have the names that the first row has",
                where=str(place),
                do="give each row the same names",
            )
    return {name: [row[name] for row in rows] for name in names}


def only(found: View) -> str:
    """The input of a program that has one. Raises Invalid."""
    names = [port.name for port in found.ports[0]]
    if len(names) != 1:
        raise Invalid(
            f"{found.model} takes several inputs, by name: {', '.join(names)}",
            do="send rows that are objects, or inputs by name",
        )
    return names[0]


def asked_by(host: Host, found: View, rows: list[Any], unit: Any, key: str) -> Iterable[Asked]:
    for place, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise Invalid(
                    "must be a JSON object", do="send each row as an object of its fields"
                )
            yield predict.ask(host, found.of_unit(row, unit), found.model)
        except Invalid as error:
            where = f"{key}.{place}.{error.where}" if error.where else f"{key}.{place}"
            raise type(error)(error.what, where=where, do=error.do) from error


def arrays(asked: Asked, answer: Answer) -> Any:
    found = {name: array.tolist() for name, array in views.tensors(asked, answer).items()}
    return next(iter(found.values())) if len(found) == 1 else found
