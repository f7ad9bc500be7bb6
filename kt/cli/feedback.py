"""kt feedback: what came of predictions, into the tables; no predictor need run."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.options import DryRun, Json, Quiet
from kt.cli.progress import watching

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kt.config import Settings
    from kt.store.database import Store
    from kt.store.ids import Ids
    from kt.store.lines import Line
    from kt.store.outcomes import Counted, Outcome

SHOWN = 20  # lines that are wrong
TOLD = {
    "malformed": "this is no prediction id",
    "version": "a newer kt made this id",
    "key": "this id is older than the oldest key in secret.json",
    "forged": "this id was not made in this workspace, or was changed",
    "late": "the outcome comes later than store.horizon allows",
    "early": "the prediction lies in the future: are the clocks right?",
    "unknown": "the tables know nothing of whoever made this prediction",
}
WAYS_OUT = {
    "malformed": "give the prediction_id of an answer",
    "version": "bring this machine to that version of kt",
    "key": "bring outcomes in sooner: keys are kept as long as store.horizon says",
    "forged": "give it as the answer had it, in the workspace that answered",
    "late": "bring outcomes in sooner, or raise store.horizon in kt.toml",
    "early": "set the clocks right: kt doctor",
    "unknown": "bring in the tables of the machine that answered: kt monitor pull PATH",
}


def feedback(
    prediction_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="The prediction_id of an answer.")
    ] = "",
    outcome: Annotated[
        str,
        typer.Argument(
            metavar="[OUTCOME]", help="What came of it: 1, 0, a number, or a list of such."
        ),
    ] = "",
    place: Annotated[
        int | None,
        typer.Option(
            "--place", metavar="N", min=0, help="Which of the answer's predictions, from 0."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Many outcomes: .csv or .jsonl."),
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Tell what came of predictions: one, or a file of them. Each counts once, however often it is told.

    A file is CSV that begins with prediction_id,outcome (and perhaps place), or JSON lines of
    {"prediction_id": ID, "outcome": 1}. Of several predictions an outcome may be a list, with null
    for what is not known yet. A line that is wrong is told by its number, the others are counted and
    the exit code is 11. What was interrupted is run again.

    Example: kt feedback --file outcomes.csv
    """
    from kt.errors import Invalid, Refused
    from kt.store import connect, secret
    from kt.store.ids import Ids

    one = bool(prediction_id and outcome)
    if bool(file) == one or (file and (prediction_id or outcome or place is not None)):
        meant = not outcome and prediction_id.endswith((".csv", ".jsonl"))
        raise Invalid(
            "give an ID and its OUTCOME, or a file",
            do=f"kt feedback --file {prediction_id}" if meant else "see: kt feedback --help",
        )
    workspace = options.workspace()
    ids = Ids(secret.read(workspace.root))
    store = connect.peek(workspace.root, workspace.settings)
    if store is None:
        raise Refused(
            "nothing has been recorded here yet",
            do="outcomes are of what a predictor has answered: kt serve",
        )
    intake = Intake(store, workspace.settings, dry_run)
    if file:
        of_file(intake, ids, file)
    else:
        of_one(intake, ids, prediction_id, outcome, place)


