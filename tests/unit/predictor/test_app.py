"""The surface: what is answered, and that nothing that is sent in is answered 5xx."""

import io
import json
import logging
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from falcon import testing
from predictors import Made, make

from kt import http
from kt.deployments.manifest import fraction
from kt.predictor.app import routes
from kt.predictor.host import Host, make_host

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path)
    for name, does in {
        "v1": "answer",
        "v2": "answer",
        "sick": "raise",
        "nan": "nan",
        "slow": "slow",
    }.items():
        made.add(name, w=1.0 + len(made.versions), does=does)
    return made


class Face(testing.TestClient):
    def __init__(self, host: Host) -> None:
        super().__init__(routes(host))
        self.host = host

    def predict(self, path: str = "/predict", **fields: Any) -> testing.Result:
        return self.simulate_post(path, body=json.dumps({"x": [0.25]} | fields), headers=JSON)

    def post(self, body: bytes | str, path: str = "/predict", **headers: str) -> testing.Result:
        return self.simulate_post(path, body=body, headers=JSON | headers)


def opened(made: Made) -> Face:
    host = make_host(made.root)
    host.open()
    return Face(host)


@pytest.fixture
def face(made: Made) -> Face:
    made.deploy(1, toy=made.route("v1"))
    return opened(made)


def test_an_answer_says_who_answered(face: Face) -> None:
    answer = face.predict(student_id="s-1").json
    identity = answer.pop("prediction_id")
    assert len(identity) == 32
    assert int(identity, 16)
    (prediction,) = answer.pop("predictions")
    assert prediction["decision"] == "escalate"
    assert answer == {"model": "toy", "version": "v1", "variant": None, "experiment": None}
    assert face.predict().json["prediction_id"] != identity


def test_a_model_may_be_named_in_the_body_or_the_path(face: Face) -> None:
    assert face.predict(model="toy").json["model"] == "toy"
    assert face.predict("/models/toy/predict").json["model"] == "toy"


def test_of_several_models_one_must_be_named(made: Made) -> None:
    made.deploy(1, toy=made.route("v1"))
    path = made.root / "registry"
    (path / "other").symlink_to(path / "toy")
    made.deploy(1, toy=made.route("v1"), other=made.route("v2"))
    face = opened(made)
    refused = face.predict()
    assert (refused.status_code, refused.json["field"]) == (422, "model")
    assert "other, toy" in refused.json["hint"]
    assert face.predict(model="other").json["version"] == "v2"
    made.settings('model = "other"\n')
    assert opened(made).predict().json["model"] == "other"


BAD = {
    b"": (400, None),
    b"{": (400, None),
    b'{"x": [NaN]}': (400, None),
    b'{"x": [Infinity]}': (400, None),
    b'{"x": [1e999]}': (400, None),
    b'{"x": [' + b"9" * 401 + b"]}": (400, None),
    b'{"x": [' + b"9" * 6000 + b"]}": (400, None),
    b'{"x": [0.1], "x": [0.2]}': (400, None),
    b'{"x": [0.1]} {}': (400, None),
    b'{"x": "\xff"}': (400, None),
    b'{"student_id": "\\ud800", "x": []}': (400, None),
    b'{"x": ' + b"[" * 33 + b"]" * 33 + b"}": (400, None),
    b"[" * 100_000: (400, None),
    b"[]": (422, None),
    b"3": (422, None),
    b"null": (422, None),
    b"{}": (422, "x"),
    b'{"x": 3}': (422, "x"),
    b'{"x": ["a"]}': (422, "x.0"),
    b'{"x": [0.1, -1]}': (422, "x.1"),
    b'{"x": [100]}': (422, "x.0"),
    b'{"x": [0.1], "student_id": 3}': (422, "student_id"),
    b'{"x": [0.1], "version": "v1"}': (422, "version"),
    b'{"x": [0.1], "' + b"k" * 50_000 + b'": 1}': (422, "k" * 399 + "…"),
    b'{"x": [0.1], "model": 3}': (422, "model"),
    b'{"x": [0.1], "model": "nobody"}': (404, "model"),
    b'{"x": [0.1], "model": "' + b"m" * 50_000 + b'"}': (404, "model"),
}


@pytest.mark.parametrize("body", BAD, ids=lambda body: f"{len(body)} {body[:24]!r}")
def test_a_bad_body_is_refused_by_its_first_bad_field(face: Face, body: bytes) -> None:
    answer = face.post(body)
    status, field = BAD[body]
    assert (answer.status_code, answer.json.get("field")) == (status, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert len(answer.content) < 2_000


def test_only_json_is_read(face: Face) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert (
            face.simulate_post(
                "/predict", body='{"x": []}', headers={"Content-Type": kind}
            ).status_code
            == 415
        )
    assert (
        face.post(
            '{"x": [0.25]}', **{"Content-Type": "application/json; charset=utf-8"}
        ).status_code
        == 200
    )


def test_a_body_over_the_limit_is_refused_also_without_a_length(made: Made, face: Face) -> None:
    limit = face.host.settings.predictor.max_body
    assert face.post(b" " * (limit + 1)).status_code == 413
    said: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "CONTENT_TYPE": "application/json",
        "wsgi.input": io.BytesIO(b" " * (limit + 1)),
        "wsgi.input_terminated": True,
    }
    setup_testing_defaults(environ)
    face.app(environ, lambda status, headers: said.append(status))
    assert said == ["413 Content Too Large"]


