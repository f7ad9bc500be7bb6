"""One request from the shell: to a predictor over HTTP, or in this process by the same callable."""

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from kt import http as faces
from kt.errors import Corrupt, Invalid, KtError, Refused, Unavailable
from kt.predictor import presence
from kt.workspace import Workspace

TIMEOUT = 60.0  # seconds
LARGEST = 100_000_000  # bytes of an answer


def running(workspace: Workspace) -> str:
    """The address of a predictor that runs on this workspace, or nothing."""
    return next((one.address for one in presence.alive(workspace) if one.address), "")


def headers() -> dict[str, str]:
    """KT_KEY in the environment is the key: on the command line it would show in `ps`."""
    key = os.environ.get("KT_KEY", "")
    return {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )


def path_of(model: str) -> str:
    return f"/models/{quote(model, safe='')}/predict" if model else "/predict"


def over_http(address: str, model: str, body: bytes) -> dict[str, Any]:
    """The answer of the predictor at `address`. Raises KtError."""
    if not address.startswith(("http://", "https://")):
        raise Invalid(
            f"{address} is not the address of a predictor", do="it begins with http:// or https://"
        )
    request = urllib.request.Request(  # noqa: S310  # the scheme is checked above
        address.rstrip("/") + path_of(model), body, headers()
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310  # as above
            return result(response.status, response.read(LARGEST))
    except urllib.error.HTTPError as error:
        return result(error.code, error.read(LARGEST))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"{address} does not answer: {reason}", do="start one: kt serve"
        ) from None


def here(workspace: Workspace, model: str, body: bytes) -> dict[str, Any]:
    """The answer of this process. Raises KtError."""
    from kt.predictor.app import make_host, routes

    holder = make_host(workspace.root)
    holder.open()
    if holder.state.reason and not holder.current.manifest.models:
        raise Corrupt(holder.state.reason, do="kt verify")
    status, _, data = faces.call(routes(holder), faces.environ("POST", path_of(model), body))
    return result(status, data)


def result(status: int, data: bytes) -> dict[str, Any]:
    """The answer, or the error that the problem document tells of."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(
            f"the answer has status {status} and is no JSON",
            do="is this the address of a predictor?",
        )
    if status == 200:
        return answer
    kinds: dict[int, type[KtError]] = {409: Refused, 503: Unavailable, 500: Corrupt}
    kind = kinds.get(status, Invalid)
    raise kind(
        str(answer.get("detail", status)),
        where=str(answer.get("field", "")),
        do=str(answer.get("hint", "")),
    )
