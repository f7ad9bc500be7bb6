"""The smallest program that serves SAKT: Granian, orjson in and out, the bare model call. See serving.py.

python bench/smallest.py WEIGHTS PORT
"""

import sys
from typing import Any

import numpy as np
import orjson
import torch
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer
from safetensors import safe_open

from kt.models import sakt


def make() -> Any:
    torch.set_num_threads(1)
    with safe_open(sys.argv[1], "pt") as file:
        spec = orjson.loads(file.metadata()["kt"])
        config = sakt.Config(**spec["config"])
        model = sakt.Model(config)
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    model.eval().requires_grad_(False)
    rows = {item: row for row, item in enumerate(spec["signature"]["items"], 2)}

    async def app(scope: Any, proto: Any) -> None:
        body = orjson.loads(await proto())
        answers = body["answers"]
        items = np.array([[rows[answer["item"]] for answer in answers]], np.int64)
        responses = np.array([[answer["response"] for answer in answers]], np.int64)
        asked = np.array([[rows[item] for item in body["items"]]], np.int64)
        with torch.inference_mode():
            outputs = model.serve(
                torch.from_numpy(items),
                torch.from_numpy(responses),
                torch.tensor([len(answers)]),
                torch.from_numpy(asked),
            )
            p = outputs["probabilities"].numpy()
        data = orjson.dumps({"predictions": p}, option=orjson.OPT_SERIALIZE_NUMPY)
        proto.response_bytes(200, [("content-type", "application/json")], data)

    return app


if __name__ == "__main__":
    MPServer(
        target="smallest",
        port=int(sys.argv[2]),
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    ).serve(target_loader=make, wrap_loader=False)
