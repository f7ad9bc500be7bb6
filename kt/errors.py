"""An error that a person sees: what happened, where, and what to do.

It is raised where the three are known and caught once: in `cli/app.py`, where its kind becomes an
exit code, or in `http.py`, where it becomes a problem document. There are four kinds because four
is what a caller can act on.
"""


class KtError(Exception):
    """what: one sentence, without a full stop. where: file and line, key or field. do: the way out."""

    code = 1  # exit code
    status = 500  # HTTP
    kind = "error"

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class Invalid(KtError):
    """An argument, a setting, a checkpoint or a body is wrong."""

    code, status, kind = 2, 422, "invalid"


class Refused(KtError):
    """The present state, or a gate, does not allow it."""

    code, status, kind = 3, 409, "refused"


class Corrupt(KtError):
    """A file in the workspace is not what kt wrote."""

    code, status, kind = 4, 500, "corrupt"


class Unavailable(KtError):
    """Git, the network, the disk or the lock did not answer."""

    code, status, kind = 5, 503, "unavailable"


class Undecided(KtError):
    """The evidence does not support an answer: how much is missing, in numbers."""

    code, status, kind = 7, 409, "undecided"


class Unconfirmed(KtError):
    """The change is visible, but a sync failed: it may not survive a power cut."""

    code, status, kind = 75, 503, "unconfirmed"


# Answers, not errors: the command did its work, and this is what it found.
ACTION_NEEDED = 10
WARNING = 11
CRITICAL = 12
INTERRUPTED = 130

EXIT_CODES = (
    (0, "done, nothing to do, or healthy"),
    (1, "unexpected: a bug in kt"),
    (2, "wrong usage, setting, checkpoint or body"),
    (3, "refused: the present state or a gate does not allow it"),
    (4, "corrupt: a file is not what kt wrote, or a digest does not match"),
    (5, "unavailable: git, the network, the disk, or the lock (it says who holds it)"),
    (7, "undecided: not enough evidence"),
    (10, "action needed: a retraining is due, a dry run would change something"),
    (11, "warning"),
    (12, "critical"),
    (75, "visible, but a sync failed: not confirmed on disk; run kt status"),
    (130, "interrupted"),
)
