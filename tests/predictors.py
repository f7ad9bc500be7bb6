"""Workspaces made by hand, and predictors that run on them and die with their test.

The versions are of a family of one weight, which misbehaves on demand: for an x above one half
it does what its configuration says (raise, nan, slow, hang, die).
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kt import files
from kt.deployments import manifest
from kt.deployments.manifest import Manifest, Route, Treatment, Trial, Version
from kt.registry.record import Spec, weights

# Seconds, far beyond what anything takes. What is counted is written by a thread that gives way to all others
# (kt/predictor/writer.py): on a machine with a load of 15 that is long.
PATIENCE = 120.0

FORM = """
from typing import Annotated, Any
import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from kt.errors import Invalid
from kt.stats.scored import Scores

class Signature(BaseModel):
    largest: float

class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    student_id: str | None = None
    x: list[Annotated[float, Field(ge=0)]]

UNIT = "student_id"
PROBABILITIES = ("probabilities",)

def collate(requests: Any, signature: Any) -> dict[str, np.ndarray]:
    for request in requests:
        if max(request.x, default=0.0) > signature.largest:
            raise Invalid("is larger than this model knows", where="x.0")
    width = max((len(request.x) for request in requests), default=0)
    return {"x": np.array([list(request.x) + [0.0] * (width - len(request.x)) for request in requests], np.float32)}

def answer(outputs: Any, requests: Any, signature: Any) -> list[list[dict[str, Any]]]:
    found = outputs["probabilities"].tolist()
    return [
        [{"p": p, "confidence": max(p)} for p, _ in zip(row, request.x)]
        for row, request in zip(found, requests, strict=True)
    ]

def tensors(predictions: Any) -> dict[str, np.ndarray]:
    return {"probabilities": np.array([each["p"] for each in predictions])}

def scored(predictions: Any, signature: Any) -> Scores:
    return Scores("probability", [each["p"][1] for each in predictions])

def features(request: Any, signature: Any) -> dict[str, float]:
    return {"x": sum(request.x)}

def narrower(old: Any, new: Any) -> str:
    return "" if new.largest >= old.largest else "it knows less"

def example(signature: Any, rng: Any, count: int) -> list[Any]:
    return [Request(x=[0.25] * (n + 1)) for n in range(count)]
"""

FAMILY = """
import os
import sys
import threading
import time
import torch
from pydantic import BaseModel
from toys import form as FORM

METRIC = "auc"

class Config(BaseModel):
    does: str = "answer"

