"""GET / and GET /docs: where to go, and the OpenAPI document as a page.

The page is written here, whole, and has no script: a style sheet of its own is all that it loads, and
its policy lets it load nothing else.
"""

import json
from collections.abc import Iterator
from html import escape
from importlib import resources
from typing import Any

import falcon

from kt import __version__, http
from kt.predictor.openapi import REF, OpenApi

STYLE = "/docs/style.css"
POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
INDEX = {
    "name": "kt",
    "version": __version__,
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "predict": "/predict",
    "feedback": "/feedback",
    "metrics": "/metrics",
    "open_inference": "/v2",
    "mlflow": "/invocations",
}


def add_routes(app: "http.Service", openapi: OpenApi) -> None:
    app.add_route("/", Index())
    app.add_route("/openapi.json", openapi)
    app.add_route("/docs", Docs(openapi))
    app.add_route(STYLE, Style())


class Index(http.Readable):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, INDEX)


class Docs(http.Readable):
    def __init__(self, openapi: OpenApi) -> None:
        self.openapi = openapi

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.set_headers(POLICY)
        response.content_type = "text/html; charset=utf-8"
        response.text = page(self.openapi.document())


class Style(http.Readable):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.set_headers(POLICY)
        response.content_type = "text/css; charset=utf-8"
        response.data = resources.files("kt.predictor").joinpath("docs.css").read_bytes()


def page(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    about = document["info"]
    routes = [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post")
    ]
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{escape(about['title'])}</title><link rel=stylesheet href={STYLE}>",
            f"<header><h1>{escape(about['title'])} <small>{escape(about['version'])}</small></h1>",
            f"<p>{escape(about['description'])} <a href=/openapi.json>openapi.json</a></p></header>",
            "<main>",
            *(part for route in routes for part in section(*route)),
            "<h2 id=schemas>Schemas</h2>",
            *(
                f"<section id='{anchor(name)}'><h3>{escape(name)}</h3>{members(schema)}</section>"
                for name, schema in sorted(document["components"]["schemas"].items())
            ),
            "</main></html>",
        ]
    )


def section(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<section><h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
    yield f"<p>{escape(operation['summary'])}</p>"
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body, {escape(kind)}: {type_of(media['schema'])}</p>"
        for name, example in media.get("examples", {}).items():
            yield f"<details><summary>Example: {escape(name)}</summary>"
            yield f"<pre>{escape(curl(path, example['value']))}</pre></details>"
    yield "<table>"
    for status, response in operation["responses"].items():
        for media in response["content"].values():
            yield f"<tr><td>{status}<td>{type_of(media['schema'])}<td>{escape(response['description'])}"
    yield "</table></section>"


def curl(path: str, body: Any) -> str:
    """The request as a command. A quote in the body is written so that a shell reads it."""
    text = json.dumps(body, ensure_ascii=False, indent=1).replace("'", "'\\''")
    return f"curl $URL{path} -H 'Content-Type: application/json' -d '{text}'"


def members(schema: dict[str, Any]) -> str:
    """The properties of an object as a table; of anything else its type."""
    required = schema.get("required", ())
    rows = [
        f"<tr><td><code>{escape(name)}</code><td>{type_of(inner)}"
        f"<td>{'required' if name in required else ''}"
        for name, inner in schema.get("properties", {}).items()
    ]
    told = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    return told + (f"<table>{''.join(rows)}</table>" if rows else type_of(schema))


def type_of(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to those that have a name."""
    match schema:
        case {"$ref": str(target)}:
            name = target.removeprefix(REF)
            return f"<a href='#{anchor(name)}'>{escape(name)}</a>"
        case {"anyOf": list(parts)}:
            return " or ".join(map(type_of, parts))
        case {"const": value} | {"enum": [value]}:
            return f"<code>{escape(json.dumps(value))}</code>"
        case {"enum": list(values)}:
            return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
        case {"type": "array", "items": dict(inner)}:
            return f"list of {type_of(inner)}"
        case _:
            return escape(str(schema.get("type", "anything")))


def anchor(name: str) -> str:
    return escape(f"schema-{name}", quote=True)
