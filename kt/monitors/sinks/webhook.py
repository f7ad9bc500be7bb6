"""An alert as a JSON POST. The key `text` is what Slack, Mattermost and others like them show.

    X-Kt-Signature: sha256=<HMAC-SHA-256 of the body, in hexadecimal>

`key` in the body is the same for the same message: one that comes twice can be told by it.
"""

import hashlib
import hmac
import ipaddress
import time
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import AfterValidator, BaseModel, Field

from kt import __version__
from kt.errors import Refused, Unavailable
from kt.monitors import outgoing
from kt.monitors.message import Message
from kt.monitors.secret import Reference, read

TRIES = 3
WAIT = 0.5  # seconds before the second try, and twice as long before the third


def network(text: str) -> str:
    ipaddress.ip_network(text)  # raises ValueError
    return text


class Settings(BaseModel, extra="forbid"):
    url: str  # https://..., or env:NAME or file:PATH where it is a secret itself
    secret: Reference = ""  # what the body is signed with: env:NAME or file:PATH
    timeout: float = Field(outgoing.TIMEOUT, gt=0, le=60)  # seconds, of each try
    http: bool = False  # whether a URL without TLS may be used
    # addresses or networks of the own that may be reached
    allow: list[Annotated[str, AfterValidator(network)]] = []


def send(message: Message, settings: Settings, root: Path) -> None:
    """Raises Unavailable where three tries had no good answer, Refused where one says no for good."""
    url = settings.url
    if url.startswith(("env:", "file:")):
        url = read(url, root)
    body = orjson.dumps(message.document())
    headers = {"Content-Type": "application/json", "User-Agent": f"kt/{__version__}"}
    if settings.secret:
        key = read(settings.secret, root).encode()
        headers["X-Kt-Signature"] = f"sha256={hmac.digest(key, body, hashlib.sha256).hex()}"
    for left in reversed(range(TRIES)):
        try:
            once(url, settings, body, headers)
            return
        except Unavailable:
            if not left:
                raise
            time.sleep(WAIT * 2 ** (TRIES - 1 - left))


def once(url: str, settings: Settings, body: bytes, headers: dict[str, str]) -> None:
    to = outgoing.target(url, settings.allow, plain=settings.http)
    status = outgoing.post(to, body, headers, settings.timeout)
    if 300 <= status < 400:
        raise Refused(
            f"{to.host} answers {status}, and redirects are not followed",
            do="give its last address as url in kt.toml",
        )
    if status == 429 or status >= 500:
        raise Unavailable(f"{to.host} answers {status}", do="wait: what waits is sent again")
    if not 200 <= status < 300:
        raise Refused(
            f"{to.host} answers {status}", do="mend url and headers of the sink in kt.toml"
        )
