"""Who gives way where more ask than can wait: whoever asks again soonest after its last answer.

A connection has one request in the queue at most: Granian (hyper) reads the next one only once it has answered
the one before. A bound on each would change nothing, then: 256 clients that ask without end and read no answer
hold 256 places with one each. But they have sent their next request before they were answered, while somebody
who works with the answer pauses, and who heeds a Retry-After pauses longest. A client that opens a
connection for each request is not told apart; a bound on its address is (`rate` in kt.toml).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from kt.http import RETRY_AFTER

T = TypeVar("T")

STEP = 0.1  # seconds; a shorter pause is that of the event loop
PATIENT = int(float(RETRY_AFTER) / STEP)  # steps of a pause that nobody has to surpass


class Answered:
    """When each connection was answered last. Times are on the monotonic clock."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def note(self, client: str, now: float) -> None:
        self._at[client] = now

    def pause(self, client: str, now: float) -> int:
        """Whole steps between its last answer and now; PATIENT at most, and where it has had none."""
        at = self._at.get(client)
        return PATIENT if at is None else min(int((now - at) / STEP), PATIENT)

    def forget(self, now: float) -> None:
        """What makes no difference any more."""
        self._at = {client: at for client, at in self._at.items() if now - at < PATIENT * STEP}


def is_hastiest(pause: int, others: Iterable[int]) -> bool:
    """Whether who has made this pause is the one to give way; in doubt who comes does, not who waits."""
    return all(pause <= other for other in others)


def hastiest(waiting: Sequence[T], pause: Callable[[T], int], keep: int) -> list[T]:
    """Those that give way where so many stay, in doubt who has waited longest. waiting: the first is who has."""
    return sorted(waiting, key=pause)[: max(0, len(waiting) - keep)]