class Model(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.w = torch.nn.Parameter(torch.zeros(1))

    def serve(self, x):
        p = torch.sigmoid(x * self.w)
        if (x > 0.5).any():
            if self.config.does == "raise":
                raise ValueError("sec" + "ret: s-17")
            if self.config.does == "nan":
                p = p * float("nan")
            if self.config.does == "slow":
                time.sleep(20)
            if self.config.does == "hang":
                print("it hangs", file=sys.stderr, flush=True)
                threading.Event().wait()
            if self.config.does == "die":
                os.kill(os.getpid(), 9)
        return {"probabilities": torch.stack([1 - p, p], -1)}

def signature(config):
    return FORM.Signature(largest=9.0)
"""


@dataclass
class Made:
    """A workspace, and the versions in it by name."""

    root: Path
    versions: dict[str, Version]

    def add(self, name: str, w: float = 1.0, does: str = "answer", model: str = "toy") -> Version:
        spec = Spec(
            family="toys.family",
            config={"does": does},
            form="toys.form",
            signature={"largest": 9.0},
        )
        path = weights(self.root, model, name)
        path.parent.mkdir(parents=True)
        save_file({"w": torch.tensor([w])}, path, metadata={"kt": spec.model_dump_json()})
        self.versions[name] = Version(version=name, sha256=files.digest(path))
        return self.versions[name]

    def add_tutor(self, name: str, family: ModuleType, seed: int = 0, window: int = 150) -> Version:
        """A version of knowledge tracing, untrained."""
        torch.manual_seed(seed)
        config = family.Config(items=9, window=window, **family.SIZES.get("small", {}))
        module = family.Model(config)
        spec = Spec(
            family=family.__name__.rpartition(".")[2],
            config=config.model_dump(),
            form="kt.models.tracing",
            signature=family.signature(config).model_dump(mode="json"),
        )
        path = weights(self.root, "tutor", name)
        path.parent.mkdir(parents=True)
        save_file(module.state_dict(), path, metadata={"kt": spec.model_dump_json()})
        self.versions[name] = Version(version=name, sha256=files.digest(path))
        return self.versions[name]

    def route(
        self,
        active: str,
        treatment: str = "",
        traffic: float = 50.0,
        previous: str = "",
        *,
        shadow: bool = False,
    ) -> Route:
        trial = None
        if treatment:
            version = self.versions[treatment]
            trial = Trial(
                name="trial",
                phase=1,
                treatments=(
                    Treatment(
                        version=treatment,
                        sha256=version.sha256,
                        traffic=0.0 if shadow else traffic,
                    ),
                ),
                shadow=shadow,
            )
        return Route(
            active=self.versions[active],
            since="2026-01-12T09:00:00Z",
            seq=1,
            previous=self.versions[previous] if previous else None,
            experiment=trial,
        )

    def deploy(self, seq: int, head: str = "a", **models: Route) -> Manifest:
        """Write the manifest as kt does: aside, then renamed."""
        what = Manifest(kt=1, seq=seq, head=head * 64, models=models)
        self.write(manifest.dump(what))
        return what

    def write(self, data: bytes) -> None:
        path = self.root / manifest.MANIFEST
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(".aside-test")
        aside.write_bytes(data)
        aside.replace(path)

    def settings(self, text: str) -> None:
        (self.root / "kt.toml").write_text(text)


def make(root: Path) -> Made:
    (root / "toys").mkdir(parents=True)
    (root / "toys" / "form.py").write_text(FORM)
    (root / "toys" / "family.py").write_text(FAMILY)
    made = Made(root, {})
    made.settings("[predictor]\npoll = 0.02\ntimeout = 0.2\n")
    return made


def make_three(root: Path) -> Made:
    """Three versions, the first of them active."""
    made = make(root)
    for n in (1, 2, 3):
        made.add(f"v{n}", w=float(n))
    made.deploy(5, toy=made.route("v1"))
    return made


class Serving:
    """A `kt serve` process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = json.dumps(body) if body is not None else None
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def predict(self, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", "/predict", {"x": [0.25]} | fields)

    def version(self) -> str | None:
        status, answer = self.predict()
        return answer["version"] if status == 200 else None

    def health(self) -> Any:
        return self.ask("GET", "/health")[1]

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


def children(pid: int) -> list[int]:
    """The processes that the threads of `pid` have begun and that have not been waited for."""
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread ended: another has its
            threads = Path(f"/proc/{pid}/task").iterdir()
            return [int(one) for each in threads for one in (each / "children").read_text().split()]
        if not Path(f"/proc/{pid}").exists():
            return []


def within(claim: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `claim` returns once it is true. Fails after a deadline far beyond what it takes."""
    end = time.monotonic() + seconds
    while not (value := claim()):
        if time.monotonic() > end:
            pytest.fail("did not become true")
        time.sleep(0.02)
    return value


@contextmanager
def serving(made: Made, *options: str) -> Iterator[Serving]:
    """A predictor on a free port, which answers; killed with all its workers at the end."""
    log = made.root / "serve.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "kt", "-C", str(made.root), "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("serving on http://127.0.0.1:"), line + log.read_text()
        running = Serving(process, int(line.strip().rpartition(":")[2]), log)
        running.health()  # waits for the first worker
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
