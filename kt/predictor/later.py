"""A request is answered now, or later with those that came with it."""

from typing import Any

import falcon

from kt import http
from kt.predictor import predict
from kt.predictor.host import Host
from kt.predictor.predict import Asked

# A server that can answer several requests at once gives each environment a list under this name:
# what is appended to it is answered by predict.answers, and the response is not used.
LATER = "kt.later"


def respond(host: Host, request: falcon.Request, response: falcon.Response, asked: Asked) -> None:
    later: list[Any] | None = request.env.get(LATER)
    if later is None:
        http.answer(response, predict.answered(host, asked))
    else:
        later.append(asked)