class Intake:
    """Outcomes on their way into the tables, some at a time. dry: they are only looked at."""

    def __init__(self, store: "Store", settings: "Settings", dry: bool) -> None:
        from kt.store import answered
        from kt.store.outcomes import Counted

        self.counted = Counted()
        self._unread = Counted()
        self.dry = dry
        self._store, self._rules = store, answered.rules(settings)
        self._waiting: list[Outcome] = []
        self._earlier: dict[answered.Key, float] = {}

    def take(self, outcomes: "Iterable[Outcome]") -> None:
        from kt.store.answered import TOGETHER

        self._waiting += outcomes
        if len(self._waiting) >= TOGETHER:
            self.flush()

    def refuse(self, why: str) -> None:
        """Count an id that cannot be read."""
        self._unread.add(why)

    def flush(self) -> None:
        """Count what waits."""
        from kt import clock
        from kt.store import answered

        now, store, rules = clock.now(), self._store, self._rules
        if self.dry:
            found = answered.preview(store, self._waiting, now, rules, self._earlier)
        else:
            found = answered.ingest(store, self._waiting, now, rules)
        self._waiting = []
        self.counted.merge(found)

    def finish(self) -> None:
        """Count what is left, and the ids that could not be read; a power cut takes nothing of it back."""
        from kt import clock
        from kt.store import answered

        self.flush()
        if not self.dry and self._unread.refused:
            with self._store.write() as connection:
                answered.note(connection, self._unread, int(clock.now().timestamp()) // 60)
        if not self.dry:
            self._store.shrink()  # SQLite syncs its log only so
        self.counted.merge(self._unread)
        self._unread = type(self.counted)()


def of_one(intake: Intake, ids: "Ids", text: str, outcome: str, place: int | None) -> None:
    from kt.errors import Invalid, Refused
    from kt.store import lines, outcomes
    from kt.store.ids import Unreadable

    entry = {"prediction_id": text, "outcome": lines.value(outcome)}
    try:
        intake.take(outcomes.read(ids, entry | ({} if place is None else {"place": place})))
    except Unreadable as unread:
        raise Invalid(TOLD[unread.why], where="ID", do=WAYS_OUT[unread.why]) from None
    intake.finish()
    counted = asdict(intake.counted)
    if why := next((name for name in ("late", "early", "unknown") if counted[name]), ""):
        raise Refused(TOLD[why], do=WAYS_OUT[why])
    output.emit({"dry_run": intake.dry, **counted}, summary(intake.counted, intake.dry))


@dataclass
class Lines:
    """The lines of a file. wrong: that tell nothing, of which some problems are kept to be shown."""

    total: int = 0
    wrong: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)

    def count(self, number: int, problem: str) -> None:
        """Another line. problem: why it tells nothing, empty where it does."""
        self.total += 1
        if problem:
            self.wrong += 1
            if len(self.problems) < SHOWN:
                self.problems.append({"line": number, "problem": problem})


def of_file(intake: Intake, ids: "Ids", path: Path) -> None:
    from kt.errors import WARNING, Invalid, KtError

    found = Lines()
    try:
        take_all(intake, ids, path, found)
        intake.finish()
    except (KtError, KeyboardInterrupt):
        output.say(
            f"  stopped: {summary(intake.counted, intake.dry)}; run it again, each counts once"
        )
        raise
    for one in found.problems:
        output.say(f"  {path}:{one['line']}: {one['problem']}")
    if found.wrong > len(found.problems):
        output.say(f"  … and {found.wrong - len(found.problems):,} more")
    if found.total == found.wrong and found.total:
        raise Invalid(
            f"{path}: no line tells what came of a prediction",
            do="give lines of a prediction_id and an outcome; see: kt feedback --help",
        )
    counted = intake.counted
    result = {
        "file": path,
        "dry_run": intake.dry,
        "lines": found.total,
        "wrong": found.wrong,
        "problems": found.problems,
    }
    output.emit(result | asdict(counted), summary(counted, intake.dry))
    if found.wrong or counted.refused:
        raise typer.Exit(WARNING)


def take_all(intake: Intake, ids: "Ids", path: Path, found: Lines) -> None:
    """Every line, with a bar where a person watches."""
    from kt.store import lines

    with watching() as watch:
        moved = watch(path.name, path.stat().st_size if path.exists() else 0)
        for line in lines.read(path):
            found.count(line.number, tell(intake, ids, line))
            moved(line.size)


def tell(intake: Intake, ids: "Ids", line: "Line") -> str:
    """Take what a line tells. Returns why it tells nothing."""
    from kt.errors import Invalid
    from kt.store import outcomes
    from kt.store.ids import Unreadable

    if isinstance(line.entry, Invalid):
        return str(line.entry)
    try:
        intake.take(outcomes.read(ids, line.entry))
    except Invalid as error:
        return str(error)
    except Unreadable as unread:
        intake.refuse(unread.why)
        return TOLD[unread.why]
    return ""


def summary(counted: "Counted", dry: bool) -> str:
    """The counts that are not 0, in a line."""
    told = [f"{n:,} {name}" for name, n in asdict(counted).items() if n]
    return f"{'would be ' if dry else ''}{', '.join(told) or 'nothing to count'}"
