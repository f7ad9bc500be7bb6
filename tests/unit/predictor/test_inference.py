"""The Open Inference Protocol: tensors by name, errors as it tells them, the split as /predict has it."""

import json
from pathlib import Path
from typing import Any

import clients
import pytest
from falcon import testing
from predictors import make

from kt.deployments.manifest import fraction
from kt.predictor.app import routes
from kt.predictor.host import make_host

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export talks about its own internals

X = {"name": "input", "datatype": "FP32", "shape": [2, 3], "data": [0.5, 1, 2, 3, 4, 5]}
TRACE = [
    {"name": "items", "datatype": "BYTES", "shape": [2], "data": ["1", "2"]},
    {"name": "responses", "datatype": "INT64", "shape": [2], "data": [0, 1]},
    {"name": "asked", "datatype": "BYTES", "shape": [1], "data": ["3"]},
]


class Face(testing.TestClient):
    def __init__(self, root: Path) -> None:
        host = make_host(root)
        host.open()
        assert host.state.status == "ok", host.state
        super().__init__(routes(host))

    def infer(self, name: str, *inputs: Any, **more: Any) -> testing.Result:
        return self.post(f"/v2/models/{name}/infer", {"inputs": inputs} | more)

    def post(self, path: str, body: Any, **headers: str) -> testing.Result:
        headers = {"Content-Type": "application/json"} | headers
        return self.simulate_post(path, body=json.dumps(body), headers=headers)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clients.both(tmp_path_factory.mktemp("clients") / "w").root


@pytest.fixture(scope="module")
def face(root: Path) -> Face:
    return Face(root)


def test_a_server_and_its_models_describe_themselves(face: Face) -> None:
    assert face.simulate_get("/v2").json["name"] == "kt"
    assert face.simulate_get("/v2/health/live").json == {"live": True}
    assert face.simulate_get("/v2/health/ready").json == {"ready": True}
    for path in ("/v2/models/mlp", "/v2/models/mlp/versions/v1"):
        assert face.simulate_get(f"{path}/ready").json == {"name": "mlp", "ready": True}
        assert face.simulate_get(path).json == {
            "name": "mlp",
            "versions": ["v1"],
            "platform": "pytorch",
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 2]}],
        }
    tutor = face.simulate_get("/v2/models/tutor").json
    assert [port["name"] for port in tutor["inputs"]] == ["items", "responses", "asked"]
    assert tutor["outputs"][1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}


def test_it_gives_the_numbers_that_predict_gives(face: Face) -> None:
    rows = [[0.5, 1, 2], [3, 4, 5]]
    said = face.post("/models/mlp/predict", {"inputs": {"input": rows}}).json["predictions"][0]
    for data in (X["data"], rows):
        found = face.infer("mlp", X | {"data": data}).json
        assert found["outputs"] == [
            {
                "name": "output",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": said["data"][0] + said["data"][1],
            }
        ]
        assert (found["model_name"], found["model_version"]) == ("mlp", "v1")
        assert len(found["parameters"]["prediction_id"]) == 32


def test_a_student_can_be_asked_about_in_tensors(face: Face) -> None:
    body = {
        "student_id": "s-1",
        "answers": [{"item": "1", "response": 0}, {"item": "2", "response": 1}],
        "items": ["3"],
    }
    (said,) = face.post("/models/tutor/predict", body).json["predictions"]
    found = {one["name"]: one for one in face.infer("tutor", *TRACE).json["outputs"]}
    assert found["probabilities"]["data"] == said["probabilities"]
    assert found["probabilities"]["shape"] == [1, 2]
    assert found["item"]["data"] == ["3"]
    assert found["decision"]["data"] == [said["decision"]]


def test_only_the_outputs_asked_for_come_back(face: Face) -> None:
    found = face.infer("tutor", *TRACE, outputs=[{"name": "expected"}], id="r-1").json
    assert [one["name"] for one in found["outputs"]] == ["expected"]
    assert found["id"] == "r-1"
    refused = face.infer("tutor", *TRACE, outputs=[{"name": "nothing"}])
    assert refused.status_code == 422
    assert "there is no output nothing" in refused.json["error"]


