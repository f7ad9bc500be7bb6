"""Another process of kt's own: it finds kt and its packages where this one does."""

import os
import sys


def command(module: str) -> list[str]:
    """What runs a module of kt. The folder that a person is in is no place to import from."""
    return [sys.executable, "-P", "-m", module]


def environment(**more: str) -> dict[str, str]:
    """This process's environment for `command`; in `more` what stands over it."""
    return {**os.environ, **more, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
