"""The kt command from its first moment to its last: whenever ctrl-C comes, it is one line and exit code 130.

before the verb is there, and after it has ended    at once
while it runs                                       KeyboardInterrupt, so that it leaves all in order
in a __del__, such as GitPython's                   Python would print a traceback and go on: it comes once more
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kt.errors import INTERRUPTED

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

ONCE_MORE = 0.01  # seconds, by when the __del__ is over


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGINT, at_once)
    sys.unraisablehook = unraisable
    from kt.cli import app

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        app.main()
    except KeyboardInterrupt:  # in the moment in which app.main begins or ends
        at_once()
    finally:
        signal.signal(signal.SIGINT, at_once)
        with suppress(
            AttributeError, OSError
        ):  # nobody reads any more: Python tells of it when it ends
            sys.stdout.flush()


def at_once(*_: Any) -> None:
    """Nothing has been begun yet, or all is done."""
    with suppress(OSError):
        os.write(2, b"kt: interrupted\n")
    os._exit(INTERRUPTED)


def unraisable(lost: "UnraisableHookArgs") -> None:
    """What was raised where nobody can catch it. A ctrl-C is raised in the main thread alone."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(ONCE_MORE, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    again.daemon = True
    again.start()
