"""The dashboard as a service for this machine alone: it only shows, and what it shows is a few seconds old at most.

GET /                  the page, over ?last=24h, 7d or 30d
GET /dashboard.json    its numbers
GET /page.css, /page.js, /icon.svg

Every answer carries the policy of a page that loads nothing but these.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic
from typing import Any

import falcon

from kt import http
from kt.errors import Invalid
from kt.monitors.dashboard import page
from kt.monitors.dashboard.facts import USUAL, WINDOWS, Dashboard

FRESH = 10.0  # seconds that a page is answered again as it was: many who look cost no more than one
POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASSETS = {
    "/page.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}

Look = Callable[[str], Dashboard]  # a window's name -> the facts


def create_app(look: Look) -> "http.Service":
    """The service. look: asked at most once in FRESH seconds for each window."""
    app = http.application(falcon.App(middleware=[Guard()]))
    seen = Seen(look)
    app.add_route("/", Page(seen))
    app.add_route("/dashboard.json", Numbers(seen))
    for path, kind in ASSETS.items():
        app.add_route(path, Asset(path.removeprefix("/"), kind))
    return app


class Guard:
    """A page of somebody else's, whose name was made to point here, does not know our name."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        response.set_headers(POLICY)  # of errors too
        http.check_host(request, http.LOOPBACK)


class Seen:
    """What was looked at last, of each window."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.lock = threading.Lock()
        self.known: dict[str, tuple[float, Dashboard]] = {}
        self.pages: dict[str, tuple[Dashboard, str]] = {}

    def facts(self, window: str) -> Dashboard:
        with self.lock:
            return self.newest(window)

    def page(self, window: str) -> str:
        with self.lock:
            facts = self.newest(window)
            known, text = self.pages.get(window, (None, ""))
            if known is not facts:
                text = page.served(facts, window)
                self.pages[window] = facts, text
            return text

    def newest(self, window: str) -> Dashboard:
        at, facts = self.known.get(window, (float("-inf"), None))
        if facts is None or monotonic() - at > FRESH:
            facts = self.look(window)
            self.known[window] = monotonic(), facts
        return facts


class Page(http.Readable):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = "text/html; charset=utf-8"
        response.text = self.seen.page(window(request))


class Numbers(http.Readable):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        http.answer(response, asdict(self.seen.facts(window(request))))


class Asset(http.Readable):
    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = self.kind
        response.text = page.asset(self.name)


def window(request: falcon.Request) -> str:
    asked: Any = request.get_param("last", default=USUAL)
    if asked not in WINDOWS:
        raise Invalid(
            "there is no such window", where="last", do=f"there are: {', '.join(WINDOWS)}"
        )
    return str(asked)
