"""kt.toml: every setting once, with its type, unit, default and meaning.

`kt config` and the file that `kt init` writes are printed from the fields below. A plugin's own
table (`[[gate]]`) is kept as it stands and checked by the plugin's `Settings`.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt.errors import Invalid

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"  # of a model, a version, an experiment
RESERVED = {"latest", "head", "none", "active", "control", "treatment"}


def check_name(name: str, what: str) -> str:
    """`name`, if a path and a command line may carry it. Raises Invalid before a path is made of it."""
    fits = re.fullmatch(NAME, name) and ".." not in name and not name.endswith(".")
    if not fits or name in RESERVED:
        raise Invalid(
            f"{name[:64]!r} is not a name for {what}",
            do="use lower case, digits, '.', '_' and '-', at most 64, starting with a letter or digit",
        )
    return name


class Table(BaseModel):
    """A table of kt.toml. Strict: a wrong type, an unknown key or a NaN is an error, not a guess."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, defer_build=True
    )


def setting(default: Any, meaning: str, unit: str = "", example: Any = None, **bounds: Any) -> Any:
    """A setting, written once: its default, what it means, its unit, its bounds.

    example: what the template shows of a setting without a default.
    """
    extra = {"unit": unit, "example": example}
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)


def table(meaning: str) -> Any:
    """A table that may be left out: all of its settings are as they are without it."""
    # not an instance: the validator of Settings makes it, and each table's own need not be built
    return Field(default={}, validate_default=True, description=meaning)


