"""Any torch.export program is served as data, and only data is taken from its file."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim, export, save

from kt.errors import Invalid
from kt.models import exported, tensors
from kt.registry import archive, program

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export talks about its own internals


class Several(nn.Module):
    """Two inputs, three outputs, a size computed from a shape, a buffer, a dropout that must be off."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.drop, self.narrow = nn.Dropout(0.5), nn.Linear(16, 3)

    def forward(
        self, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = self.drop(self.norm(torch.relu(self.widen(x))))
        return self.narrow(h) * y.unsqueeze(-1), x.sum(-1), x.reshape(x.shape[0] * 2, 4)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.recur = nn.GRU(32, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recur(self.encode(self.embed(x)))[0]


BATCH = Dim("batch", min=1, max=64)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...], object]] = {
    "several inputs and outputs": (
        Several,
        (torch.randn(4, 8), torch.randn(4)),
        ({0: BATCH}, {0: BATCH}),
    ),
    "transformer and GRU": (Sequence, (torch.randint(0, 10, (2, 7)),), ({0: BATCH},)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
        ),
        (torch.randn(2, 3, 8, 8),),
        ({0: BATCH},),
    ),
    "fixed shapes": (lambda: nn.LSTM(4, 5, batch_first=True), (torch.randn(2, 3, 4),), None),
}


