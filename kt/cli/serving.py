"""What `kt serve` turns into: a process that holds nothing of the command line.

Every worker is forked from it, so whatever it has loaded is in the memory of them all.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

from kt.errors import INTERRUPTED, KtError

GC = (20_000, 10, 10)  # to look as often as Python does takes a tenth of what imports take


def main() -> None:
    """Serve as the order says, the program's one argument: see `cli/serve.py`."""
    gc.set_threshold(*GC)
    from kt.cli import output

    order = json.loads(sys.argv[1])
    output.run = output.Run(**order["run"])
    output.any_text()
    try:
        serve(order["settings"], order["insecure"])
    except KtError as error:
        output.fail(error)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def serve(given: dict[str, Any], insecure: bool) -> None:
    """given: what stands over kt.toml, None where nothing does. Raises KtError."""
    from kt import workspace
    from kt.cli import output
    from kt.predictor import server
    from kt.predictor.address import bracketed

    here = workspace.find(Path.cwd(), output.run.workspace)
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
