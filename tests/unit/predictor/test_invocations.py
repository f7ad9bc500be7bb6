"""MLflow's scoring format: its four kinds of body, and errors as its server tells them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import clients
import pytest
from falcon import testing

from kt import http
from kt.errors import Invalid
from kt.predictor import predict
from kt.predictor.app import routes
from kt.predictor.host import make_host
from kt.predictor.later import LATER, Deferred, bodies
from kt.predictor.run import run

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export talks about its own internals

ROWS = [[0.5, 1, 2], [3, 4, 5]]
BODY = {"student_id": "s-1", "answers": [{"item": "1", "response": 0}], "items": ["3"]}


class Face(testing.TestClient):
    """model: what kt.toml names."""

    def __init__(self, root: Path, model: str) -> None:
        (root / "kt.toml").write_text(f'model = "{model}"\n')
        self.host = make_host(root)
        self.host.open()
        super().__init__(routes(self.host))

    def post(self, body: Any, path: str = "/invocations") -> testing.Result:
        data = body if isinstance(body, str) else json.dumps(body)
        return self.simulate_post(path, body=data, headers={"Content-Type": "application/json"})

    def score(self, **body: Any) -> Any:
        found = self.post(body)
        assert found.status_code == 200, found.json
        return found.json["predictions"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clients.both(tmp_path_factory.mktemp("clients") / "w").root


@pytest.fixture(scope="module")
def mlp(root: Path) -> Face:
    return Face(root, "mlp")


@pytest.fixture(scope="module")
def tutor(root: Path) -> Face:
    return Face(root, "tutor")


def test_rows_of_a_program_are_stacked_and_its_one_output_comes_back(mlp: Face) -> None:
    said = mlp.post({"inputs": {"input": ROWS}}, "/predict").json["predictions"][0]["data"]
    assert mlp.score(inputs={"input": ROWS}) == said
    assert mlp.score(inputs=ROWS) == said
    assert mlp.score(instances=ROWS) == said
    assert mlp.score(instances=[{"input": row} for row in ROWS]) == said
    assert mlp.score(dataframe_records=[{"input": row} for row in ROWS]) == said
    table = {"index": [0, 1], "columns": ["input"], "data": [[row] for row in ROWS]}
    assert mlp.score(dataframe_split=table) == said


def test_rows_about_students_are_each_a_request(tutor: Face) -> None:
    said = tutor.post(BODY, "/predict").json["predictions"]
    assert tutor.score(inputs=[BODY]) == [said]
    for given in ({"instances": [BODY] * 2}, {"dataframe_records": [BODY] * 20}):
        (rows,) = given.values()
        found = [row[0]["expected"] for row in tutor.score(**given)]
        assert found == pytest.approx(
            [said[0]["expected"]] * len(rows)
        )  # together, not bit for bit
    table = {"columns": list(BODY), "data": [list(BODY.values())]}
    assert tutor.score(dataframe_split=table) == [said]
    tensors = tutor.score(inputs={"items": ["1"], "responses": [0], "asked": ["3"]})
    assert tensors["probabilities"] == [said[0]["probabilities"]]


def test_rows_are_answered_together_with_what_other_clients_ask(
    tutor: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch for all that waited; a request that fails spoils no other."""
    bad = BODY | {"answers": [{"item": "1", "response": 7}]}
    given = [
        ("/predict", BODY),
        ("/invocations", {"instances": [BODY, BODY]}),
        ("/invocations", {"instances": [BODY, bad]}),
        ("/v2/models/tutor/infer", {"inputs": [{"name": "asked", "datatype": "BYTES", "shape": [1], "data": ["3"]}]}),
        ("/invocations", {"inputs": {"asked": ["3"]}}),
    ]  # fmt: skip
    later: list[Deferred] = []
    for path, body in given:
        http.call(tutor.app, http.environ("POST", path, json.dumps(body).encode()) | {LATER: later})
    assert [len(one.asked) for one in later] == [1, 2, 2, 1, 1]
    sizes: list[int] = []

    def seen(engine: Any, requests: list[Any]) -> Any:
        sizes.append(len(requests))
        return run(engine, requests)

    monkeypatch.setattr(predict, "run", seen)
    alone, rows, wrong, tensors, inputs = bodies(tutor.host, later)
    assert sizes == [7]
    assert alone["predictions"][0]["probabilities"] == pytest.approx(
        rows["predictions"][1][0]["probabilities"]
    )
    assert isinstance(wrong, Invalid)
    assert tensors["outputs"][1]["data"] == pytest.approx(inputs["predictions"]["probabilities"][0])
    sizes.clear()
    bodies(tutor.host, later[1:2] * 4 + [Deferred(later[1].asked * 5, len)])
    assert sizes == [8, 8, 2]
    sizes.clear()
    bodies(tutor.host, later[:1] * 20)
    assert sizes == [20]