@pytest.mark.parametrize(
    "said", [{"parameters": {"student_id": "%s"}}, {"parameters": {"unit": "%s"}}, {"id": "%s"}]
)
def test_a_unit_stays_with_its_variant(tmp_path: Path, said: Any) -> None:
    made = clients.both(tmp_path / "w")
    clients.tutor(made, "v2")
    clients.route(made, "v2")
    face = Face(made.root)
    for n in range(12):
        found = face.infer("tutor", *TRACE, **json.loads(json.dumps(said) % f"s-{n}")).json
        treated = fraction("trial", f"s-{n}") < 0.5
        assert found["model_version"] == ("v2" if treated else "v1")
        assert found["parameters"]["variant"] == ("treatment" if treated else "control")
        assert "assigned" not in found["parameters"]
    assert face.infer("tutor", *TRACE).json["parameters"]["assigned"] == "random"
    assert face.simulate_get("/v2/models/tutor").json["versions"] == ["v1", "v2"]
    pinned = face.post("/v2/models/tutor/versions/v2/infer", {"inputs": TRACE})
    assert (pinned.status_code, "experiment trial" in pinned.json["error"]) == (409, True)


BAD: list[tuple[Any, int, str]] = [
    ([], 422, "object"),
    ({}, 422, "inputs"),
    ({"inputs": []}, 422, "inputs"),
    ({"inputs": [X, X]}, 422, "twice"),
    ({"inputs": [X | {"name": "y"}]}, 422, "inputs.y"),
    ({"inputs": [X | {"datatype": "FP64"}]}, 422, "FP32"),
    ({"inputs": [X | {"datatype": "nothing"}]}, 422, "FP32"),
    ({"inputs": [X | {"shape": [2, 4]}]}, 422, "inputs.input"),
    ({"inputs": [X | {"shape": [3, 2]}]}, 422, "inputs.input"),
    ({"inputs": [X | {"shape": [-1, 3]}]}, 422, "shape"),
    ({"inputs": [X | {"shape": [10**9, 0], "data": []}]}, 422, "elements"),
    ({"inputs": [X | {"data": [1, [2], 3, 4, 5, 6]}]}, 422, "lengths"),
    ({"inputs": [X | {"data": [[1, 2], [3, 4], [5, 6]]}]}, 422, "shape"),
    ({"inputs": [X | {"data": ["a"] * 6}]}, 422, "datatype"),
    ({"inputs": [X | {"data": [True] * 6}]}, 422, "datatype"),
    ({"inputs": [X | {"data": [1e300] * 6}]}, 422, "float32"),
    ({"inputs": [X], "parameters": {"unit": []}}, 422, "parameters"),
]


@pytest.mark.parametrize(("body", "status", "word"), BAD)
def test_what_is_wrong_is_told_in_the_words_of_the_protocol(
    face: Face, body: Any, status: int, word: str
) -> None:
    found = face.post("/v2/models/mlp/infer", body)
    assert (found.status_code, found.headers["content-type"]) == (status, "application/json")
    assert list(found.json) == ["error"]
    assert word in found.json["error"]
    assert len(found.content) < 2_000


def test_so_is_what_is_not_there(face: Face) -> None:
    for path in (
        "/v2/models/x",
        "/v2/models/mlp/versions/v9",
        "/v2/nothing",
        "/v2/models/mlp/versions//",
    ):
        found = face.simulate_get(path)
        assert (found.status_code, list(found.json)) == (404, ["error"])
    found = face.simulate_delete("/v2/models/mlp")
    assert (found.status_code, list(found.json)) == (405, ["error"])
    assert face.simulate_get("/nothing").headers["content-type"] == "application/problem+json"


def test_a_body_that_does_not_say_what_it_is_is_read_where_no_page_sent_it(face: Face) -> None:
    path, body = "/v2/models/mlp/infer", json.dumps({"inputs": [X]})
    assert face.simulate_post(path, body=body).status_code == 200
    page = {"Origin": "https://elsewhere.example"}
    assert face.simulate_post(path, body=body, headers=page).status_code == 415
    assert face.simulate_post("/models/mlp/predict", body=body).status_code == 415
    for header in ({"Inference-Header-Content-Length": "9"}, {"Content-Encoding": "gzip"}):
        assert face.simulate_post(path, body=body, headers=header).status_code == 415


def test_a_form_without_tensors_says_so(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.add("v1")
    made.deploy(1, toy=made.route("v1"))
    found = Face(made.root).infer("toy", X)
    assert found.status_code == 422
    assert "/models/toy/predict" in found.json["error"]
