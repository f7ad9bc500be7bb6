"""The secret of a workspace: what signs prediction ids and hides who was answered.

    secret.json    master keys, oldest first; mode 0600, not in git; made by whoever needs it first

A master key is never used itself: each purpose has a key of its own, made of it by HMAC. The newest
one signs; those before it can still be read by for as long as outcomes may come (`rotate`). Machines
that answer for one another need the same file. Without it no outcome can be told from an invented one.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt import files
from kt.errors import Corrupt, Refused, Unavailable

FILE = "secret.json"
LARGEST_ID = 255  # one byte of a prediction id
SIZE = 32  # bytes of a key

Draw = Callable[[int], bytes]  # so many random bytes


class Master(BaseModel):
    """A master key. made_at: ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(ge=1, le=LARGEST_ID)
    secret: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    made_at: datetime

    def key(self, purpose: str) -> bytes:
        """The key for one purpose, 32 bytes."""
        return hmac.digest(bytes.fromhex(self.secret), purpose.encode(), "sha256")


class Secret(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kt: Literal[1] = 1
    keys: Annotated[tuple[Master, ...], Field(min_length=1)]  # oldest first

    @property
    def newest(self) -> Master:
        return self.keys[-1]


def read(root: Path) -> Secret:
    """The secret of a workspace.

    Raises Refused where there is none or others can read it, Corrupt where it is not what kt wrote.
    """
    path = root / FILE
    try:
        about = path.stat()
        data = files.read(path)
    except FileNotFoundError as error:
        raise Refused(
            f"there is no {FILE}: without it no prediction id can be read",
            do=f"copy {FILE} from where the predictions were made; a predictor makes one where there is none",
        ) from error
    if about.st_mode & 0o077:
        raise Refused(f"{path} can be read by others", do=f"chmod 600 {path}")
    try:
        return Secret.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(
            f"is no file of secrets: {error.errors()[0]['msg']}",
            where=str(path),
            do="put back the one that was there: what it signed cannot be read by another",
        ) from None  # pydantic's error quotes what it read


def ensure(root: Path, now: datetime, draw: Draw = secrets.token_bytes) -> Secret:
    """The secret of a workspace, made where there is none. Of many that make one, one prevails.

    Raises as `read` does, and Unavailable where it cannot be written.
    """
    path = root / FILE
    if not path.exists():
        made = Secret(keys=(master(1, now, draw),))
        aside = files.stage(path, dump(made), files.PRIVATE)
        try:
            with files.named("write", path):
                # fails where another was first, and is never seen half written
                os.link(aside, path)
            files.sync_folder(root)
        except Unavailable as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
        finally:
            files.discard(aside)
    return read(root)


def rotate(
    secret: Secret, now: datetime, needed: timedelta, draw: Draw = secrets.token_bytes
) -> Secret:
    """The secret with a new key, and of the old ones those that are still of use.

    needed: for how long after the last use a key may be: outcomes come late, and units are looked for.
    """
    until = [later.made_at + needed for later in secret.keys[1:]] + [now + needed]
    kept = [key for key, end in zip(secret.keys, until, strict=True) if end >= now]
    taken = {key.id for key in kept}
    following = (secret.newest.id + step for step in range(LARGEST_ID))
    name = next(one for one in (after % LARGEST_ID + 1 for after in following) if one not in taken)
    return Secret(keys=(*kept, master(name, now, draw)))


def write(root: Path, secret: Secret) -> None:
    """Replace the file, which its owner alone may read."""
    files.write_whole(root / FILE, dump(secret), files.PRIVATE)


def master(name: int, now: datetime, draw: Draw) -> Master:
    return Master(id=name, secret=draw(SIZE).hex(), made_at=now)


def dump(secret: Secret) -> bytes:
    return secret.model_dump_json(indent=1).encode() + b"\n"


class Mac:
    """HMAC-SHA-256 by one key, whose two blocks are hashed once (RFC 2104, section 4): a third of the time."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def __call__(self, message: bytes) -> bytes:
        """32 bytes."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()
