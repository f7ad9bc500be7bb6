"""What kt's HTTP faces share on Falcon: JSON in and out, body limits, and errors as problem documents.

A problem document (RFC 9457) is an object with type, title, status and detail; `field` names the
first bad field of the body, `hint` the way out, `id` the line in the log that has the rest.

    {"type": "about:blank", "title": "Unprocessable Entity", "status": 422,
     "detail": "response is 7, this model knows 0 to 1", "field": "answers.3.response"}

A JSON text that two readers could read differently is refused: duplicate keys, NaN, a number that
overflows, a lone surrogate.

Falcon is imported in functions: a worker answers predictions before it needs it (front.py).
"""

import io
import logging
import math
import secrets
import time
import traceback
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

import jiter
import orjson
from pydantic import ValidationError

from kt.errors import Invalid, KtError

if TYPE_CHECKING:
    import falcon

    Service = falcon.App[falcon.Request, falcon.Response]

log = logging.getLogger("kt")

DEPTH = 32  # of nested arrays and objects
MOST = 10**400  # an integer is smaller, without its sign
LONGEST = 400  # characters of a sentence in a problem document
PROBLEM = "application/problem+json"
RETRY_AFTER = "1"  # seconds


class Unparsable(Invalid):
    """The body is no JSON that kt reads."""

    status = 400


class Unknown(Invalid):
    """There is nothing of this name."""

    status = 404


class TooLarge(Invalid):
    status = 413


class NotJson(Invalid):
    status = 415


DOCS = "what a body holds is told at /docs"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


@lru_cache(64)
def known_as(host: str, names: tuple[str, ...]) -> bool:
    """Whether a Host header is one of these names, any where there are none. Nobody need send one."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return not names or not name or name.lower() in names


def check_host(request: "falcon.Request", names: tuple[str, ...], do: str = "") -> None:
    """A page of somebody else's, whose name was made to point here, does not know our name.

    names: what this service goes by; without any, by every name. do: where to change that. Raises 421.
    """
    if not known_as(request.env.get("HTTP_HOST", ""), names):
        import falcon

        raise falcon.HTTPError(
            falcon.HTTP_421,
            title="Misdirected request",
            description=f"this service does not go by that name{do and ': '}{do}",
        )


def body(request: "falcon.Request", limit: int, unsaid: str = "") -> bytes:
    """The whole body. Raises NotJson where it is not said to be JSON, TooLarge beyond `limit` bytes.

    unsaid: the type of a body that says none. A page of another site can send one, so only for clients
    that do not say it; a browser tells that it is one by an Origin.

    Without a Content-Length a body is read only where the server ends it itself (chunks).
    """
    unsaid = "" if request.get_header("Origin") else unsaid
    kind = (request.content_type or unsaid).partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotJson("the body must be JSON", do="send it with Content-Type: application/json")
    length = request.content_length
    if length is None:
        length = limit + 1 if request.env.get("wsgi.input_terminated") else 0
    elif length > limit:
        raise too_large(limit)
    data = read(request.env["wsgi.input"], min(length, limit + 1))
    if len(data) > limit:
        raise too_large(limit)
    if request.content_length is not None and len(data) < length:
        raise Unparsable(
            f"the body ended after {len(data)} of {length} bytes",
            do="send it again, whole, or with its true Content-Length",
        )
    return data


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit} bytes",
        do="send less at once; the limit is predictor.max_body",
    )


def read(stream: Any, size: int) -> bytes:
    """`size` bytes, or as many as there are: a read may return fewer than asked for."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parse(data: bytes) -> Any:
    """A JSON text as values. Raises Unparsable."""
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise Unparsable(
            f"the body is not JSON: {error}", do="send one JSON value (RFC 8259), each name once"
        ) from None
    if not harmless(data):
        check(value)
    return value


def harmless(data: bytes) -> bool:
    """Whether the bytes of a JSON text show that it passes `check`, at a tenth of the cost: few brackets but
    where one closes as the next opens, which nests nothing; no exponent but negative ones, no digits in a row
    that overflow (of 300 every eighth are 37)."""
    if nested(data) > DEPTH:
        return False
    if data[::8].translate(DIGITS).find(ENDLESS) >= 0:
        return False
    if LOWER not in data and UPPER not in data:
        return True
    digits = data.translate(DIGITS)
    return digits.count(b"0e") == digits.count(b"0e-")


DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
ENDLESS = b"0" * 37
LOWER, UPPER = b"eE"  # as numbers: bytes are first asked whether they are one, and raise inside


def nested(data: bytes) -> int:
    """At most so deep: as many brackets as open, but for those that open next to one that closes. To look how much
    shorter it is without a character costs half of counting that."""
    opened = 2 * len(data) - len(data.replace(b"[", b"")) - len(data.replace(b"{", b""))
    if opened <= DEPTH:
        return opened
    close = data.replace(b" ", b"")
    return opened - close.count(b"},{") - close.count(b"],[")