def test_who_answered_stands_beside_the_predictions(tutor: Face) -> None:
    found = tutor.post({"instances": [BODY, BODY]}).json["served_by"]
    assert [one["version"] for one in found] == ["v1", "v1"]
    assert found[0]["prediction_id"] != found[1]["prediction_id"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("[]", "object"),
        ("{}", "exactly one"),
        ("{", "JSON"),
        ('{"inputs": [NaN]}', "JSON"),
        ({"instances": ROWS, "inputs": ROWS}, "exactly one"),
        ({"instances": None}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": 3}, "instances"),
        ({"instances": [[1, 2]]}, "inputs.input"),
        ({"instances": [{"input": [1, 2, 3]}, {"x": 1}]}, "1: must have the names"),
        ({"instances": [{"x": [1, 2, 3]}]}, "inputs"),
        ({"dataframe_split": {"columns": ["input"], "data": [[1, 2]]}}, "dataframe_split.data.0"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "twice"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data"),
    ],
)
def test_what_is_wrong_is_told_as_mlflow_does(mlp: Face, body: Any, word: str) -> None:
    found = mlp.post(body)
    assert 400 <= found.status_code < 500
    assert found.headers["content-type"] == "application/json"
    assert found.json["error_code"] == "BAD_REQUEST"
    assert word in found.json["message"]


def test_the_bad_row_is_named(tutor: Face) -> None:
    found = tutor.post({"instances": [BODY, BODY | {"answers": [{"item": "1", "response": 7}]}]})
    assert found.status_code == 422
    assert "response is 7" in found.json["message"]
    found = tutor.post({"dataframe_records": [BODY, {"items": ["1"]}]})
    assert found.json["message"].startswith("dataframe_records.1.answers: ")
    found = tutor.post({"instances": [3]})
    assert found.json["message"].startswith("instances.0: ")


def test_the_model_is_the_one_there_is_or_the_one_that_is_set(root: Path) -> None:
    found = Face(root, "").post({"instances": ROWS})
    assert found.status_code == 422
    assert "a model must be named" in found.json["message"]


def test_ping_and_version(mlp: Face) -> None:
    assert mlp.simulate_get("/ping").status_code == 200
    assert mlp.simulate_get("/version").text


@pytest.mark.skipif(
    not importlib.util.find_spec("mlflow"), reason="mlflow is not installed: pip install .[mlflow]"
)
def test_mlflow_reads_what_it_writes_itself(mlp: Face) -> None:
    """Its own writer of requests and its own reader of answers."""
    import numpy as np
    import pandas as pd
    from mlflow.deployments import PredictionsResponse
    from mlflow.utils.proto_json_utils import dump_input_data

    said = mlp.score(inputs=ROWS)
    frame = pd.DataFrame({"input": ROWS})
    for given in (np.array(ROWS), ROWS, frame, json.dumps({"instances": ROWS})):
        found = mlp.post(dump_input_data(given)).text
        answer = PredictionsResponse.from_json(found)
        np.testing.assert_allclose(
            answer.get_predictions(predictions_format="ndarray"), np.array(said)
        )
