"""A file that is code runs only on a person's word, shut in, and what is served of it is plain data."""

import functools
import io
import json
import socket
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forge
import joblib
import numpy as np
import pytest
import torch
from conftest import Kt
from safetensors.torch import save_file
from torch import nn

from kt import staging
from kt.deployments import audit, deploy, verify
from kt.deployments.history import State
from kt.errors import Invalid, KtError, Refused
from kt.registry import checkpoint, confine, door, program, record, register, trusted
from kt.registry.record import VersionRecord
from kt.registry.register import Request
from kt.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export talks about its own internals

NETS = '''
"""What a team keeps beside its models."""
import torch
from torch import nn

class Net(nn.Module):
    """Two layers, a dropout that must be off, and a batch of any size."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.widen, self.narrow, self.drop = nn.Linear(4, width), nn.Linear(width, 2), nn.Dropout(0.5)

    def forward(self, x):
        return torch.softmax(self.narrow(self.drop(torch.relu(self.widen(x)))), -1)

class Fixed(Net):
    """Takes three rows and no other number of them."""

    def forward(self, x):
        return super().forward(x.reshape(3, 4))

class Moody(Net):
    """Answers by chance."""

    def forward(self, x):
        return super().forward(x + torch.rand(()))
'''
FAMILY = '''
"""The same network as a family."""
import torch
from kt.models import tensors as FORM
from kt.models.tensors import Axis, Signature, Tensor
from pydantic import BaseModel

import nets_of_ours

METRIC = ""

class Config(BaseModel):
    width: int = 8

class Model(nets_of_ours.Net):
    def __init__(self, config):
        super().__init__(config.width)

    def serve(self, x):
        return {"output": torch.stack([self(rows) for rows in x])}

def signature(config):
    axes = (Axis(name="rows", least=1, most=8), Axis(least=4, most=4))
    return Signature(inputs=(Tensor(name="x", dtype="float32", axes=axes),), outputs=("output",))
'''
ROWS = [[0.1, 0.2, 0.3, 0.4], [1.0, -2.0, 0.5, 3.0]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the team's modules in it, of which this process imports."""
    made = forge.workspace(tmp_path / "w")
    (made.root / "nets_of_ours.py").write_text(NETS)
    (made.root / "family_of_ours.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(made.root)
    (tmp_path / "example.json").write_text(json.dumps({"inputs": {"x": ROWS}}))
    yield made  # type: ignore[misc]
    for name in ("nets_of_ours", "family_of_ours"):
        sys.modules.pop(name, None)


def net(name: str = "Net", seed: int = 0) -> nn.Module:
    import nets_of_ours  # type: ignore[import-not-found]

    torch.manual_seed(seed)
    made: nn.Module = getattr(nets_of_ours, name)()
    return made


def legacy_program(model: nn.Module, path: Path) -> None:
    """A program as torch before 2.9 wrote it: its weights are pickles."""
    from torch._export.serde.serialize import serialize

    whole = serialize(torch.export.export(model.eval(), (torch.tensor(ROWS),)))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("serialized_exported_program.json", whole.exported_program)
        file.writestr("serialized_state_dict.pt", whole.state_dict)
        file.writestr("serialized_constants.pt", whole.constants)
        file.writestr("serialized_example_inputs.pt", whole.example_inputs)
        file.writestr("version", "8.1")


def program_with_a_pickle(model: nn.Module, path: Path) -> None:
    """A program of today, one of whose weights is pickled."""
    plain = io.BytesIO()
    torch.export.save(torch.export.export(model.eval(), (torch.tensor(ROWS),)), plain)
    weights = io.BytesIO()
    torch.save(dict(model.named_parameters())["widen.weight"], weights)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("weights_config.json"):
                listed = json.loads(data)
                entry = listed["config"]["widen.weight"]
                entry["use_pickle"] = True
                changed = name.rpartition("/")[0] + "/" + entry["path_name"]
                data = json.dumps(listed).encode()
            new.writestr(name, data)
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in records.items():
            new.writestr(name, weights.getvalue() if name == changed else data)


def scripted(model: nn.Module, path: Path) -> None:
    torch.jit.script(model.eval()).save(str(path))  # type: ignore[no-untyped-call]


def by_trace(model: nn.Module, path: Path) -> None:
    torch.jit.trace(model.eval(), torch.tensor(ROWS)).save(str(path))  # type: ignore[no-untyped-call]


WRITERS: dict[str, Callable[[nn.Module, Path], object]] = {
    "a pickled module": torch.save,
    "a module in the old format": lambda model, path: torch.save(
        model, path, _use_new_zipfile_serialization=False
    ),
    "a module under a key": lambda model, path: torch.save({"model": model, "epoch": 3}, path),
    "joblib": joblib.dump,
    "joblib, compressed": lambda model, path: joblib.dump(model, path, compress=3),
    "scripted": scripted,
    "traced": by_trace,
    "a program with a pickled weight": program_with_a_pickle,
    "a program of an older torch": legacy_program,
}


def rewritten(place: Workspace, path: Path, folder: Path, **more: Any) -> Path:
    """What the child leaves of a file, here in this process."""
    folder.mkdir()
    settings = {"family": "", "example": place.root.parent / "example.json"} | more
    with checkpoint.opening(path, code=True) as (file, source):
        trusted.rewrite(place.root, file, source, path, folder, **settings)
    return folder / trusted.LEFT


def deployed(place: Workspace, path: Path, **more: Any) -> None:
    """kt deploy FILE, of a file that is data."""
    request = Request(path, model="net", by="ana", at=forge.STAMP.at, **more)
    with staging.staging(place) as folder, checkpoint.opening(path) as (file, source):
        ready = register.prepare(place, request, file, source, folder, {}, lambda *_: None)
        deploy.deploy(place, ready, forge.STAMP, traffic=None, experiment="", dry_run=False)


def answer(kt: Kt, place: Workspace) -> np.ndarray:
    said = kt("predict", "net", "--data", json.dumps({"inputs": {"x": ROWS}}), "--json", at=place)
    return np.array(said.result["predictions"][0]["data"])


@pytest.mark.parametrize("what", WRITERS)
def test_what_is_served_answers_as_the_model_did(
    what: str, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    model = net()
    WRITERS[what](model, tmp_path / "m")
    with pytest.raises(Invalid) as error, checkpoint.opening(tmp_path / "m") as (file, source):
        checkpoint.read(file, source, tmp_path / "m")
    assert "--trust-code REASON" in error.value.do
    deployed(place, rewritten(place, tmp_path / "m", tmp_path / "room"))
    with torch.inference_mode():
        expected = model.eval()(torch.tensor(ROWS)).numpy()
    np.testing.assert_allclose(answer(kt, place), expected, atol=1e-5)


@pytest.mark.parametrize(
    "what", ["a pickled module", "a module under a key", "joblib", "scripted", "a program of an older torch"]
)  # fmt: skip
def test_with_a_family_its_weights_are_taken(
    what: str, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    model = net()
    WRITERS[what](model, tmp_path / "m")
    left = rewritten(
        place, tmp_path / "m", tmp_path / "room", family="family_of_ours", example=None
    )
    deployed(place, left, family="family_of_ours")
    with torch.inference_mode():
        expected = model.eval()(torch.tensor(ROWS)).numpy()
    np.testing.assert_allclose(answer(kt, place), expected, atol=1e-5)


def test_a_checkpoint_with_more_than_weights_gives_its_weights(
    place: Workspace, tmp_path: Path
) -> None:
    whole = {"state_dict": net().state_dict(), "schedule": functools.partial(max, 0.1)}
    torch.save(whole, tmp_path / "m.pt")
    left = rewritten(place, tmp_path / "m.pt", tmp_path / "room", family="family_of_ours")
    assert checkpoint.sniff(left, left) == "safetensors"
    with pytest.raises(Invalid, match="holds weights, no module") as error:
        rewritten(place, tmp_path / "m.pt", tmp_path / "other")
    assert "--family" in error.value.do


def test_what_is_data_runs_no_code(place: Workspace, tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "m.pt")
    assert not rewritten(place, tmp_path / "m.pt", tmp_path / "room").exists()


@pytest.mark.parametrize("what", ["a pickled module", "scripted", "traced"])
def test_a_batch_is_of_any_size_where_the_module_allows_it(
    what: str, place: Workspace, tmp_path: Path
) -> None:
    WRITERS[what](net(), tmp_path / "m")
    left = rewritten(place, tmp_path / "m", tmp_path / "room")
    assert [axis.least for axis in axes(left)] == [1, 4]
    assert axes(left)[0].most > 100
    WRITERS["a pickled module"](net("Fixed"), tmp_path / "f")
    save_file({"x": torch.randn(3, 4)}, tmp_path / "example")
    left = rewritten(place, tmp_path / "f", tmp_path / "other", example=tmp_path / "example")
    assert [axis.most for axis in axes(left)] == [3, 4]


def axes(left: Path) -> Any:
    from kt.models import exported

    config = exported.Config.model_validate(program.read(left, left)[1])
    (x,) = exported.signature(config).inputs
    assert x.name == "x"
    return x.axes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds the module Net"),
        ("", "e.json: cannot be read: No such file"),
        ('{"inputs": {"y": [1.0]}}', "takes the inputs x, the example has y"),
        ('{"inputs": {"x": [[1.0], [1.0, 2.0]]}}', "is no request"),
        ('{"inputs": {"x": [["a"]]}}', "is no request"),
        ("{", "is no request"),
        ('{"inputs": {"x": [[1.0, 2.0]]}}', "cannot be made a program"),
    ],
)
def test_an_example_that_does_not_fit_is_named(
    content: str | None, said: str, place: Workspace, tmp_path: Path
) -> None:
    torch.save(net(), tmp_path / "m.pt")
    example = tmp_path / "e.json"
    if content:
        example.write_text(content)
    with pytest.raises(Invalid, match=said) as error:
        rewritten(
            place,
            tmp_path / "m.pt",
            tmp_path / "room",
            example=None if content is None else example,
        )
    assert "\n" not in str(error.value)
    assert "--family" in error.value.do or "--example" in error.value.do


def test_a_program_that_answers_otherwise_is_not_made(place: Workspace, tmp_path: Path) -> None:
    torch.save(net("Moody"), tmp_path / "m.pt")
    with pytest.raises(Invalid, match="does not answer as it does"):
        rewritten(place, tmp_path / "m.pt", tmp_path / "room")


def test_what_cannot_be_loaded_is_told_in_one_line(place: Workspace, tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "m.pt")
    sys.modules.pop("nets_of_ours")
    (place.root / "nets_of_ours.py").write_text("")
    with pytest.raises(Invalid, match=r"cannot be loaded: AttributeError.*Net") as error:
        rewritten(place, tmp_path / "m.pt", tmp_path / "room")
    assert "workspace's folder" in error.value.do
    assert "__main__" in error.value.do
    joblib.dump([1, 2], tmp_path / "list")
    with pytest.raises(Invalid, match="holds a list, no module"):
        rewritten(place, tmp_path / "list", tmp_path / "other")


class Payload:
    """What a pickle does when it is loaded: text is run as Python."""

    def __init__(self, body: str) -> None:
        self.body = textwrap.dedent(body)

    def __reduce__(self) -> Any:
        return exec, (self.body,)


def trust(place: Workspace, body: str) -> KtError:
    """The error of a file whose code is this."""
    path = place.root / "m.pt"
    torch.save(Payload(body), path)
    request = Request(path, model="net", trust="a test", by="ana", at=forge.STAMP.at)
    with pytest.raises(KtError) as error, door.prepared(place, request, {}, lambda *_: None):
        pass
    assert not any((place.root / ".kt" / "staging").iterdir()), "nothing is left behind"
    assert "\n" not in error.value.what
    return error.value


shut_in = pytest.mark.skipif(
    sys.platform != "linux" or confine.landlock_abi() < 4,
    reason="this kernel cannot shut a process in: no code runs here",
)


@shut_in
@pytest.mark.parametrize(
    "body",
    [
        "import pathlib; pathlib.Path({marker!r}).write_text('x')",
        "import os; os.unlink({history!r})",
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'echo x > {marker}'], check=True)",
        "import socket; socket.create_connection(('127.0.0.1', {port}), 1).send(b'x')",
    ],
)
def test_its_code_neither_writes_nor_starts_programs_nor_reaches_the_network(
    body: str, place: Workspace
) -> None:
    marker, kept = place.root / "marker", place.root / "deployments" / "history.json"
    kept.write_text("[]")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        error = trust(place, body.format(marker=str(marker), history=str(kept), port=port))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "cannot be loaded" in error.what
    assert not marker.exists()
    assert kept.exists()