def check(value: Any) -> None:
    """Raises Unparsable for what is nested too deep and for numbers that are too long.

    Level by level, and each kind by itself: a body is mostly numbers, and a loop over them costs more
    than reading them did.
    """
    level = [value]
    for _ in range(DEPTH + 1):
        kinds = set(map(type, level))
        if (float in kinds and not finite(of(float, level, kinds))) or (
            int in kinds and max(map(abs, of(int, level, kinds))) >= MOST
        ):
            raise Unparsable("a number is too large", do="send numbers that fit a float64")
        below: list[Any] = []
        for kind, values in ((list, list), (dict, dict.values)):
            if kind in kinds:
                below += chain.from_iterable(map(values, of(kind, level, kinds)))
        if not below:
            return
        level = below
    raise Unparsable(f"the body is nested deeper than {DEPTH}", do="nest less")


def finite(values: list[float]) -> bool:
    """A sum that is finite says so of all, at a third of the cost of asking each."""
    return math.isfinite(sum(values)) or all(map(math.isfinite, values))


def of(kind: type, values: list[Any], kinds: set[type]) -> list[Any]:
    """The values that are of a kind. kinds: those of all of them."""
    return values if len(kinds) == 1 else [value for value in values if type(value) is kind]


def first_problem(error: ValidationError) -> Invalid:
    """The first bad field of a body, by its path."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return Invalid("there is no such field", where=field, do=DOCS)
    return Invalid(f"{first['msg'][:1].lower()}{first['msg'][1:]}", where=field, do=DOCS)


def answer(response: "falcon.Response", value: Any, status: int = 200) -> None:
    response.status = status
    response.content_type = "application/json"
    response.data = orjson.dumps(value)


def problem(status: int, detail: str, **more: str) -> dict[str, Any]:
    """A problem document, under 2 kB. A member of `more` that is empty is left out."""
    told = {name: cut(text) for name, text in more.items() if text}
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": cut(detail),
    } | told


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def application(app: "Service") -> "Service":
    """`app`, answering every error as a problem document."""
    import falcon

    app.add_middleware(NoEmptyPart())
    app.add_error_handler(Exception, known)
    app.add_error_handler(falcon.HTTPError, refused)
    app.req_options.strip_url_path_trailing_slash = True
    return app


class NoEmptyPart:
    """Falcon would take the empty part of a path for a name: /v2/models/m/versions//infer names no version."""

    def process_request(self, request: "falcon.Request", response: "falcon.Response") -> None:
        if "//" in request.env["PATH_INFO"]:
            raise Unknown(
                f"there is nothing at {request.path}", do="no part of a path may be empty"
            )


class Readable:
    """A resource that is read: HEAD is answered as GET is, and Falcon leaves out the body."""

    on_get: Callable[..., None]

    def on_head(self, request: "falcon.Request", response: "falcon.Response", **named: str) -> None:
        self.on_get(request, response, **named)


def known(
    request: "falcon.Request", response: "falcon.Response", error: Exception, params: Any
) -> None:
    write(response, document(error, f"{request.method} {request.path}"))


def document(error: Exception, doing: str) -> dict[str, Any]:
    """An error as a problem document. A bug, or a model that fails: 500 with an id, and one entry
    in the log under that id."""
    if isinstance(error, KtError) and (error.status < 500 or error.status == 503):
        return problem(error.status, error.what, field=error.where, hint=error.do)
    return failure(error, doing)


def refused(
    request: "falcon.Request", response: "falcon.Response", error: "falcon.HTTPError", params: Any
) -> None:
    """What Falcon itself refuses: no such path, no such method, a header that is none."""
    details = {
        404: f"there is nothing at {request.path}",
        405: f"{request.method} is not for {request.path}",
    }
    write(
        response,
        problem(
            error.status_code,
            error.description or details.get(error.status_code, error.title or ""),
        ),
    )
    if error.headers:
        response.set_headers(error.headers)


def failure(error: BaseException, doing: str) -> dict[str, Any]:
    """The problem document of an unexpected error, whose trace goes to the log."""
    name = secrets.token_hex(8)
    if admit():
        # The message is left out: it may quote a request, and a request names a student.
        frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        log.error("%s: %s in %s\n%s", name, type(error).__name__, doing, frames)
    return problem(
        500, "the request could not be answered", id=name, hint=f"the log has more under {name}"
    )


MOST_ENTRIES = 20  # of unexpected errors in the log, each minute
entries: list[float] = []


def admit() -> bool:
    """Whether one more entry fits into this minute: a hundred thousand bad requests must not fill a disk."""
    now = time.monotonic()
    entries[:] = [at for at in entries if now - at < 60]
    if len(entries) >= MOST_ENTRIES:
        return False
    entries.append(now)
    return True


def write(response: "falcon.Response", document: dict[str, Any]) -> None:
    answer(response, document, document["status"])
    response.content_type = PROBLEM
    if document["status"] == 503:
        response.set_header("Retry-After", RETRY_AFTER)


App = Callable[[dict[str, Any], Any], Iterable[bytes]]
Answer = tuple[int, list[tuple[str, str]], bytes]


def call(app: App, environ: dict[str, Any]) -> Answer:
    """Status, headers and body that a WSGI callable answers with."""
    said: list[Any] = []
    parts = app(environ, lambda status, headers, _=None: said.extend((status, headers)))
    try:
        data = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return int(said[0][:3]), said[1], data


def environ(method: str, path: str, data: bytes, kind: str = "application/json") -> dict[str, Any]:
    """The WSGI environment of a request whose body is at hand."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(data)),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(data),
        "wsgi.errors": ERRORS,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


ERRORS = io.StringIO()  # nothing of ours writes to wsgi.errors
