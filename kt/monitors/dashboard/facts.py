"""What the dashboard says, as plain values: the page, its charts and `kt dashboard --json` are made of these alone.

Shares are fractions, times ISO 8601 in UTC, durations seconds; what is not known is None. A role is
`active` (also the control of an experiment) or `treatment`.
"""

from dataclasses import dataclass, field

ACTIVE, TREATMENT = "active", "treatment"
WINDOWS = {  # minutes: how far back, between two points of traffic, between two of outcomes and drift
    "24h": (1_440, 15, 60),
    "7d": (7 * 1_440, 60, 180),
    "30d": (30 * 1_440, 360, 720),
}
USUAL = "7d"


@dataclass(frozen=True, slots=True)
class Point:
    """A number over a while that ends at `at`, of n observations; its bounds where they are told."""

    at: str
    value: float | None
    n: int
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One version's course in one role."""

    role: str
    version: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """From one time to another; still so where until is None."""

    since: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Now:
    """What the monitor says of a metric now. status: ok, degraded, alerting or no_data."""

    role: str
    version: str
    status: str
    value: float | None
    n: int
    needed: int
    window: int | None = None  # minutes
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """A metric over time, with its levels. over: how long the while of each point is.

    firing: when an alert on it was open.
    """

    metric: str
    over: int  # minutes
    lines: tuple[Line, ...]
    now: tuple[Now, ...] = ()
    limit: float | None = None
    alert: float | None = None
    firing: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of like probability: their mean, and the share of them that came true."""

    n: int
    predicted: float
    observed: float
    lower: float  # of the share, 95 %
    upper: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """A version's predictions against what came true. ece: None below the n that it needs."""

    role: str
    version: str
    n: int
    ece: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a score or a feature is spread, in the reference and now: shares of each bin between the edges."""

    of: str  # "score", or a feature's name
    role: str
    version: str
    reference: str  # what it is
    edges: tuple[float, ...]  # bins + 1
    before: tuple[float, ...]
    now: tuple[float, ...]
    n_before: int
    n_now: int
    psi: float | None
    status: str


@dataclass(frozen=True, slots=True)
class Look:
    """The treatment less the control, as an experiment's report saw it at one time."""

    at: str
    estimate: float
    lower: float
    upper: float
    n_control: int
    n_treatment: int


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment that runs, or ended of late, and its report.

    ended: how, empty while it runs. sentence and checks: what the report says to a person.
    """

    experiment: str
    control: str
    treatment: str
    traffic: float
    since: str
    metric: str
    verdict: str
    sentence: str
    alpha: float
    looks: tuple[Look, ...] = ()
    checks: tuple[str, ...] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """An answer, and by how much the shadow's differs from it at most."""

    prediction_id: str
    difference: float


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies of the requests and answers nobody, beside what was answered.

    agreement: of the predictions; differences are of the numbers in them. worst: the answers furthest
    apart. failed, invalid (no answer that is finite), slow and dropped (never run): copies. latency: p95, ms.
    """

    experiment: str
    control: str
    version: str
    since: str
    compared: int
    predictions: int
    agreement: float | None
    mean_difference: float | None
    worst_difference: float | None
    latency: float | None
    failed: int
    invalid: int
    slow: int
    dropped: int
    worst: tuple[Case, ...] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A change of what is deployed."""

    seq: int
    at: str
    model: str
    by: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, open while until is None. silenced: until when, and empty where it is not."""

    model: str
    version: str
    variant: str
    metric: str
    severity: str
    since: str
    until: str | None
    value: float | None
    level: float | None
    silenced: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """A version that answers, and its numbers now."""

    variant: str
    version: str
    traffic: float
    since: str
    labels: tuple[str, ...]
    requests: float | None  # an hour, over the last hour
    error_rate: float | None
    latency: float | None  # p95, ms
    accuracy: float | None
    labelled: int


@dataclass(frozen=True, slots=True)
class Model:
    """trial or shadow: the last experiment, if it runs or ended of late."""

    model: str
    variants: tuple[Variant, ...]
    trends: tuple[Trend, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    shapes: tuple[Shape, ...] = ()
    trial: Trial | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True, slots=True)
class Predictor:
    pid: int
    address: str
    state: str
    reason: str
    seq: int
    since: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Everything on the page. last: the newest minute that was recorded; checked: when `kt monitor` last judged."""

    workspace: str
    at: str
    since: str
    health: str  # ok, warning, critical or unknown
    last: str | None
    checked: str | None
    models: tuple[Model, ...]
    predictors: tuple[Predictor, ...] = ()
    alerts: tuple[Alert, ...] = ()  # open ones first, then the newest
    marks: tuple[Mark, ...] = ()  # oldest first
    attention: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)  # of what was dropped or refused
