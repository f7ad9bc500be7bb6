"""The kt command from its first moment to its last: whenever ctrl-C comes, it is one line and exit code 130.

    before the verb is there, and after it has ended    at once
    while it runs                                       KeyboardInterrupt, so that it leaves all in order
    where pydantic makes another exception of that      it is told as what it was
    in a __del__, such as GitPython's                   Python would print a traceback and go on: it comes once more
    while Python takes itself apart                     ignored: all is done and told

What takes time is imported only when the first of these holds.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress

from kt.cli import early, interrupt

INTERRUPTED = 130  # as in kt.errors
ONCE_MORE = 0.01  # seconds, by when the __del__ is over


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGINT, at_once)
    sys.unraisablehook = unraisable
    # what is registered first is called last
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    fill_streams()
    if early.verb(sys.argv[1:]) == "serve":
        early.serve(sys.argv[1:])
    from kt.cli import app

    try:
        signal.signal(signal.SIGINT, interrupt.interrupt)
        app.main()
    except KeyboardInterrupt:  # in the moment in which app.main begins or ends
        at_once()
    finally:
        signal.signal(signal.SIGINT, at_once)
        # Python remembers a KeyboardInterrupt that went through the exec of a text, as where a dataclass is made, until
        # the next one, and would end by the signal in place of the exit code.
        exec("")  # noqa: S102  # nothing
        # where nobody reads any more, Python tells of it when it ends
        with suppress(AttributeError, OSError):
            sys.stdout.flush()


def fill_streams() -> None:
    """Stand in for a standard stream that was closed (<&-): the next file opened would take its place, and get
    what a child writes there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # each for as long as the process
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def at_once(*_: object) -> None:
    """Nothing has been begun yet, or all is done."""
    with suppress(OSError):
        os.write(2, b"kt: interrupted\n")
    os._exit(INTERRUPTED)


def unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """What was raised where nobody can catch it. A ctrl-C is raised in the main thread alone."""
    import threading

    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(ONCE_MORE, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    again.daemon = True
    again.start()
