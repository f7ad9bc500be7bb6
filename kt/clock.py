"""The only reader of the wall clock. Everywhere else time is an argument."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present, in UTC, to the second: journals carry no fractions, and order is `seq`."""
    return datetime.now(UTC).replace(microsecond=0)
