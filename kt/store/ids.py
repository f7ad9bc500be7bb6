"""Prediction ids that say what they are of, so that nothing is kept of a prediction but its id.

    version 1 | key 1 | nonce 6 | kind 1 | stream 8 | minute 4 | bucket 1 | records | tag 10    bytes
                                | hidden                                            |

There is one id for each answer, and in it one record for each of the answer's predictions: a probability
takes 2 bytes, a category and its probability 6, a number 8. Written in URL-safe base64, without padding.

The tag is the HMAC of everything before it, and what is hidden is hidden by a key stream that is made of
the nonce and the tag: who sees an id learns neither the variant nor what was predicted. That the tag is
part of it matters: of some 16 million nonces of 6 bytes two are the same, and the same stream over two
texts would show both (Rogaway and Shrimpton 2006, "Deterministic Authenticated-Encryption", calls it SIV).
The stream is SHAKE-256 of a key and both, a sponge, which needs no HMAC around it and costs a third of
HMACs that are strung together.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import struct
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from kt.stats.scored import NOTHING, Kind, Scored, Scores, binary, likeliest
from kt.store import secret
from kt.store.secret import FILE, Draw, Mac, Master, Secret

VERSION = 1
PURPOSE = "prediction-id"
MOST = 64  # predictions of an answer that an id tells of
KINDS: tuple[Kind, ...] = ("none", "probability", "category", "number")
CODES = {kind: code for code, kind in enumerate(KINDS)}
NONCE, TAG = 6, 10  # bytes

OPEN = struct.Struct(f">BB{NONCE}s")
ABOUT = struct.Struct(">BQIB")
PROBABILITY, CATEGORY, NUMBER, COUNT = map(struct.Struct, (">H", ">IH", ">d", ">B"))
FINEST = 65_535  # a probability is told in so many parts
TEXT = re.compile(r"[A-Za-z0-9_-]{40,1000}")

Why = Literal["malformed", "version", "key", "forged"]


class Unreadable(Exception):
    """An id that nothing can be learned from.

    why: malformed (no id at all), version (a newer kt made it), key (of which kt knows none, or no longer),
    forged (not by this key: changed, cut or invented).
    """

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Ticket(NamedTuple):
    """What an id says. id: the answer's own, 10 bytes. minute: of the answer, since the epoch."""

    id: bytes
    stream: int
    kind: Kind
    minute: int
    bucket: int
    scored: tuple[Scored, ...]


class Ids:
    """draw: makes nonces."""

    def __init__(self, held: Secret, draw: Draw = os.urandom) -> None:
        self._draw = draw
        self._keys = {key.id: keys(key) for key in held.keys}
        newest = held.newest.id
        self._opening, (self._sign, self._hide) = bytes((VERSION, newest)), self._keys[newest]

    def make(self, stream: int, minute: int, bucket: int, scores: Scores) -> str:
        """The id of an answer. scores: of its predictions in their order. Raises ValueError where one is NaN."""
        nonce = self._draw(NONCE)
        head = self._opening + nonce
        body = ABOUT.pack(CODES[scores.kind], stream, minute, bucket) + packed(scores)
        tag = self._sign(head + body)[:TAG]
        whole = head + hidden(body, self._hide, nonce + tag) + tag
        return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()

    def read(self, text: str) -> Ticket:
        """What an id says. Raises Unreadable."""
        whole = decoded(text)
        version, key, nonce = OPEN.unpack_from(whole)
        if version != VERSION:
            raise Unreadable("version")
        if key not in self._keys:
            raise Unreadable("key")
        sign, hide = self._keys[key]
        head, veiled, tag = whole[: OPEN.size], whole[OPEN.size : -TAG], whole[-TAG:]
        body = hidden(veiled, hide, nonce + tag)
        if not hmac.compare_digest(sign(head + body)[:TAG], tag):
            raise Unreadable("forged")
        code, stream, minute, bucket = ABOUT.unpack_from(body)
        kind = KINDS[code]
        return Ticket(tag, stream, kind, minute, bucket, unpacked(kind, body[ABOUT.size :]))


class Reader:
    """The ids of a workspace, by its secret as it is now: for who reads them over a long time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: object = None
        self._ids: Ids | None = None

    def ids(self) -> Ids:
        """Raises as secret.read does."""
        try:
            about = (self._root / FILE).stat()
            seen = about.st_ino, about.st_mtime_ns, about.st_mode
        except OSError:
            seen = None
        if self._ids is None or seen != self._seen:
            self._ids, self._seen = Ids(secret.read(self._root)), seen
        return self._ids


def answer_id(text: str) -> bytes:
    """What an id goes by in the tables: as in its Ticket. Raises Unreadable for what is no id at all."""
    return decoded(text)[-TAG:]


def keys(key: Master) -> tuple[Mac, bytes]:
    """What signs, and the key of the key stream."""
    return Mac(key.key(f"{PURPOSE} tag")), key.key(f"{PURPOSE} stream")


def decoded(text: str) -> bytes:
    """The bytes of an id's text, if it is the one text of these bytes. Raises Unreadable."""
    if not TEXT.fullmatch(text):
        raise Unreadable("malformed")
    try:
        whole = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Unreadable("malformed") from None
    # the last character may hold bits that are none of the bytes'
    if base64.urlsafe_b64encode(whole).rstrip(b"=") != text.encode():
        raise Unreadable("malformed")
    return whole


def hidden(data: bytes, key: bytes, seed: bytes) -> bytes:
    """`data` under the key stream of a seed; done twice it is itself again."""
    size = len(data)
    stream = hashlib.shake_256(key + seed).digest(size)
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(size, "big")


def packed(scores: Scores) -> bytes:
    """The records of at most MOST predictions."""
    values = scores.values[:MOST]
    match scores.kind:
        case "probability":
            return struct.pack(f">{len(values)}H", *parts(values))
        case "category":
            records = zip(scores.categories, parts(values), strict=False)
            return struct.pack(f">{'IH' * len(values)}", *chain.from_iterable(records))
        case "number":
            return struct.pack(f">{len(values)}d", *values)
        case "none":
            return COUNT.pack(len(values))


def unpacked(kind: Kind, records: bytes) -> tuple[Scored, ...]:
    match kind:
        case "probability":
            return tuple(binary(p / FINEST) for (p,) in PROBABILITY.iter_unpack(records))
        case "category":
            found = CATEGORY.iter_unpack(records)
            return tuple(likeliest(category, p / FINEST) for category, p in found)
        case "number":
            return tuple(Scored("number", value) for (value,) in NUMBER.iter_unpack(records))
        case "none":
            return (NOTHING,) * records[0]


def parts(probabilities: Sequence[float]) -> list[int]:
    """Probabilities in FINEST parts. Half of them is on the same side of one half as it is."""
    found = [int(p * FINEST + 0.5) for p in probabilities]
    if found and (min(found) < 0 or max(found) > FINEST):  # a sum of 1.0005 passes for one
        return [min(max(one, 0), FINEST) for one in found]
    return found
