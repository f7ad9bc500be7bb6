"""Every table and column. Alembic's steps in migrations/ lead here; a test holds the two to each other.

What is counted is only ever added: a row is a part of a sum, readers add parts up, and roll-ups put
one row in the place of many. So any number of processes write at once, and a store that is merged
into another one brings its rows as they are, under its own `source` ("" is this store itself).

`minute` counts from the epoch, in UTC; a row stands for `span` minutes from there. `at` is in seconds
since the epoch. `sign` is -1 where an outcome was corrected: those rows are the parts to take off,
kept apart because moments can be taken off only from a whole that holds them.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")  # there, only INTEGER numbers rows by itself


def stream(primary_key: bool = False) -> Column[int]:
    return Column("stream", BigInteger, nullable=False, primary_key=primary_key)


def source(primary_key: bool = False) -> Column[str]:
    return Column("source", Text, nullable=False, server_default="", primary_key=primary_key)


def whole(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def real(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def piece() -> tuple[Column[int], ...]:
    """Where a row of counts lies in time. Of a table whose ids are never used again (sqlite_autoincrement):
    a roll-up deletes the rows that it has read, by id."""
    return (
        Column("id", Number, primary_key=True),
        stream(),
        Column("minute", Integer, nullable=False),
        Column("span", Integer, nullable=False),
    )


streams = Table(  # who answers: a version in a role, from one change of traffic to the next
    "streams",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    text("model"),
    text("version"),
    text("variant"),
    text("experiment"),
    Column("deployment", Integer, nullable=False),
    Column("phase", Integer, nullable=False),
    real("share"),  # percent of the units
    text("kind"),
    text("since"),
    Column("level", SmallInteger, nullable=False, server_default="0"),  # of thinning: see units
)

traffic = Table(
    "traffic",
    metadata,
    *piece(),
    source(),
    *map(whole, ("assigned", "served", "failed", "slow_out", "invalid", "fallback")),
    *map(whole, ("over_limit", "over_alert")),
    Index("traffic_by_minute", "stream", "minute"),
    sqlite_autoincrement=True,
)

labels = Table(  # outcomes seen, at the minute of their prediction
    "labels",
    metadata,
    *piece(),
    source(),
    Column("sign", SmallInteger, nullable=False),
    *map(whole, ("n", "right")),
    whole("error_n"),
    *map(real, ("error_mean", "error_m2")),
    Index("labels_by_minute", "stream", "minute"),
    sqlite_autoincrement=True,
)

sketches = Table(  # distributions, which only Python can add up
    "sketches",
    metadata,
    *piece(),
    source(),
    text("name"),
    Column("sign", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("sketches_by_minute", "stream", "name", "minute"),
    sqlite_autoincrement=True,
)

loads = Table(  # requests of each bucket of units
    "loads",
    metadata,
    stream(primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    source(primary_key=True),
    *map(whole, ("assigned", "failed")),
    sqlite_with_rowid=False,
)

buckets = Table(  # moments of a metric in each bucket of units, by the day of the predictions
    "buckets",
    metadata,
    stream(primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    source(primary_key=True),
    Column("sign", SmallInteger, primary_key=True, autoincrement=False),
    whole("n"),
    *map(real, ("mean", "m2")),
    sqlite_with_rowid=False,
)

units = Table(  # distinct units of a stream, by hash
    "units",
    metadata,
    stream(primary_key=True),
    Column("hash", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

counters = Table(  # whatever else is counted: what was dropped, refused, corrected
    "counters",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    source(primary_key=True),
    whole("n"),
    sqlite_with_rowid=False,
)

answered = Table(  # outcomes that were counted, so that none counts twice and each can be corrected
    "answered",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    real("outcome"),
    stream(),
    Column("minute", Integer, nullable=False),
    whole("at"),
    Index("answered_by_minute", "minute"),
    sqlite_with_rowid=False,
)

writers = Table(  # the number of the last batch of each process that writes
    "writers",
    metadata,
    Column("writer", Text, primary_key=True),
    whole("last"),
    Column("minute", Integer, nullable=False),
)

sources = Table(  # this store and those merged into it: until when the rows of those are known
    "sources",
    metadata,
    Column("id", Text, primary_key=True),
    Column("own", SmallInteger, nullable=False),
    Column("minute", Integer, nullable=False),
)

states = Table(  # where each metric stands: the alert machine's memory
    "states",
    metadata,
    Column("key", Text, primary_key=True),
    whole("at"),
    text("document"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", Number, primary_key=True),
    *map(text, ("model", "metric", "author", "reason")),
    *map(whole, ("at", "until")),
)

notices = Table(  # what has still to be told to a sink
    "notices",
    metadata,
    Column("id", Number, primary_key=True),
    *map(whole, ("at", "tries", "due")),
    *map(text, ("sink", "document")),
)

evaluations = Table(  # when a check last ran, and who runs one now
    "evaluations",
    metadata,
    Column("name", Text, primary_key=True),
    whole("at"),
    whole("until"),
    text("holder"),
)

looks = Table(  # an experiment's interval over time
    "looks",
    metadata,
    Column("experiment", Text, primary_key=True),
    Column("phase", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    text("metric"),
    *map(real, ("alpha", "estimate", "lower", "upper", "log_e")),
    *map(whole, ("n_control", "n_treatment")),
    text("verdict"),
    sqlite_with_rowid=False,
)

shadows = Table(  # what copies of requests showed of versions that answer nobody: tally.py
    "shadows",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("model", "experiment", "version")),
    Column("phase", Integer, primary_key=True, autoincrement=False),
    source(primary_key=True),
    whole("at"),
    text("document"),
)

requests = Table(  # a sample of what was asked and answered, where kt.toml asks for one
    "requests",
    metadata,
    Column("id", LargeBinary, primary_key=True),  # of the answer, as in `answered`
    stream(),
    real("at"),  # with fractions: what a unit asked within a second has an order
    Column(
        "unit", LargeBinary, nullable=False
    ),  # a labelled pseudonym; empty where nobody is named
    *map(text, ("request", "answer")),  # JSON
    Index("requests_by_at", "at"),
    Index("requests_by_unit", "unit"),
)

mastery = Table(  # the last run of each [mastery.NAME], whole where it ended after `at`
    "mastery",
    metadata,
    Column("name", Text, primary_key=True),
    *map(
        text, ("model", "version", "skills")
    ),  # skills: a digest of the file, empty where the data say
    *map(whole, ("at", "ended", "students")),
)

student_mastery = Table(  # how well each student masters each skill: students.py
    "student_mastery",
    metadata,
    Column("name", Text, primary_key=True),
    Column("unit", LargeBinary, primary_key=True),  # a labelled pseudonym
    Column("skill", Text, primary_key=True),
    text("version"),
    real("mastery"),
    *map(whole, ("items", "answers")),
    Column("answered_at", BigInteger),  # the last of these answers
    whole("at"),  # of the run
    text("reference"),  # a digest of the items that were asked
    sqlite_with_rowid=False,
)
