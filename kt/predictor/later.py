"""A request is answered now, or later with those that came with it."""

from collections.abc import Callable, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from kt import http
from kt.predictor import predict
from kt.predictor.host import Host
from kt.predictor.lanes import BATCH
from kt.predictor.predict import Answer, Asked

if TYPE_CHECKING:
    import falcon

# A server that can answer several requests at once gives each environment a list under this name:
# what is appended to it is answered by `bodies`, and the response is not used.
LATER = "kt.later"


class Deferred(NamedTuple):
    """What a request asks, and what makes the body of its response of the answers."""

    asked: Sequence[Asked]
    tell: Callable[[Sequence[Answer]], Any]


def respond(
    host: Host, request: "falcon.Request", response: "falcon.Response", what: Deferred
) -> None:
    later: list[Deferred] | None = request.env.get(LATER)
    if later is None:
        (body,) = bodies(host, [what])
        if isinstance(body, Exception):
            raise body
        http.answer(response, body)
    else:
        later.append(what)


def bodies(host: Host, deferred: Sequence[Deferred]) -> list[Any]:
    """The body of each response, or an exception.

    All that is asked runs together, as many at once as have waited together, and BATCH at least: a treatment has
    its time for each such batch.
    """
    asked = [one for each in deferred for one in each.asked]
    size = max(BATCH, len(deferred))
    batches = [asked[at : at + size] for at in range(0, len(asked), size)]
    answers = [answer for batch in batches for answer in predict.answers(host, batch)]
    if all(each.tell is FIRST for each in deferred):
        return answers
    found = iter(answers)
    return [told(each, list(islice(found, len(each.asked)))) for each in deferred]


def told(what: Deferred, answers: Sequence[Answer | Exception]) -> Any:
    """The body of a response; an exception where one of its answers is one."""
    good = []
    for answer in answers:
        if isinstance(answer, Exception):
            return answer
        good.append(answer)
    try:
        return what.tell(good)
    except Exception as error:  # noqa: BLE001  # those answered together must not fail with it
        return error


def one(asked: Asked) -> Deferred:
    """A request that asks one thing, whose answer is its response."""
    return Deferred((asked,), FIRST)


FIRST = itemgetter(0)