class Plugin(BaseModel):
    """A named plugin and its own settings, which the plugin checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="a file in the plugin's folder, or a dotted path of your own")

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Decision(Table):
    accept: float = setting(
        0.9, "answers at least this confident are accepted", "confidence, 0 to 1", ge=0, le=1
    )
    review: float = setting(
        0.7,
        "answers at least this confident are for review, others escalate",
        "confidence, 0 to 1",
        ge=0,
        le=1,
    )


# one repetition without a bound, and a longest name beside it: {1,64} of \w takes 40 ms to compile
METRIC = r"^(accuracy|auc|brier|ece|mae|error_rate|latency|labelled|drift(_[\w .-]+)?)$"


class Threshold(Table):
    """The levels of one metric. What is not said stays as it is without this table."""

    metric: str = setting(
        ...,
        "accuracy, error_rate, latency, drift, drift_FEATURE, ece, mae, auc, brier or labelled",
        example="accuracy",
        pattern=METRIC,
        max_length=70,
    )
    limit: float | None = setting(
        None,
        "beyond it the metric is degraded: shown, nobody is told",
        "of the metric; ms for latency",
        example=0.8,
    )
    alert: float | None = setting(
        None,
        "surely beyond it, three times in a row, an alert opens",
        "of the metric; ms for latency",
        example=0.75,
    )
    severity: Literal["warning", "critical"] | None = setting(
        None,
        "of the alert; critical for accuracy and error_rate without, warning for the others",
        example="critical",
    )
    window: int | None = setting(
        None,
        "how far back is looked; 5 without for errors and latency, 1440 for the others",
        "minutes",
        example=1440,
        ge=1,
        le=10_080,
    )
    min_n: int | None = setting(
        None,
        "with fewer it is said that there is no data",
        "observations",
        example=200,
        ge=1,
    )


class Monitor(Table):
    interval: float = setting(
        60.0, "how often errors and latency are judged", "seconds", ge=1, le=3_600
    )
    slow_interval: float = setting(
        900.0, "how often outcomes and drift are judged", "seconds", ge=1, le=86_400
    )
    longest: float = setting(
        7.0,
        "how far back a window of outcomes or drift is stretched until it holds enough",
        "days",
        gt=0,
        le=365,
    )
    mature: float = setting(
        0.0,
        "how old a prediction must be before its outcome is counted (by an experiment: its day): set it"
        " to what outcomes take where some come sooner than others",
        "hours",
        ge=0,
        le=8_760,
    )
    repeat: float = setting(
        4.0, "how often an alert is told again while it is open", "hours", ge=0.1, le=8_760
    )
    deadman: float = setting(
        5.0,
        "a running predictor that has recorded nothing for so long is an alert",
        "minutes",
        ge=1,
        le=1_440,
    )


class Model(Table):
    family: str = setting(
        "", "the family of bare weights: a name in kt/models or a dotted path of your own"
    )
    evaluation: str = setting(
        "", "a labelled data set, held out: the regression gate scores versions on it"
    )
    within: float = setting(
        5.0, "a number this close to its outcome is right", "in the number's own unit", ge=0
    )
    log_inputs: float | None = setting(
        None, "as store.log_inputs, for this model", "share, 0 to 1", example=0.01, ge=0, le=1
    )
    log_fields: list[str] | None = setting(
        None, "as store.log_fields, for this model", example=["answers", "items"]
    )
    decision: Decision | None = setting(None, "accept and review thresholds of this model alone")
    gate: list[Plugin] = setting(
        [], "gates of this model: a file in kt/registry/gates with its settings"
    )
    threshold: list[Threshold] = setting([], "levels of this model alone, before those of all")


class Predictor(Table):
    host: str = setting("127.0.0.1", "the address that kt serve listens on")
    port: int = setting(8600, "the port that kt serve listens on", "", ge=0, le=65535)
    workers: int = setting(1, "processes that answer requests", "processes", ge=1, le=256)
    threads: int = setting(
        1, "torch threads of each worker; small models are fastest with one", "threads", ge=1
    )
    engine: Literal["auto", "torch", "onnx"] = setting(
        "auto",
        "what runs versions: ONNX Runtime those that have an ONNX graph and torch the others, or one"
        " of the two alone; where it is torch, versions are registered without a graph",
    )
    timeout: float = setting(
        1.0, "a treatment that takes longer is answered by the control", "seconds", gt=0, le=600
    )
    max_body: int = setting(1_000_000, "a longer request body is refused", "bytes", ge=1_000)
    body_timeout: float = setting(
        20.0, "a request body that takes longer is cut off", "seconds", gt=0, le=3_600
    )
    predict_timeout: float = setting(
        10.0, "a request that takes the model longer is given up", "seconds", gt=0, le=3_600
    )
    keys: str = setting(
        "keys.json", "the file of API keys; where it exists, requests need a key: kt key new"
    )
    hosts: list[str] = setting(
        [], "the names that requests may ask for; without, this machine's own on loopback, else any"
    )
    rate: float = setting(
        0.0,
        "requests of one key or address; more are answered 429; 0 for no limit",
        "a second",
        ge=0,
        le=1_000_000,
    )
    burst: int = setting(20, "requests at once before the rate counts", "requests", ge=1)
    poll: float = setting(
        0.25, "how often a worker looks for a new manifest", "seconds", gt=0, le=60
    )
    flush: float = setting(
        10.0, "how often a worker writes down what it has answered", "seconds", ge=0.1, le=60
    )
    keep_previous: float = setting(
        24.0,
        "how long the previous active version stays loaded, so that a rollback needs no load",
        "hours",
        ge=0,
        le=8_760,
    )
    state_cache_mb: int = setting(
        32,
        "memory of each worker for what it remembers of students, so that a request with one more"
        " answer costs one step and no whole history; 0 for none",
        "MB",
        ge=0,
        le=1_000_000,
    )
    compiled: bool = setting(
        False,
        "whether torch's steps from what is remembered are compiled by Numba, which"
        " pip install 'kt[fast]' brings: a third of the time, and 180 MB of memory",
    )


class Registry(Table):
    trust_code: bool = setting(
        True, "whether a file that is code may become a version on a person's word: --trust-code"
    )


UNSET = Model.model_construct()  # of a model that kt.toml does not name


class Signing(Table):
    require_signature: bool = setting(
        False, "whether only signed versions get traffic and are loaded by predictors"
    )
    allowed: str = setting(
        "allowed_signers", "the file of who may sign, as ssh-keygen(1) has it, ALLOWED SIGNERS"
    )
    key: str = setting("", "the ssh key that new versions are signed with; without one: kt sign")


class Tables(Table):
    url: str = setting(
        "sqlite:///kt.db",
        "where what is observed is kept: a file of SQLite, or postgresql://HOST/DATABASE (its password in"
        " PGPASSWORD or ~/.pgpass); empty: nothing is recorded",
        pattern=r"^$|^sqlite:///[^?]+$|^postgresql://.+$",
    )
    horizon: float = setting(
        30.0, "outcomes are taken for this long after their prediction", "days", gt=0, le=3_650
    )
    log_inputs: float = setting(
        0.0,
        "of how many units requests and answers are kept one by one, to look into and to learn from:"
        " kt requests; 0 for none",
        "share, 0 to 1",
        ge=0,
        le=1,
    )
    log_fields: list[str] = setting(
        [],
        'what is kept of such a request: its fields by name, and "predictions" for the whole answer;'
        " never the unit, which is kept as a pseudonym",
    )
    log_days: float = setting(
        30.0,
        "for how long they are kept, and what is known of students' mastery once it is measured no more",
        "days",
        gt=0,
        le=3_650,
    )

    @property
    def kept(self) -> tuple[timedelta, timedelta]:
        """How long outcomes are waited for, and requests kept."""
        return timedelta(days=self.horizon), timedelta(days=self.log_days)


class Remote(Table):
    url: str = setting(
        "",
        "where kt push and kt pull keep weights: a folder that machines share, or a URL such as s3://bucket/prefix",
    )
    git: str = setting("origin", "the git remote that goes with it")


class Compute(Table):
    backend: Literal["loky", "dask", "ray"] = setting(
        "loky", "what runs many trainings at once: processes of this machine, or a cluster"
    )
    address: str = setting("", "of the cluster; without one dask and ray start one here")
    n_jobs: int = setting(-1, "how many at once; -1 for one a core", "jobs", ge=-1)
    wait: float = setting(30.0, "how long a cluster may take to answer", "seconds", gt=0, le=3_600)


class Experiment(Table):
    metric: Literal["right", "error", "outcome"] = setting(
        "right",
        "what decides: right, the share of right answers; error, how far they are from outcomes, where"
        " less is better; outcome, the outcomes' own mean",
    )
    alpha: float = setting(
        0.05, "how many may find a difference where there is none", "of experiments", gt=0, le=0.5
    )
    least: float = setting(1.0, "no verdict before", "days", ge=0, le=365)
    most: float = setting(28.0, "without a verdict by then it has expired", "days", gt=0, le=3_650)
    indifference: float = setting(
        0.01, "a difference certainly below is called none", "of the metric", ge=0
    )
    abort: bool = setting(
        True, "whether a broken guardrail ends an experiment: errors, or answers over 200 ms"
    )
    bandit: bool = setting(
        False, "whether shares follow who is probably better; an even split decides sooner"
    )
    reweight: float = setting(
        24.0, "with bandit: how long a share stays at least", "hours", gt=0, le=8_760
    )


class Job(Table):
    model: str = setting("", "whose versions it trains; the job's own name without")
    family: str = setting(
        "", "what it trains, as kt train names it; that of the active version without"
    )
    size: str = setting("", "a named size of the family: small, medium, large")
    settings: dict[str, str | int | float | bool] = setting(
        {}, "settings of the family: {d_model = 64}"
    )
    options: dict[str, str | int | float | bool] = setting(
        {}, "options of kt train: {epochs = 20, lr = 0.01}"
    )
    command: list[str] = setting(
        [],
        "a program of your own in place of kt train: it reads KT_DATA, writes a checkpoint to KT_OUT and"
        " prints its scores as JSON",
    )
    data: list[Plugin] = setting(
        [], "where its labelled samples come from: a file in kt/jobs/sources with its settings"
    )
    holdout: float = setting(
        0.2,
        "the newest units, on whom candidate and active version are compared",
        "share",
        gt=0,
        lt=1,
    )
    metric: str = setting("", "what they are compared by; accuracy without, or the family's own")
    margin: float = setting(0.01, "how much better a candidate must be", "of the metric", ge=0)
    then: Literal["register", "experiment", "canary"] = setting(
        "experiment", "what --deploy makes of a better candidate"
    )
    traffic: float = setting(10.0, "its share as an experiment", "percent", ge=0, le=100)
    steps: list[float] = setting([10.0, 25.0, 50.0, 100.0], "its shares as a canary", "percent")
    every: int = setting(3_600, "how long each of them lasts", "seconds", ge=0, le=31_536_000)
    auto_promote: bool = setting(
        False, "whether its experiment is promoted or ended by its verdict, without a person"
    )
    time_limit: float = setting(
        6.0, "a training that takes longer has failed", "hours", gt=0, le=720
    )
    memory: float = setting(
        0.0, "a training that takes more has failed; 0 for no limit", "GB", ge=0
    )
    environment: dict[str, str] = setting(
        {}, 'variables for its processes, beside those of kt\'s own: {CUDA_VISIBLE_DEVICES = "1"}'
    )
    seed: int = setting(0, "of all chance in the training", "", ge=0)
    cooldown: float = setting(24.0, "the least between two runs", "hours", ge=0, le=8_760)
    backoff: float = setting(
        24.0, "the most between two runs after failures: 1 hour, 2, 4, ...", "hours", ge=0, le=8_760
    )
    retries: int = setting(
        10,
        "how often in a row a run that failed is tried again; then it is put on hold",
        "runs",
        ge=0,
    )
    trigger: list[Plugin] = setting(
        [Plugin(name="age"), Plugin(name="samples"), Plugin(name="alert")],
        "what makes it due: a file in kt/jobs/triggers with its settings",
    )


class Mastery(Table):
    model: str = setting("", "whose active version tells; the mastery's own name without")
    data: list[Plugin] = setting(
        [], "where the answers of students come from: a file in kt/jobs/sources with its settings"
    )
    skills: str = setting(
        "",
        "a file with the columns item,skill: the items of a skill stand for it, of everybody the same;"
        " without, the column skill of the data",
    )
    every: float = setting(
        24.0,
        "how old it may become; it is measured anew for another version or other skills, too",
        "hours",
        gt=0,
        le=8_760,
    )


class Daemon(Table):
    check: float = setting(30.0, "how often jobs are looked at", "minutes", ge=0.05, le=10_080)
    gc: bool = setting(False, "whether it frees, once a day, the weights that nothing needs: kt gc")


class Settings(Table):
    model: str = setting("", "the model that commands mean when they name none")
    git: Literal["on", "off"] = setting("on", "whether changes are committed to git")
    lock_wait: float = setting(
        10.0, "how long a command waits for another one to finish", "seconds", ge=0, le=86_400
    )
    decision: Decision = table("when an answer is accepted, reviewed or escalated")
    predictor: Predictor = table("the process that answers requests: kt serve")
    registry: Registry = table("which files may become versions")
    signing: Signing = table("who stands for versions: kt sign")
    store: Tables = table("where what is observed is kept")
    remote: Remote = table("what machines share: kt push and kt pull")
    compute: Compute = table(
        "where many trainings run at once: kt train --sweep, --folds, kt backtest"
    )
    experiment: Experiment = table("when an experiment has a verdict, and what ends it")
    gate: list[Plugin] = setting(
        [], "gates of every model: a file in kt/registry/gates with its settings"
    )
    monitor: Monitor = table("what watches over the models: kt monitor")
    threshold: list[Threshold] = setting([], "levels of a metric of every model")
    sink: list[Plugin] = setting(
        [], "where alerts are told: a file in kt/monitors/sinks with its settings"
    )
    models: dict[str, Model] = setting({}, "settings of one model each")
    daemon: Daemon = table("what starts commands when it is time: kt daemon")
    jobs: dict[str, Job] = setting({}, "what is trained anew, and when: kt retrain")
    mastery: dict[str, Mastery] = setting(
        {}, "how well students master skills, measured again and again: kt mastery"
    )

    def of(self, model: str) -> Model:
        return self.models.get(model, UNSET)

    def log_of(self, model: str) -> tuple[float, Sequence[str]]:
        """Of which share of its units requests are kept, and which fields of them."""
        own = self.of(model)
        share = self.store.log_inputs if own.log_inputs is None else own.log_inputs
        return share, self.store.log_fields if own.log_fields is None else own.log_fields

    def decision_of(self, model: str) -> Decision:
        return self.of(model).decision or self.decision


def load(path: Path) -> Settings:
    """Read kt.toml. Raises Invalid with file, line, key and the nearest known key."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(
            f"cannot be read: {error.strerror}",
            where=str(path),
            do="let this user read it, and put a file there: ls -l",
        ) from error
    return parse(data, path)


