"""An error in the words of the protocol that was spoken: elsewhere, a problem document.

/v2           {"error": "inputs.x: must hold float32"}
/invocations  {"error_code": "BAD_REQUEST", "message": "inputs.x: must hold float32"}
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from kt import http

if TYPE_CHECKING:
    import falcon

    Handler = Callable[[falcon.Request, falcon.Response, Any, Any], None]

Document = dict[str, Any]

CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "INVALID_STATE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def shaped(path: str, document: Document) -> tuple[str, Document]:
    """The media type and the document of an error, given as a problem document."""
    first = path.split("/", 2)[1:2]
    if first == ["v2"]:
        return "application/json", {"error": sentence(document)}
    if first == ["invocations"]:
        code = CODES.get(document["status"], "BAD_REQUEST")
        return "application/json", {"error_code": code, "message": sentence(document)}
    return http.PROBLEM, document


def sentence(document: Document) -> str:
    where, hint = document.get("field"), document.get("hint")
    return f"{where + ': ' if where else ''}{document['detail']}{f' ({hint})' if hint else ''}"


def install(app: "http.Service") -> None:
    """Let the app's errors be told so."""
    import falcon

    app.add_error_handler(Exception, telling(http.known))
    app.add_error_handler(falcon.HTTPError, telling(http.refused))


def telling(handler: "Handler") -> "Handler":
    def tell(
        request: "falcon.Request", response: "falcon.Response", error: Any, params: Any
    ) -> None:
        handler(request, response, error, params)
        assert response.data is not None
        response.content_type, document = shaped(request.path, orjson.loads(response.data))
        response.data = orjson.dumps(document)

    return tell
