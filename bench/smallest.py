"""The smallest programs that serve a model: Granian, orjson in and out, the bare model call. See serving.py.

python bench/smallest.py PORT plain|combining MODEL WEIGHTS

plain answers one request after the other. combining answers together those that wait anyway: a
request is put with the others that the event loop has at hand, and all of them go through the model.
"""

import asyncio
import sys
from typing import Any

import orjson
from bare import named
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

JSON = [("content-type", "application/json")]


def dump(predictions: Any) -> bytes:
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def plain() -> Any:
    model = named()

    async def app(scope: Any, proto: Any) -> None:
        body = orjson.loads(await proto())
        proto.response_bytes(200, JSON, dump(model.answer([body])[0]))

    return app


def combining() -> Any:
    model = named()
    waiting: list[tuple[Any, asyncio.Future[bytes]]] = []

    def answer() -> None:
        taken = waiting[:8]
        del waiting[:8]
        if waiting:
            asyncio.get_running_loop().call_soon(answer)
        found = model.answer([body for body, _ in taken])
        for (_, done), predictions in zip(taken, found, strict=True):
            done.set_result(dump(predictions))

    async def app(scope: Any, proto: Any) -> None:
        body = orjson.loads(await proto())
        loop = asyncio.get_running_loop()
        if not waiting:
            loop.call_soon(answer)
        done = loop.create_future()
        waiting.append((body, done))
        proto.response_bytes(200, JSON, await done)

    return app


if __name__ == "__main__":
    MPServer(
        target="smallest",
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    ).serve(target_loader={"plain": plain, "combining": combining}[sys.argv[2]], wrap_loader=False)