def test_an_unknown_path_or_method_is_a_problem_document(face: Face) -> None:
    for answer in (face.simulate_get("/nope"), face.simulate_delete("/predict")):
        assert answer.json["status"] == answer.status_code in (404, 405)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["//predict", "/predict//", "//", "/models//predict", "/models/%2F/predict", "/models/./predict", "/models/../predict", "/models/toy%00/predict", f"/models/{'m' * 9_000}/predict", "/v2/models//infer", "/v2/models/toy/versions//infer", "/v2/models/toy/versions//", "/v2//health/ready", "/invocations//", "/feedback/x"],
    ids=lambda path: path[:32],
)  # fmt: skip
def test_an_odd_path_names_nothing(face: Face, path: str) -> None:
    answer = face.predict(path)
    assert answer.status_code == 404
    assert len(answer.content) < 2_000
    answer = face.simulate_get(path)
    assert answer.status_code in (404, 405)


def test_one_slash_at_the_end_changes_nothing(face: Face) -> None:
    assert face.predict("/predict/").json["version"] == "v1"


def test_what_can_be_read_answers_head_as_get_and_says_so(face: Face) -> None:
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json", "/ping", "/v2/health/ready"):
        said, read = face.simulate_head(path), face.simulate_get(path)
        assert (said.status_code, said.content, said.headers) == (200, b"", read.headers)
        assert face.simulate_options(path).headers["allow"] == "GET, HEAD"
    refused = face.simulate_head("/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")


def test_it_keeps_to_wsgi(face: Face) -> None:
    application = validator(face.app)
    for method, path, body in (
        ("GET", "/health", b""),
        ("POST", "/predict", b'{"x": [0.25]}'),
        ("POST", "/predict", b"{"),
    ):
        environ = http.environ(method, path, body)
        parts = application(environ, lambda status, headers, info=None: lambda data: None)
        assert b"".join(parts)
        parts.close()


def test_a_unit_gets_the_variant_that_the_manifest_gives_it(made: Made) -> None:
    made.deploy(1, toy=made.route("v1", "v2", traffic=30))
    face = opened(made)
    for n in range(40):
        answer = face.predict(student_id=f"s-{n}").json
        treated = fraction("trial", f"s-{n}") < 0.3
        assert answer["variant"] == ("treatment" if treated else "control")
        assert answer["version"] == ("v2" if treated else "v1")
        assert answer["experiment"] == "trial"
        assert "assigned" not in answer
    assert face.predict().json["assigned"] == "random"


@pytest.mark.parametrize(
    ("treatment", "kind"), [("sick", "failed"), ("nan", "invalid"), ("slow", "slow")]
)
def test_a_treatment_that_fails_is_answered_by_the_control_and_counted(
    made: Made, treatment: str, kind: str
) -> None:
    made.deploy(1, toy=made.route("v1", treatment, traffic=100))
    face = opened(made)
    assert face.predict().json["version"] == treatment
    for count in (1, 2):
        answer = face.predict(x=[0.75])
        assert answer.status_code == 200
        assert (answer.json["version"], answer.json["variant"], answer.json["fallback"]) == (
            "v1",
            "control",
            True,
        )
        assert treatment in answer.json["reason"]
        (row,) = face.simulate_get("/health").json["fallbacks"]
        assert row == {
            "model": "toy",
            "experiment": "trial",
            "version": treatment,
            "reason": kind,
            "count": count,
        }


def test_what_the_control_refuses_too_is_not_counted_against_the_treatment(made: Made) -> None:
    made.deploy(1, toy=made.route("v1", "v2", traffic=100))
    face = opened(made)
    assert face.predict(x=[100.0]).status_code == 422
    assert face.simulate_get("/health").json["fallbacks"] == []


@pytest.mark.parametrize("active", ["sick", "nan"])
def test_a_control_that_fails_is_a_500_with_an_id_that_the_log_has(
    made: Made, active: str, caplog: pytest.LogCaptureFixture
) -> None:
    made.deploy(1, toy=made.route(active))
    face = opened(made)
    with caplog.at_level(logging.ERROR):
        answer = face.predict(x=[0.75])
    assert answer.status_code == 500
    (entry,) = [record.getMessage() for record in caplog.records]
    assert answer.json["id"] in entry
    assert "secret" not in entry + answer.text  # an error's message may quote a student
    assert face.predict().status_code == 200


def test_keys_of_which_none_holds_are_no_health(made: Made) -> None:
    made.deploy(1, toy=made.route("v1"))
    (made.root / "keys.json").write_text("{")
    face = opened(made)
    assert face.predict().status_code == 401
    for path in ("/health", "/ready"):
        told = face.simulate_get(path).json
        assert (told["status"], "no key holds" in told["reason"]) == ("degraded", True)


def test_without_a_model_it_is_healthy_but_not_ready(made: Made) -> None:
    face = opened(made)
    assert face.simulate_get("/health").json["status"] == "ok"
    ready = face.simulate_get("/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert face.predict().status_code == 503
    made.deploy(1, toy=made.route("v1"))
    face.host.look()
    assert face.simulate_get("/ready").status_code == 200
    assert face.simulate_get("/health").json["models"]["toy"]["active"] == "v1"
