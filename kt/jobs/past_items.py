"""Which items would have been found to drift at times gone by: looked for as items.py does, in what had come by then
and by the version that would have been active.

What a version has learnt from is known by the run that made it, or by the first that was compared with it;
before there is one nobody looks, here as there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from kt.errors import Invalid
from kt.jobs import drifted, trainer
from kt.jobs.asked import iso
from kt.jobs.drifted import Look
from kt.jobs.facts import Drifted
from kt.jobs.past import Past
from kt.registry.load import Loaded


@dataclass
class Items:
    """The looks at the items of the version that is active, in the order of time.

    every: hours between two of them. until: up to when the version has learnt from the data; None where
    nothing tells. tell: is given what a look could not find, and why.
    """

    known: Past
    every: float
    tell: Callable[[datetime, str], None]
    active: Loaded | None = None
    until: datetime | None = None
    last: Look = field(default=drifted.NEVER)

    def take_over(self, version: Loaded, at: datetime) -> None:
        """Another version is active, which has learnt from all that was known then."""
        self.active, self.until = version, at

    def compared(self, at: datetime) -> None:
        """A run was compared with the active version: what was known then is taken for what it has learnt, where nothing tells."""
        self.until = self.until or at

    def at(self, now: datetime) -> Drifted:
        """What would have been known of drifted items. To be asked in the order of time."""
        if self.active is None or self.until is None:
            return Drifted()
        name, samples = iso(self.until), self.known.count(now)
        new = self.known.count(now, since=self.until)
        if new and self.last.is_due(name, samples, now, self.every):
            self.last = replace(
                self.look(self.active, self.until, now), version=name, samples=samples
            )
        return self.last.found if self.last.version == name else Drifted()

    def look(self, active: Loaded, until: datetime, now: datetime) -> Look:
        """Between what the version has learnt from and what has come since."""
        with TemporaryDirectory(prefix="kt-") as folder:
            before = self.known.files(Path(folder) / "before", until)
            after = self.known.files(Path(folder) / "after", now, since=until)
            try:
                found = trainer.drifted(active, before, after)
            except Invalid as error:
                self.tell(now, str(error))
                return replace(drifted.NEVER, at=iso(now), why=str(error))
        return replace(drifted.NEVER, at=iso(now), judged=found["judged"], q=found["q"])
