"""BentoML. python with_bentoml.py PORT MODEL WEIGHTS, which runs its own command: see serving.py."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from bare import named


@bentoml.service(workers=1, metrics={"enabled": False})
class Service:
    def __init__(self) -> None:
        self.model = named(os.environ["BENCH_MODEL"].split(" "))

    @bentoml.api
    def predict(
        self,
        answers: list[dict[str, Any]] | None = None,
        items: list[str] | None = None,
        inputs: dict[str, Any] | None = None,
        student_id: str = "",
    ) -> dict[str, Any]:
        body = {"answers": answers, "items": items, "inputs": inputs}
        return {"predictions": self.model.answer([body])[0].tolist()}


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = " ".join(sys.argv[-2:])
    command = [sys.executable, "-m", "bentoml", "serve", "with_bentoml:Service", "--quiet"]
    here = str(Path(__file__).parent)
    os.execv(command[0], [*command, "--port", sys.argv[1], "--working-dir", here])
