"""Clients that exist talk to a running predictor: tritonclient, MLflow's, and kt's own."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import clients
import numpy as np
import pytest
from predictors import Serving, serving

from kt.client import Client, Problem

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROWS = np.array([[0.5, 1, 2], [3, 4, 5]], np.float32)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = clients.both(tmp_path_factory.mktemp("clients") / "w")
    made.settings('model = "mlp"\n')
    with serving(made) as found:
        yield found


@pytest.fixture
def client(running: Serving) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{running.port}") as made:
        yield made


@pytest.fixture
def said(client: Client) -> np.ndarray:
    answer = client.predict({"inputs": {"input": ROWS.tolist()}}, model="mlp")
    return np.array(answer.predictions[0]["data"], np.float32)


def test_kt_client(client: Client) -> None:
    health = client.health()
    assert (health.status, health.seq) == ("ok", 1)
    assert {one.name: one.active for one in client.models()} == {"tutor": "v1", "mlp": "v1"}
    answer = client.predict({"answers": [], "items": ["3"]}, model="tutor")
    assert (answer.model, answer.version, len(answer.predictions)) == ("tutor", "v1", 1)
    with pytest.raises(Problem) as caught:
        client.predict({"answers": [], "items": []}, model="tutor")
    assert (caught.value.status, caught.value.where) == (422, "items")
    with pytest.raises(Problem) as caught:
        client.predict({}, model="nobody")
    assert caught.value.status == 404


def test_tritonclient(running: Serving, said: np.ndarray) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="its client is not installed")
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mlp")
        assert client.is_model_ready("mlp", "v1")
        assert not client.is_model_ready("nobody")
        assert client.get_server_metadata()["name"] == "kt"
        (takes,) = client.get_model_metadata("mlp")["inputs"]

        x = triton.InferInput(takes["name"], ROWS.shape, takes["datatype"])
        x.set_data_from_numpy(ROWS, binary_data=False)
        found = client.infer("mlp", [x], request_id="r-1", parameters={"unit": "s-1"})
        np.testing.assert_array_equal(found.as_numpy("output"), said)
        assert found.get_response()["id"] == "r-1"
        assert found.get_response()["parameters"]["prediction_id"]
        wanted = [triton.InferRequestedOutput("output", binary_data=False)]
        found = client.infer("mlp", [x], model_version="v1", outputs=wanted)
        np.testing.assert_array_equal(found.as_numpy("output"), said)

        refused = client_error(triton, client, "nobody", x)
        assert (refused.status(), "there is no model nobody" in refused.message()) == ("404", True)
        x.set_data_from_numpy(ROWS, binary_data=True)
        assert "binary_data=False" in client_error(triton, client, "mlp", x).message()


def client_error(triton: Any, client: Any, model: str, tensor: Any) -> Any:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor])
    return caught.value


def test_tritonclient_asks_about_a_student(running: Serving, client: Client) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="its client is not installed")
    request = {"answers": [{"item": "1", "response": 1}], "items": ["2", "3"]}
    said = client.predict(request, model="tutor").predictions
    given = {"items": ["1"], "responses": [1], "asked": ["2", "3"]}
    inputs = []
    for name, values in given.items():
        array = np.array(values, np.int64 if name == "responses" else object)
        kind = "INT64" if name == "responses" else "BYTES"
        inputs.append(triton.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array, binary_data=False)
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as other:
        found = other.infer("tutor", inputs, parameters={"student_id": "s-1"})
    np.testing.assert_allclose(
        found.as_numpy("probabilities"), [one["probabilities"] for one in said], rtol=1e-6
    )
    assert found.as_numpy("item").tolist() == ["2", "3"]


@pytest.mark.skipif(
    not importlib.util.find_spec("mlflow"), reason="mlflow is not installed: pip install .[mlflow]"
)
def test_mlflow_client(running: Serving, said: np.ndarray) -> None:
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", running.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    for given in (ROWS, pd.DataFrame({"input": ROWS.tolist()})):
        found = client.invoke(given).get_predictions(predictions_format="ndarray")
        np.testing.assert_allclose(found, said, rtol=1e-6)
    with pytest.raises(Exception, match="BAD_REQUEST"):
        client.invoke(np.zeros((1, 4)))
