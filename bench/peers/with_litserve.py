"""LitServe, with batches of up to 8. python with_litserve.py PORT MODEL WEIGHTS: see serving.py."""

import sys
from typing import Any

import litserve
from bare import named


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = named()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # its type would name a field
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any], **_: Any) -> list[Any]:
        return [found.tolist() for found in self.model.answer(x)]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any, **_: Any) -> Any:
        return {"predictions": output}


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
