"""The description of the routes, and what comes of requests that are drawn from it.

Nothing that is sent is answered 5xx, and every answer has the shape that the description says.
"""

import json
from typing import Any

import clients
import pytest
import schemathesis
from falcon import testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kt import clock, http
from kt.predictor import guard
from kt.predictor.app import routes
from kt.predictor.host import make_host
from kt.store import secret

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export talks about its own internals

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
FEW = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> "http.Service":
    made = clients.both(tmp_path_factory.mktemp("clients") / "w")
    made.settings('model = "tutor"\n')
    secret.ensure(made.root, clock.now())  # as a host does that is started
    host = make_host(made.root)
    host.open()
    return routes(host)


@pytest.fixture(scope="module")
def face(app: "http.Service") -> testing.TestClient:
    return testing.TestClient(app)


def test_every_route_is_described(face: testing.TestClient) -> None:
    document = face.simulate_get("/openapi.json").json
    described = set(document["paths"])
    assert {
        "/predict",
        "/models/tutor/predict",
        "/v2/models/{name}/infer",
        "/invocations",
    } < described
    for path in described:
        filled = path.replace("{name}", "mlp").replace("{version}", "v1")
        method = "GET" if "get" in document["paths"][path] else "POST"
        found = face.simulate_request(method, filled).status_code
        assert found in ((200,) if method == "GET" else (400, 415)), path
    for name in face.simulate_get("/").json.values():
        assert not name.startswith("/") or name in described


def test_what_asks_for_no_key_is_not_said_to_refuse_one(face: testing.TestClient) -> None:
    paths = face.simulate_get("/openapi.json").json["paths"]
    open_ = {path for path, item in paths.items() if item.get("get", {}).get("security") == []}
    assert open_ == set(guard.OPEN) & set(paths)
    assert not {"401", "403", "429"} & {
        code for path in open_ for code in paths[path]["get"]["responses"]
    }
    assert {"401", "403", "429"} < set(paths["/predict"]["post"]["responses"])


def test_its_examples_are_answered(face: testing.TestClient) -> None:
    document = face.simulate_get("/openapi.json").json
    for path, item in document["paths"].items():
        if "post" not in item or "{name}" in path:
            continue
        for name, example in item["post"]["requestBody"]["content"]["application/json"][
            "examples"
        ].items():
            if path == "/invocations" and name != "tutor":
                continue  # the one that kt.toml names
            body = example["value"]
            if path == "/predict":
                body |= {"model": name}
            found = face.simulate_post(
                path, body=json.dumps(body), headers={"Content-Type": "application/json"}
            )
            assert found.status_code == 200, (path, found.json)


def test_the_page_is_whole_and_may_load_nothing_but_its_style(face: testing.TestClient) -> None:
    found = face.simulate_get("/docs")
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; frame-ancestors 'none'")
    assert found.headers["x-content-type-options"] == "nosniff"
    for inline in ("<script", "style=", "onclick", "http://", "https://"):
        assert inline not in found.text
    assert found.text.count("<section") > 20
    assert face.simulate_get("/docs/style.css").headers["content-type"].startswith("text/css")


def test_a_name_that_is_markup_stays_a_name() -> None:
    from kt.predictor import docs

    bad = "<script>alert(1)</script>'"
    told = docs.members({"type": "object", "properties": {bad: {"const": bad}}, "description": bad})
    assert "<script" not in told
    assert "<" not in docs.type_of({"type": bad})
    assert "'" not in docs.anchor(bad)


def test_drawn_requests_are_answered_as_described(app: "http.Service") -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    for result in schema.get_all_operations():
        operation = result.ok()

        @FEW
        @given(case=operation.as_strategy())
        def drawn(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        drawn()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["FP32", "INT64", "BYTES", "1", 2**63, -(2**70), 1e308, float("nan")]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "input", "instances", "dataframe_split", "dataframe_records", "columns", "data",
                 "name", "datatype", "shape", "parameters", "unit", "id", "outputs", "params", "model",
                 "student_id", "answers", "items", "item", "response", "asked", "responses"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)  # fmt: skip
PATHS = ("/predict", "/models/mlp/predict", "/v2/models/tutor/infer", "/v2/models/mlp/infer", "/invocations")  # fmt: skip


@settings(FEW, max_examples=400)
@given(path=st.sampled_from(PATHS), body=JSON)
def test_no_body_is_a_fault_of_the_server(face: testing.TestClient, path: str, body: Any) -> None:
    found = face.simulate_post(
        path, body=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert found.status_code < 500
    assert "NaN" not in found.text
    assert "Infinity" not in found.text


NUMBERS = st.floats(width=32) | st.floats() | st.integers() | st.booleans() | st.text(max_size=2)


@settings(FEW, max_examples=200)
@given(
    rows=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=3),
    path=st.sampled_from(PATHS[1:]),
)
def test_no_number_comes_out_as_none(
    face: testing.TestClient, rows: list[list[Any]], path: str
) -> None:
    """Bodies of the right form with any numbers: 200 with finite ones, or 4xx."""
    if path.endswith("infer"):
        flat = [number for row in rows for number in row]
        tensor = {"name": "input", "datatype": "FP32", "shape": [len(rows), 3], "data": flat}
        body: Any = {"inputs": [tensor]}
    else:
        body = {"inputs": {"input": rows}}
    found = face.simulate_post(
        path, body=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert found.status_code < 500
    json.loads(found.text, parse_constant=pytest.fail)
    if found.status_code == 200:
        assert "null" not in json.dumps(found.json.get("predictions", found.json.get("outputs")))
