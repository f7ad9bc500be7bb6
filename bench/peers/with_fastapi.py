"""FastAPI under uvicorn. python with_fastapi.py PORT MODEL WEIGHTS: see serving.py."""

import sys
from typing import Any

import uvicorn
from bare import named
from fastapi import FastAPI

app, model = FastAPI(), named()


@app.post("/predict")
async def predict(body: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": model.answer([body])[0].tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