def write(path: Path, name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    make, arguments, shapes = MODELS[name]
    model = make().eval()
    save(export(model, arguments, dynamic_shapes=shapes), path)
    return model, arguments


def opened(path: Path) -> exported.Model:
    weights, config = program.read(path, path)
    model = exported.Model(exported.Config.model_validate(config))
    model.load_state_dict(weights, strict=True)
    return model.eval()


def flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    assert isinstance(value, tuple | list)
    return [tensor for part in value for tensor in flat(part)]


@pytest.mark.parametrize("name", MODELS)
def test_a_program_answers_what_the_model_answered(tmp_path: Path, name: str):
    model, arguments = write(tmp_path / "m.pt2", name)
    served = opened(tmp_path / "m.pt2")
    signature = exported.signature(served_config(tmp_path / "m.pt2"))
    results = served(
        **dict(zip([tensor.name for tensor in signature.inputs], arguments, strict=True))
    )
    for result, expected in zip(results, flat(model(*arguments)), strict=True):
        torch.testing.assert_close(result, expected)


def served_config(path: Path) -> exported.Config:
    return exported.Config.model_validate(program.read(path, path)[1])


@pytest.mark.parametrize("name", MODELS)
def test_requests_together_get_what_each_gets_alone(tmp_path: Path, name: str):
    write(tmp_path / "m.pt2", name)
    served, signature = (
        opened(tmp_path / "m.pt2"),
        exported.signature(served_config(tmp_path / "m.pt2")),
    )
    requests = tensors.example(signature, np.random.default_rng(0), 3)

    def answers(batch: list[tensors.Request]) -> list[list[dict[str, object]]]:
        arrays = {
            key: torch.from_numpy(array) for key, array in tensors.collate(batch, signature).items()
        }
        with torch.inference_mode():
            outputs = {key: tensor.numpy() for key, tensor in served.serve(**arrays).items()}
        return tensors.answer(outputs, batch, signature)

    for together, request in zip(answers(requests), requests, strict=True):
        for one, other in zip(together, answers([request])[0], strict=True):
            np.testing.assert_allclose(one["data"], other["data"], atol=1e-5)


def rewritten(
    path: Path, change: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None
) -> Path:
    """A copy of an archive with records changed, left out (None) or added."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            data = change(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in (extra or {}).items():
            new.writestr(f"{root}/{name}", data)
    return out


def with_target(target: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not name.startswith("models/"):
            return data
        graph = json.loads(data)
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target
        return json.dumps(graph).encode()

    return change


@pytest.mark.parametrize(
    "target",
    [
        "builtins.eval.__call__.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.higher_order.cond",
        "torch.ops.mine.op.default",
        "os.system",
        "torch.ops.aten.linear",
        "torch.ops.aten.__class__.default",
    ],
)
def test_only_operators_of_aten_that_compute_are_run(tmp_path: Path, target: str):
    write(tmp_path / "m.pt2", "convolution")
    changed = rewritten(tmp_path / "m.pt2", with_target(target))
    with pytest.raises(Invalid, match="program calls"):
        opened(changed)


def test_a_pickled_weight_is_refused(tmp_path: Path):
    write(tmp_path / "m.pt2", "convolution")

    def change(name: str, data: bytes) -> bytes:
        return (
            data.replace(b'"use_pickle": false', b'"use_pickle": true')
            if name.endswith("weights_config.json")
            else data
        )

    with pytest.raises(Invalid, match="pickle, which is code"):
        opened(rewritten(tmp_path / "m.pt2", change))


def test_sample_inputs_are_never_read(tmp_path: Path):
    """They are a pickle: what is in them does not matter."""
    write(tmp_path / "m.pt2", "convolution")
    changed = rewritten(
        tmp_path / "m.pt2",
        lambda name, data: b"\x80\x04cos\nsystem\n." if "sample_inputs" in name else data,
    )
    assert opened(changed).steps


def test_compiled_code_is_refused(tmp_path: Path):
    write(tmp_path / "m.pt2", "convolution")
    changed = rewritten(
        tmp_path / "m.pt2", lambda _, data: data, {"data/aotinductor/model/model.so": b"\x7fELF"}
    )
    with pytest.raises(Invalid, match="does not belong there"):
        program.read(changed, changed)


@pytest.mark.parametrize("missing", ["models/", "weights_config.json"])
def test_an_archive_with_something_missing_is_refused_in_one_line(tmp_path: Path, missing: str):
    write(tmp_path / "m.pt2", "convolution")
    changed = rewritten(tmp_path / "m.pt2", lambda name, data: None if missing in name else data)
    with pytest.raises(Invalid) as caught:
        opened(changed)
    assert "\n" not in str(caught.value)


def test_a_program_that_changes_what_it_is_given_is_refused(tmp_path: Path):
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.zero_()
            return x + 1

    stream = io.BytesIO()
    save(export(Writes(), (torch.randn(2),)), stream)
    (tmp_path / "m.pt2").write_bytes(stream.getvalue())
    with pytest.raises(Invalid, match=r"changes what it is given|no operator"):
        opened(tmp_path / "m.pt2")


def test_the_archive_of_a_program_passes_the_structural_check(tmp_path: Path):
    write(tmp_path / "m.pt2", "fixed shapes")
    archive.only(archive.names(tmp_path / "m.pt2"), rf"{archive.PROGRAM}|{archive.TEXT}")


SIGNATURE = tensors.Signature(
    inputs=(
        tensors.Tensor(
            name="x",
            dtype="float32",
            axes=(tensors.Axis(name="n", least=1, most=4), tensors.Axis(least=2, most=2)),
        ),
        tensors.Tensor(name="k", dtype="int8", axes=(tensors.Axis(name="n", least=1, most=4),)),
    ),
    outputs=("output",),
)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"x": [[1, 2]]}, "inputs.k"),
        ({"x": [[1, 2]], "k": [1], "y": [1]}, "inputs.y"),
        ({"x": [[1, 2], [3]], "k": [1, 2]}, "inputs.x"),
        ({"x": [[1, 2, 3]], "k": [1]}, "inputs.x"),
        ({"x": [[1, 2]] * 5, "k": [1] * 5}, "inputs.x"),
        ({"x": [["a", "b"]], "k": [1]}, "inputs.x"),
        ({"x": [[1e300, 2]], "k": [1]}, "inputs.x"),
        ({"x": [[1, 2]], "k": [1.5]}, "inputs.k"),
        ({"x": [[1, 2]], "k": [300]}, "inputs.k"),
        ({"x": [[True, 2]], "k": [1]}, "inputs.x"),
        ({"x": [[1, 2]], "k": [True]}, "inputs.k"),
        ({"x": [[1, 2]], "k": [2**63, -1]}, "inputs.k"),
        ({"x": [[1] * 1_000 + ["a" * 10_000]], "k": [1]}, "inputs.x"),
        ({"x": [[1, 2], [3, 4]], "k": [1]}, "inputs.k"),
        ({"x": 3, "k": [1]}, "inputs.x"),
        ({"x": None, "k": [1]}, "inputs.x"),
        ({"x": {"a": 1}, "k": [1]}, "inputs.x"),
        ({"x": [[10**400, 1]], "k": [1]}, "inputs.x"),
    ],
)
def test_an_input_that_does_not_fit_is_named(inputs: dict[str, object], field: str):
    with pytest.raises(Invalid) as caught:
        tensors.collate([tensors.Request(inputs=inputs)], SIGNATURE)
    assert caught.value.where == field


@pytest.mark.parametrize("name", MODELS)
def test_a_tensor_goes_in_and_comes_out_as_itself(tmp_path: Path, name: str):
    model, arguments = write(tmp_path / "m.pt2", name)
    signature = exported.signature(served_config(tmp_path / "m.pt2"))
    takes, gives = tensors.ports(signature)
    given = {port.name: array.tolist() for port, array in zip(takes, arguments, strict=True)}
    request = tensors.Request.model_validate(tensors.fields(given, signature))
    arrays = tensors.collate([request], signature)
    for array, expected in zip(arrays.values(), arguments, strict=True):
        np.testing.assert_array_equal(array[0], expected)
    results = [result.detach().numpy() for result in flat(model(*arguments))]
    outputs = {port.name: result[None] for port, result in zip(gives, results, strict=True)}
    found = tensors.tensors(tensors.answer(outputs, [request], signature)[0])
    for port, result in zip(gives, results, strict=True):
        np.testing.assert_array_equal(found[port.name], result)
        assert found[port.name].dtype == port.dtype == result.dtype
        assert len(port.shape) == result.ndim


def test_a_whole_number_may_stand_for_a_real_one():
    arrays = tensors.collate([tensors.Request(inputs={"x": [[1, 2]], "k": [3]})], SIGNATURE)
    assert arrays["x"].dtype == np.float32
    assert arrays["k"].tolist() == [[3]]


def test_a_signature_that_takes_less_is_narrower():
    tighter = tensors.Signature(
        inputs=(
            SIGNATURE.inputs[0].model_copy(
                update={
                    "axes": (tensors.Axis(name="n", least=1, most=3), SIGNATURE.inputs[0].axes[1])
                }
            ),
            SIGNATURE.inputs[1],
        ),
        outputs=("output",),
    )
    assert not tensors.narrower(SIGNATURE, SIGNATURE)
    assert not tensors.narrower(tighter, SIGNATURE)
    assert "x is float32" in tensors.narrower(SIGNATURE, tighter)