FORGED = """
import json, os
for line in ({"done": True}, {"step": ["finite", "passed"]}, {"done": {"draft": {}}}, [], 7, "x"):
    for descriptor in range(1, 20):
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\\n")
        except OSError:
            pass
os._exit(0)
"""


@shut_in
def test_what_its_code_says_is_not_believed(place: Workspace) -> None:
    """It says that it is done, and leaves nothing: the strict door opens the file and refuses it."""
    assert "holds more than weights" in trust(place, FORGED).what


@shut_in
@pytest.mark.parametrize(
    "left",
    ["pathlib.Path('left').write_bytes(b'x')", "os.symlink('/etc/passwd', 'left')", "os.mkfifo('left')"],
)  # fmt: skip
def test_what_its_code_leaves_is_a_strangers_file(left: str, place: Workspace) -> None:
    body = f"import os, pathlib\nos.chdir(os.environ['TMPDIR'])\n{left}\n{FORGED}"
    assert isinstance(trust(place, body), Invalid)


@shut_in
def test_a_version_keeps_who_vouched_for_it_and_why(place: Workspace, kt: Kt) -> None:
    torch.save(net(), place.root / "m.pt")
    given = ["m.pt", "--model", "net", "--trust-code", "our own nets", "--reason", "first"]
    example = ["--example", str(place.root.parent / "example.json")]
    assert kt("register", *given, *example, at=place).code == 0
    known = record.read(place, "net", "v1")
    assert (known.trusted, known.reason, known.by) == ("our own nets", "first", "ana")
    assert (known.source.name, known.source.format) == ("m.pt", "torch")
    assert not verify.registry(place, [])
    event = kt("deploy", "net@v1", "--json", at=place).result["event"]
    assert event["trusted"] == "our own nets"
    (row,) = kt("status", "--json", at=place).result["models"]
    assert row["trusted"] == "our own nets"
    assert (
        "net v1 was made by running the code in its file: our own nets"
        in kt("status", at=place).out
    )
    assert "deploy v1, code trusted" in kt("history", at=place).out
    assert "our own nets" in kt("show", "net@v1", at=place).out
    assert kt("status", "--exit-code", at=place).code == 11
    again = kt("deploy", *given, *example, "--json", at=place)
    assert again.result["changed"] is False
    np.testing.assert_allclose(answer(kt, place).sum(-1), 1.0, atol=1e-5)


