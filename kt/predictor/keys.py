"""API keys: who may ask a predictor what, kept in one file that only its owner can read.

    kt_<id>_<secret>     the key; the secret is 32 random bytes and is stored nowhere
    keys.json            id, sha256 of the key, roles, note, expiry; mode 0600, not in git

A predictor asks for keys as soon as the file exists, and reads it anew when it changes: keys are made
and revoked without a restart. From then on it asks for them until it is started anew: a file that is damaged or gone,
as `git clean -fdx` leaves it, lets nobody in rather than everybody.
"""

import hashlib
import hmac
import logging
import re
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt import files
from kt.errors import Corrupt, Invalid, Refused

log = logging.getLogger("kt")

ROLES = ("predict", "feedback", "read")
AFRESH = "put back the one that was there, or move it away and make new keys: kt key new"
FORM = re.compile(rb"kt_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
LOOK = 1.0  # seconds between looks at the file


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    roles: tuple[Literal["predict", "feedback", "read"], ...]
    note: str
    created_at: str
    expires_at: str | None = None  # ISO 8601
    revoked_at: str | None = None

    def holds(self, at: str) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


class Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kt: Literal[1] = 1
    keys: tuple[Key, ...] = ()


def read(path: Path) -> Keys:
    """The keys in a file; none where there is no file. Raises Refused where others can read it."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
            raise Corrupt("is no file", where=str(path), do=AFRESH)
        data = path.read_bytes()
    except FileNotFoundError:
        return Keys()
    except OSError as error:
        raise Corrupt(f"cannot be read: {error.strerror}", where=str(path), do=AFRESH) from error
    if about.st_mode & 0o077:
        raise Refused(f"{path} can be read by others", do=f"chmod 600 {path}")
    try:
        return Keys.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(
            f"is no file of keys: {error.errors()[0]['msg']}", where=str(path), do=AFRESH
        ) from error


def new(
    keys: Keys, roles: Sequence[str], note: str, at: str, expires_at: str | None
) -> tuple[Keys, str, Key]:
    """The keys with one more, and its text, which is shown once. Raises Invalid."""
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise Invalid(
            f"{unknown[0][:60]} is no role" if unknown else "no role is named",
            where="--role",
            do=f"choose from: {', '.join(ROLES)}",
        )
    name = secrets.token_hex(4)
    text = f"kt_{name}_{secrets.token_urlsafe(32)}"
    made = Key.model_validate(
        {
            "id": name,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "roles": tuple(dict.fromkeys(roles)),
            "note": note[:200],
            "created_at": at,
            "expires_at": expires_at,
        }
    )
    return Keys(keys=(*keys.keys, made)), text, made


def revoke(keys: Keys, name: str, at: str) -> Keys:
    """The keys with one revoked. Raises Invalid for an unknown id."""
    if name not in {key.id for key in keys.keys}:
        raise Invalid(f"there is no key {name[:60]}", do="see them: kt key list")
    changed = [
        key.model_copy(update={"revoked_at": key.revoked_at or at}) if key.id == name else key
        for key in keys.keys
    ]
    return Keys(keys=tuple(changed))


def write(path: Path, keys: Keys) -> None:
    """Replace the file, which its owner alone may read."""
    files.write_whole(path, keys.model_dump_json(indent=1).encode() + b"\n", files.PRIVATE)


@dataclass
class Ring:
    """The keys of a file as a predictor asks them, read anew when the file changes."""

    path: Path
    keys: dict[bytes, Key] = field(default_factory=dict)  # by id
    asked: bool = False  # whether keys are asked for
    broken: bool = False  # whether none holds, since their file is gone or cannot be read
    _seen: object = "nothing yet"
    _looked: float = float("-inf")  # on the monotonic clock

    def look(self) -> None:
        """Read the file anew if it has changed, at most every LOOK seconds."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        try:
            about = self.path.stat()
            seen: object = (about.st_ino, about.st_mtime_ns, about.st_size, about.st_mode)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        self.asked = self.asked or seen is not None
        if not self.asked:
            return
        self.keys, self.broken = {}, False
        try:
            if seen is None:
                raise Corrupt("is gone", where=str(self.path), do=AFRESH)
            self.keys = {key.id.encode(): key for key in read(self.path).keys}
        except (Refused, Corrupt) as error:
            self.broken = True
            log.error("kt: no key holds: %s", error)

    def find(self, text: bytes, at: datetime) -> Key | None:
        """The key, if it is one that holds. Compared as bytes, in constant time."""
        found = FORM.fullmatch(text)
        key = self.keys.get(found[1]) if found else None
        if key is None or not key.holds(at.strftime("%Y-%m-%dT%H:%M:%SZ")):
            return None
        same = hmac.compare_digest(hashlib.sha256(text).hexdigest().encode(), key.sha256.encode())
        return key if same else None
