"""A Python client of a predictor.

    with Client("http://127.0.0.1:8600") as client:
        answer = client.predict({"student_id": "s-17", "answers": [], "items": ["20"]})
        answer.predictions[0]["confidence"], answer.version, answer.prediction_id
        client.feedback(answer.prediction_id, 1)

Threads may share a client: it keeps connections open and lends them out. What could not be connected
is tried again, and what was answered 502 or 503 with a Retry-After; nothing else, so that whatever a
request does is not done twice. Outcomes may be sent again after any error: they count once. An error that a predictor tells of is a Problem, with its document.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import quote

import urllib3

from kt.errors import Corrupt, Invalid, KtError, Refused, Unavailable

T = TypeVar("T")
Outcome = float | bool

LARGEST = 100_000_000  # bytes of an answer
MOST = 1_000  # entries of one feedback
LONGEST_WAIT = 30  # seconds that a Retry-After may ask for


class Problem(KtError):
    """A predictor's error. document: the problem document (RFC 9457)."""

    KINDS: ClassVar[dict[int, type[KtError]]] = {
        409: Refused, 429: Unavailable, 500: Corrupt, 502: Unavailable, 503: Unavailable, 504: Unavailable,
    }  # fmt: skip

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(
            str(document.get("detail") or f"the predictor answered {status}"),
            where=str(document.get("field", "")),
            do=str(document.get("hint", "")),
        )
        kind = self.KINDS.get(status, Invalid)
        self.status, self.code, self.kind = status, kind.code, kind.kind
        self.document = dict(document)


@dataclass(frozen=True)
class Answer:
    """An answer to predict. variant: "control" or "treatment" while an experiment runs.

    predictions: as the model's form gives them. fallback: the treatment failed, for this `reason`,
    and the control answered. assigned: "random" where the request named no unit. state: what stands for
    the history in the next request, where the request had a "state".
    """

    model: str
    version: str
    prediction_id: str
    predictions: list[dict[str, Any]]
    variant: str | None = None
    experiment: str | None = None
    assigned: str | None = None
    fallback: bool = False
    reason: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Serving:
    """What serves one model. experiment: as the manifest describes it."""

    name: str
    active: str
    previous: str | None
    experiment: dict[str, Any] | None


@dataclass(frozen=True)
class Health:
    """status: "ok", or "degraded" for a `reason`. seq: the last event that is followed."""

    status: str
    reason: str | None
    seq: int
    models: tuple[Serving, ...]


@dataclass(frozen=True)
class Counted:
    """What became of outcomes. accepted: the first of their prediction. corrected: another one than
    before. duplicate: the same again. late: after the horizon. early: before their prediction.
    unknown: of a version that the predictor's tables know nothing of. malformed, version (of a newer kt),
    key (that is gone) and forged: no id of this predictor's."""

    accepted: int
    corrected: int
    duplicate: int
    late: int
    early: int
    unknown: int
    malformed: int
    version: int
    key: int
    forged: int


class Client:
    """key: an API key. timeout: seconds to connect, and again until the answer has come.
    retries: how often what may be tried again is."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        connections: int = 10,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise Invalid(
                f"{url} is not the address of a predictor",
                do="it begins with http:// or https://",
            )
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "kt"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
            retries=Patience(
                total=retries,
                read=False,
                other=False,
                redirect=False,
                allowed_methods=None,
                backoff_factor=0.1,
                raise_on_status=False,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A client that is used again opens new ones."""
        self._pool.clear()

    def predict(self, request: Mapping[str, Any], model: str = "") -> Answer:
        """The answer to one request, of the model named or the one there is.

        Raises Problem; Unavailable where nobody answers; ValueError for what is no JSON.
        """
        body = json.dumps(request, allow_nan=False).encode()
        return typed(Answer, self.post(predict_path(model), body))

    def feedback(
        self,
        prediction_id: str,
        outcome: Outcome | Sequence[Outcome | None],
        place: int | None = None,
    ) -> Counted:
        """Tell what came of an answer: an outcome of its prediction, or a list of one for each of its
        predictions, None where it is not known yet. place: which of them one outcome is of, from 0.

        An outcome is 0 or 1 of a probability, a category's number, or a number. Raises as predict does.
        """
        entry: dict[str, Any] = {"prediction_id": prediction_id, "outcome": outcome}
        return self.feedback_all([entry if place is None else entry | {"place": place}])

    def feedback_all(self, entries: Sequence[Mapping[str, Any]]) -> Counted:
        """Tell what came of many answers. entries: each with prediction_id, outcome and perhaps place.

        Some are sent at a time: after an error those before are counted, and all may be sent again.
        """
        counted = Counter({field.name: 0 for field in fields(Counted)})
        for start in range(0, len(entries), MOST):
            body = json.dumps(entries[start : start + MOST], allow_nan=False).encode()
            counted.update(self.post("/feedback", body))
        return typed(Counted, counted)

    def health(self) -> Health:
        found = self._ask("GET", "/health")
        if isinstance(about := found.get("models"), dict):
            found["models"] = tuple(
                typed(Serving, {"name": name} | one) for name, one in about.items()
            )
        return typed(Health, found)

    def models(self) -> tuple[Serving, ...]:
        """What serves now."""
        return self.health().models

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """What a path answers, as it stands. Raises as predict does."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            response = self._pool.request(
                method, self.url + path, body=body, headers=self._headers, preload_content=False
            )
            data = response.read(LARGEST + 1, decode_content=True)
            if len(data) > LARGEST:
                response.close()
                raise Unavailable(
                    f"the answer is larger than {LARGEST} bytes", do="ask for less at once"
                )
            response.drain_conn()
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(
                f"{self.url} does not answer: {reason(error)}", do="start a predictor: kt serve"
            ) from error
        return result(response.status, data)


class Patience(urllib3.Retry):
    """Waits for those who ask for it, and not for long."""

    RETRY_AFTER_STATUS_CODES = frozenset({502, 503})

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            wait = super().get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None
        return None if wait is None else min(wait, LONGEST_WAIT)


def predict_path(model: str) -> str:
    return f"/models/{quote(model, safe='')}/predict" if model else "/predict"


def result(status: int, data: bytes) -> dict[str, Any]:
    """The answer. Raises the Problem that it tells of; Unavailable for what no predictor says."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(
            f"the answer has status {status} and is no JSON",
            do="is this the address of a predictor?",
        )
    if status != 200:
        raise Problem(status, answer)
    return answer


def typed(kind: type[T], found: Mapping[str, Any]) -> T:
    """`found` as a dataclass; what a newer predictor adds is left out. Raises Unavailable where it lacks."""
    try:
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
        return kind(**{name: found[name] for name in names if name in found})
    except TypeError as error:
        raise Unavailable(
            f"the answer is none that a predictor gives: {error}",
            do="is this the address of a predictor?",
        ) from error


def reason(error: Exception) -> str:
    """The cause, without what urllib3 wraps around it."""
    cause = getattr(error, "reason", None)
    error = cause if isinstance(cause, Exception) else error
    return str(error).rpartition(": ")[2] or type(error).__name__
