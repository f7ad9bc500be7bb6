"""A secret that kt.toml names and does not hold: `env:NAME`, a variable, or `file:PATH`, a file of mode 0600."""

import os
import stat
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from kt.errors import Invalid, Refused, Unavailable


def check(reference: str) -> str:
    kind, _, name = reference.partition(":")
    if reference and (kind not in ("env", "file") or not name):
        raise ValueError("name where the secret is: env:NAME or file:PATH; kt.toml holds none")
    return reference


Reference = Annotated[str, AfterValidator(check)]


def read(reference: str, root: Path) -> str:
    """The secret. root: where a relative path begins. Raises Invalid, Refused, Unavailable."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "").strip()
        if not value:
            raise Invalid(
                f"the variable {name} is not set", do="set it where kt monitor runs, or use file:"
            )
        return value
    path = root / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise Refused(
                    "others may read this secret", where=str(path), do=f"chmod 600 {path}"
                )
            value = file.read(10_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise Unavailable(
            f"cannot be read: {reason}",
            where=str(path),
            do="put a text file there that this user can read",
        ) from error
    if not value:
        raise Invalid("holds no secret", where=str(path), do="write the secret into it")
    return value
