"""Something shown on and on: in place on a terminal, elsewhere one block, or one JSON document, after the other."""

import sys
import time
from collections.abc import Callable
from typing import Any

from kt.cli import output

Shown = tuple[dict[str, Any], list[str]]
COLOURS = {"CRITICAL": "bold red", "WARNING": "yellow", "ATTENTION": "yellow", "degraded": "yellow"}


def show(look: Callable[[], Shown], every: float) -> None:
    """Look and show every so many seconds, until interrupted. With --quiet only look."""
    if not sys.stdout.isatty() or output.run.json or output.run.quiet:
        while True:
            output.emit(*look())
            sys.stdout.flush()
            rest(every)
    from rich.live import Live
    from rich.text import Text

    def drawn() -> Text:
        text = Text(output.safe("\n".join(look()[1]), keep_lines=True), no_wrap=True)
        for word, style in COLOURS.items():
            text.highlight_words([word], style)
        return text

    with Live(drawn(), screen=True, auto_refresh=False) as screen:
        while True:
            rest(every)
            screen.update(drawn(), refresh=True)


def rest(seconds: float) -> None:
    """Wait between two looks. A ctrl-C or SIGTERM that came while the last one wrote a change ends the command."""
    from kt import change

    change.heed()
    time.sleep(seconds)
