"""A POST to an address that somebody else chose: bounded in time, and never into the own network.

The name is resolved once, every address it has is checked, and the connection is made to the address
that was checked: a name that resolves otherwise a moment later leads nowhere. https, unless it is said
otherwise; redirects are not followed; no more of the answer is read than is looked at.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from kt.errors import Invalid, Refused, Unavailable

TIMEOUT = 5.0  # seconds, for all of it but the look-up of the name
URL = "mend url in kt.toml, or what its env: or file: holds"
LARGEST = 4_096  # bytes of an answer
NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Target:
    """Where a URL leads. host: as it is written in the URL; address: the one that was checked."""

    host: str
    port: int
    path: str
    tls: bool
    address: str


def target(url: str, allowed: Sequence[str] = (), *, plain: bool = False) -> Target:
    """Resolve and check a URL. Raises Invalid, Refused, Unavailable.

    allowed: networks of the own that may be reached, such as 10.1.0.0/16. plain: http as well.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"is no URL: {error}", do=URL) from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise Invalid("is no URL of the form https://host/path", do=URL)
    if parts.scheme == "http" and not plain:
        raise Refused("http is not allowed", do="use https, or say http = true in kt.toml")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    networks = [ipaddress.ip_network(each) for each in allowed]
    addresses = resolve(host, port)
    for address in addresses:
        refuse_own(host, address, networks)
    return Target(host, port, path, tls, str(addresses[0]))


def resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise Unavailable(
            f"cannot find {host[:100]}: {reason}",
            do="mend the name in kt.toml, or see to the DNS of this machine",
        ) from error


def refuse_own(
    host: str,
    address: Address,
    allowed: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> None:
    """Raises Refused for an address that is not out in the world, also one written in an IPv6 address."""
    for each in (address, *embedded(address)):
        if (each.is_global and not each.is_multicast) or any(each in net for net in allowed):
            continue
        name = f"{host[:100]} is" if host == str(each) else f"{host[:100]} is {each},"
        raise Refused(
            f"{name} an address of the own machine or network",
            do=f'if that is meant, allow it in kt.toml: allow = ["{each}"]',
        )


def embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    found += address.teredo or ()
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def post(to: Target, body: bytes, headers: Mapping[str, str], timeout: float = TIMEOUT) -> int:
    """The status of the answer. Raises Unavailable where there is none in time."""
    connection = http.client.HTTPConnection(to.host, to.port, timeout=timeout)
    late = threading.Timer(timeout, lambda: cut(connection))
    late.daemon = True
    started = time.monotonic()
    late.start()
    try:
        connection.sock = socket.create_connection((to.address, to.port), timeout)
        if to.tls:
            connection.sock = ssl.create_default_context().wrap_socket(
                connection.sock, server_hostname=to.host, do_handshake_on_connect=False
            )
            connection.sock.do_handshake()
        connection.request("POST", to.path, body, {"Connection": "close", **headers})
        answer = connection.getresponse()
        answer.read(LARGEST)
        return answer.status
    except (OSError, http.client.HTTPException) as error:
        slow = isinstance(error, TimeoutError) or time.monotonic() - started >= timeout
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = f"no answer within {timeout:g} s" if slow else reason
        raise Unavailable(
            f"{to.host}: {what}",
            do="see that it is up and can be reached from here; what waits is sent again",
        ) from error
    finally:
        late.cancel()
        connection.close()


def cut(connection: http.client.HTTPConnection) -> None:
    """End whatever is waited for: a server that sends a byte now and then is never too slow for a socket."""
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
