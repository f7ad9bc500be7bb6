"""One request from the shell: to a predictor over HTTP, or in this process by the same callable."""

import os
from typing import Any

from kt import client, http
from kt.errors import Corrupt
from kt.predictor import presence
from kt.workspace import Workspace

TIMEOUT = 60.0  # seconds


def running(workspace: Workspace) -> str:
    """The address of a predictor that runs on this workspace, or nothing."""
    return next((one.address for one in presence.alive(workspace) if one.address), "")


def over_http(address: str, model: str, body: bytes) -> dict[str, Any]:
    """The answer of the predictor at `address`. Raises KtError.

    KT_KEY in the environment is the key: on the command line it would show in `ps`.
    """
    with client.Client(address, os.environ.get("KT_KEY"), timeout=TIMEOUT) as there:
        return there.post(client.predict_path(model), body)


def here(workspace: Workspace, model: str, body: bytes) -> dict[str, Any]:
    """The answer of this process. Raises KtError."""
    from kt.predictor.app import routes
    from kt.predictor.host import make_host

    holder = make_host(workspace.root)
    holder.open()
    if holder.state.reason and not holder.current.manifest.models:
        raise Corrupt(holder.state.reason, do="kt verify")
    path = client.predict_path(model)
    status, _, data = http.call(routes(holder), http.environ("POST", path, body))
    return client.result(status, data)
