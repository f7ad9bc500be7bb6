"""POST /feedback: what came of predictions, one or many at once.

    request  {"prediction_id": ID, "outcome": 1}        or a list of such: see store/outcomes.py
    answer   {"accepted": 1, "corrected": 0, "duplicate": 0, "late": 0, ...}

A body of which an entry is wrong is refused whole, and the entry is named. What cannot be used (an id
that nobody here made, an outcome that is too late) is counted in the answer and changes nothing. An
outcome that is sent again is counted once: whoever gets a 503, or no answer, sends it again.
"""

from dataclasses import asdict
from typing import Any

import falcon

from kt import clock, http
from kt.errors import Invalid
from kt.predictor.host import Host
from kt.predictor.tables import Tables
from kt.store import outcomes
from kt.store.ids import Ids, Reader, Unreadable
from kt.store.outcomes import NAMES, Counted, Outcome, counter

MOST = 1_000  # entries of one body


def add_routes(app: "http.Service", host: Host, tables: Tables) -> None:
    app.add_route("/feedback", Feedback(host, tables))


class Feedback:
    def __init__(self, host: Host, tables: Tables) -> None:
        self.host, self.tables = host, tables
        self.limit = host.settings.predictor.max_body
        self.reader = Reader(host.root)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        body = http.parse(http.body(request, self.limit))
        told, counted = read(self.reader.ids(), body)
        for name in NAMES:
            if n := getattr(counted, name):
                self.host.recorder.add(counter(name), n)
        if told:
            counted.merge(self.take(told))
        http.answer(response, asdict(counted))

    def take(self, told: list[Outcome]) -> Counted:
        from kt.store import answered

        routes = self.host.current.streams
        young = {one.id: model for model, some in routes.items() for one in some.values()}
        rules = answered.rules(self.host.settings, young)
        with self.tables.open() as store:
            return answered.ingest(store, told, clock.now(), rules)


def read(ids: Ids, body: Any) -> tuple[list[Outcome], Counted]:
    """The outcomes that a body tells, and what of it no id could be read of. Raises Invalid, naming the entry."""
    many = isinstance(body, list)
    entries = body if many else [body]
    if not 0 < len(entries) <= MOST:
        raise Invalid(
            f"the body holds {len(entries)} entries, it may hold 1 to {MOST}",
            do="send it in several",
        )
    told: list[Outcome] = []
    counted = Counted()
    for place, entry in enumerate(entries):
        try:
            told += outcomes.read(ids, entry)
        except Unreadable as refused:
            counted.add(refused.why)
        except Invalid as error:
            where = [str(place), error.where] if many else [error.where]
            raise Invalid(error.what, where=".".join(filter(None, where)), do=error.do) from None
    return told, counted
