"""Whether a ctrl-C has come to this command, whatever became of its KeyboardInterrupt.

Where pydantic builds a model it makes another exception of one.
"""

import signal
from types import FrameType

pressed = False


def interrupt(number: int, frame: FrameType | None) -> None:
    """As Python does, and remember it."""
    global pressed
    pressed = True
    signal.default_int_handler(number, frame)