def trusting(place: Workspace, name: str, reason: str = "ours") -> None:
    """A registered version whose file was code."""
    forge.version(place, "m", name)
    known = record.read(place, "m", name).model_copy(update={"trusted": reason})
    (record.folder(place, "m", name) / record.RECORD).write_bytes(record.dump(known))


def state(place: Workspace) -> State:
    return audit.read(place)[1]


def test_the_mark_stays_while_the_version_serves(place: Workspace) -> None:
    trusting(place, "v1")
    plain = forge.version(place, "m", "v2")
    forge.give(place, deploy.version_of(place, "m", "v1"))
    assert state(place).serving("m").trusted == {"v1": "ours"}
    forge.give(place, plain, 10.0, "x")
    assert state(place).serving("m").trusted == {"v1": "ours"}
    assert b'"trusted":"ours"' in (place.root / "deployments/history.json").read_bytes().replace(
        b" ", b""
    )
    assert (place.root / "deployments/history.json").read_bytes().count(b"trusted") == 1


def test_it_can_be_forbidden(place: Workspace, kt: Kt) -> None:
    trusting(place, "v1")
    (place.root / "kt.toml").write_text('git = "off"\n[registry]\ntrust_code = false\n')
    torch.save(net(), place.root / "m.pt")
    for given in (("deploy", "m.pt", "--trust-code", "why"), ("deploy", "m@v1")):
        ran = kt(*given, at=place)
        assert ran.code == Refused.code
        assert "trust_code = false" in ran.err
    assert kt("register", "m.pt", "--trust-code", "why", at=place).code == Refused.code


def test_it_needs_a_reason(place: Workspace, kt: Kt) -> None:
    torch.save(net(), place.root / "m.pt")
    for reason in ("", "  ", "x" * 3_000):
        ran = kt("deploy", "m.pt", "--trust-code", reason, at=place)
        assert ran.code == Invalid.code
        assert "--trust-code" in ran.err


def test_where_nothing_shuts_it_in_no_code_runs(place: Workspace) -> None:
    source = record.Source(name="m.pt", format="torch", sha256="0" * 64, size=1)
    with pytest.raises(Refused, match="cannot shut foreign code in: files"):
        door.rewrite({}, Request(Path("m.pt")), source, place.root, ["files"])


def test_a_record_without_a_word_is_as_it_was(place: Workspace) -> None:
    """Records and events written before there was --trust-code keep their digests."""
    forge.version(place, "m", "v1")
    path = record.folder(place, "m", "v1") / record.RECORD
    assert b"trusted" not in path.read_bytes()
    assert b'"reason"' not in path.read_bytes()
    assert isinstance(record.read(place, "m", "v1"), VersionRecord)
