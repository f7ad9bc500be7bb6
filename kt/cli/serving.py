"""What `kt serve` turns into: a process that holds nothing of the command line.

Every worker is forked from it, so whatever it has loaded is in the memory of them all. Its command line is read
in a child, for which Typer is imported beside the pydantic that both need: so no process imports that twice.
"""

import gc
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

from kt.cli.start import at_once
from kt.errors import INTERRUPTED, KtError

GC = (20_000, 10, 10)  # to look as often as Python does takes a tenth of what imports take


def main() -> None:
    """Serve as this process's arguments say."""
    signal.signal(signal.SIGINT, at_once)
    gc.set_threshold(*GC)
    from kt import workspace  # noqa: F401  # with pydantic, which the child needs too
    from kt.cli import output

    order = told()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output.run = output.Run(**order["run"])
    output.any_text()
    try:
        serve(order["settings"], order["insecure"])
    except KtError as error:
        output.fail(error)
        sys.exit(error.code)
    except KeyboardInterrupt:
        output.interrupted()
        sys.exit(INTERRUPTED)


def told() -> dict[str, Any]:
    """What the command line says. Where it asks for help or is wrong this process ends, as the child has that
    has told of it."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        read_command_line(writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        order = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not order:
        sys.exit(code)
    found: dict[str, Any] = json.loads(order)
    return found


def read_command_line(pipe: int) -> NoReturn:
    """In the child: run the verb, which tells the pipe what it was given."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells of it
    code: Any = 1
    try:
        from kt.cli import app, serve

        serve.pipe = pipe
        app.main()
    except SystemExit as end:
        code = end.code
    finally:
        with suppress(AttributeError, OSError):  # where nobody reads any more
            sys.stdout.flush()
        os._exit(code)


def serve(given: dict[str, Any], insecure: bool) -> None:
    """given: what stands over kt.toml, None where nothing does. Raises KtError."""
    from kt import workspace
    from kt.cli import options, output
    from kt.predictor import server
    from kt.predictor.address import bracketed

    here = workspace.find(options.here(), output.run.workspace)
    settings = here.settings.predictor.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    server.check_exposure(here, settings, insecure)

    def said(host: str, port: int) -> None:
        address = f"http://{bracketed(host)}:{port}"
        output.emit({"address": address, "workers": settings.workers}, f"serving on {address}")
        sys.stdout.flush()

    server.serve(here, settings, said)


if __name__ == "__main__":
    main()
