"""Who is let in, before anything is answered: the host asked for, the key and its role, the rate.

A middleware of the predictor's Falcon app, so that it holds under any server. Falcon is imported in
functions: see front.py.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kt import clock, http
from kt.config import Predictor
from kt.predictor.address import is_loopback
from kt.predictor.host import Host
from kt.predictor.keys import Ring

if TYPE_CHECKING:
    import falcon

OPEN = ("/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready")  # for whoever watches
MOST = 10_000  # callers whose rate is remembered


@dataclass
class Guard:
    """ring: the keys. local: whether the predictor listens on loopback alone."""

    settings: Predictor
    ring: Ring
    local: bool
    rates: "Rates" = field(init=False)

    def __post_init__(self) -> None:
        # each worker sees its share of the requests
        share = 1 / self.settings.workers
        self.rates = Rates(self.settings.rate * share, max(1.0, self.settings.burst * share))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the predictor goes by."""
        return tuple(self.settings.hosts) or (http.LOOPBACK if self.local else ())

    def stands_open(self, host: str) -> bool:
        """Whether whatever is asked of this host is let in: no key is needed, and nobody is held back."""
        self.ring.look()
        return not self.ring.asked and not self.settings.rate and http.known_as(host, self.names)

    def process_request(self, request: "falcon.Request", response: "falcon.Response") -> None:
        http.check_host(request, self.names, "hosts in kt.toml")
        if request.path in OPEN:
            return
        self.ring.look()
        name = self.check_key(request) if self.ring.asked else ""
        if self.settings.rate:
            for caller in filter(None, (name, request.remote_addr)):
                if wait := self.rates.take(caller, time.monotonic()):
                    import falcon

                    raise falcon.HTTPTooManyRequests(
                        title="Too many requests",
                        description=f"more than {self.settings.rate:g} requests a second",
                        retry_after=max(1, round(wait)),
                    )

    def check_key(self, request: "falcon.Request") -> str:
        """The id of the key that the request carries. Raises 401 without one, 403 for another role."""
        import falcon

        role = role_of(request)
        scheme, _, text = (request.get_header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            text = request.get_header("X-API-Key") or ""
        key = self.ring.find(text.strip().encode("latin-1", "replace"), clock.now())
        if key is None:
            raise falcon.HTTPUnauthorized(
                title="Unauthorized",
                description="a key is needed: Authorization: Bearer kt_…",
                challenges=["Bearer"],
            )
        if role not in key.roles:
            raise falcon.HTTPForbidden(title="Forbidden", description=f"this key may not {role}")
        return key.id


def role_of(request: "falcon.Request") -> str:
    """What a request does: everything that is not read predicts, but for feedback."""
    if request.path == "/feedback":
        return "feedback"
    return "read" if request.method in ("GET", "HEAD") else "predict"


def guard_of(host: Host, keyed: bool = False) -> Guard:
    """keyed: whether keys are asked for also where their file is gone. Under another server than kt serve the
    address is not known: any name is taken, but for a list."""
    settings = host.settings.predictor
    local = is_loopback(urlsplit(host.address).hostname or "")
    return Guard(settings, Ring(host.root / settings.keys, asked=keyed), local)


@dataclass
class Rates:
    """Token buckets, one for each caller: `rate` a second, `burst` at once. Forgets the longest unseen."""

    rate: float
    burst: float
    buckets: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def take(self, caller: str, now: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        left, since = self.buckets.pop(caller, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.rate)
        self.buckets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self.buckets) > MOST:
            self.buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self.rate