def parse(data: bytes, path: Path) -> Settings:
    """The settings in a kt.toml's bytes. Raises Invalid as `load` does; `path` is where they stand."""
    try:
        text = data.decode("utf-8-sig")  # editors on Windows begin with a mark
        raw = tomllib.loads(text)
        odd = next(unprintable(raw), None)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(
            f"not valid TOML: {error}",
            where=str(path),
            do="mend the file, or write a new one: kt init",
        ) from error
    if odd:
        raise Invalid(
            f"{'.'.join(odd)}: holds a control character",
            where=f"{path}:{line_of(text, odd)}",
            do="write that line anew",
        )
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise explain(error, path, text) from error
    for names, what in ((settings.models, "a model"), (settings.mastery, "a mastery")):
        for name in names:
            check_name(name, f"{what} ({path}, line {line_of(text, [name])})")
    return settings


def unprintable(value: Any, keys: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The keys of texts that no terminal and no path should meet."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from unprintable(inner, (*keys, key))
    elif isinstance(value, list):
        for inner in value:
            yield from unprintable(inner, keys)
    elif isinstance(value, str) and re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", value):
        yield list(keys)


def explain(error: ValidationError, path: Path, text: str) -> Invalid:
    """The first thing wrong, by file and line."""
    first = error.errors(include_url=False)[0]
    keys = [str(key) for key in first["loc"]]
    where = f"{path}:{line_of(text, keys)}"
    if first["type"] == "extra_forbidden":
        return Invalid(
            f"there is no setting {'.'.join(keys)}", where=where, do=instead_of(keys[-1])
        )
    return Invalid(
        f"{'.'.join(keys)}: {first['msg'][0].lower()}{first['msg'][1:]}",
        where=where,
        do="see its type and bounds: kt config",
    )


def instead_of(name: str) -> str:
    """What somebody may have meant who wrote a setting where there is none of this name."""
    tables: dict[str, list[str]] = {}
    for known in known_settings():
        table, _, last = known.key.rpartition(".")
        tables.setdefault(last, []).append(f"[{table}]" if table else "no table, at the top")
    if places := tables.get(name):  # whoever uncomments a line of the template, and not its table's
        return f"{name} stands under {' or '.join(places)}"
    near = difflib.get_close_matches(name, tables, 1)
    return f"did you mean {near[0]}? " if near else "see every setting: kt config"


def line_of(text: str, keys: list[str]) -> int:
    """The line of a key, as far as it can be told without a position from the parser."""
    lines = text.splitlines()
    for key in reversed(keys):
        for number, line in enumerate(lines, 1):
            if re.match(
                rf"\s*(\[+[^\]]*\b{re.escape(key)}\b|[\"']?{re.escape(key)}[\"']?\s*=)", line
            ):
                return number
    return 1


@dataclass(frozen=True)
class Known:
    key: str  # dotted
    type: str
    unit: str
    default: Any
    meaning: str
    example: Any = None


def known_settings(table: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Known]:
    """Every setting there is, tables flattened to dotted keys; NAME stands for a model's."""
    nested: dict[str, tuple[type[BaseModel], str]] = {
        "decision": (Decision, "decision."),
        "predictor": (Predictor, "predictor."),
        "registry": (Registry, "registry."),
        "signing": (Signing, "signing."),
        "store": (Tables, "store."),
        "remote": (Remote, "remote."),
        "compute": (Compute, "compute."),
        "monitor": (Monitor, "monitor."),
        "experiment": (Experiment, "experiment."),
        "daemon": (Daemon, "daemon."),
        "jobs": (Job, "jobs.NAME."),
        "mastery": (Mastery, "mastery.NAME."),
        "models": (Model, "models.NAME."),
    }
    for name, field in table.model_fields.items():
        if name in nested:
            inner, path = nested[name]
            yield from known_settings(inner, prefix + path)
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield Known(
            prefix + name,
            kind_of(field.annotation),
            str(extra.get("unit", "")),
            None if field.is_required() else field.get_default(),
            field.description or "",
            extra.get("example"),
        )
        if name == "threshold":
            yield from known_settings(Threshold, f"{prefix}{name}.")


def kind_of(annotation: Any) -> str:
    """A type as people read it; "tables" for a list of tables."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is list and issubclass(kinds[0], BaseModel):
        return "tables"
    if get_origin(annotation) is Literal:
        return " | ".join(kinds)
    if len(kinds) == 1 and get_origin(annotation) is UnionType:
        return kind_of(kinds[0])
    return getattr(annotation, "__name__", str(annotation))


def lookup(values: Any, key: str) -> Any:
    """The value of a dotted key; None for a table of models, whose NAME is open."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def template() -> str:
    """A kt.toml with every setting commented out, at its default."""
    out = ["# The settings of this workspace. A commented line shows the default."]
    groups: dict[str, list[Known]] = {}
    tables: dict[str, Known] = {}
    for known in known_settings():
        if known.type == "tables":
            tables[known.key] = known
            groups[known.key] = []
        else:
            groups.setdefault(known.key.rpartition(".")[0], []).append(known)
    for table, settings in sorted(groups.items(), key=lambda group: group[0] != ""):
        out.append("")
        if table in tables:
            out += [f"# [[{table}]]", f"# {tables[table].meaning}"]
            out += [f'# name = "{EXAMPLES[name]}"' for name in EXAMPLES if table.endswith(name)]
        elif table:
            out.append(f"# [{table}]")
        for known in settings:
            unit = f" ({known.unit})" if known.unit else ""
            shown = known.example if known.default is None else known.default
            out.append(f"# {known.meaning}{unit}")
            out.append(f"# {known.key.rpartition('.')[2]} = {toml(shown)}")
    return "\n".join(out) + "\n"


EXAMPLES = {
    "gate": "latency",
    "sink": "log",
    "data": "files",
    "trigger": "age",
}  # of plugins, one each


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
