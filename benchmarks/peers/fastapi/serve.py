"""Serve a model with FastAPI and uvicorn, as their tutorials do."""

from __future__ import annotations

import fastapi
import numpy as np
import uvicorn
from pydantic import BaseModel

from benchmarks.peers.arguments import asked
from benchmarks.peers.models import IMAGE_SHAPE

arguments = asked()
predict = arguments.predict
app = fastapi.FastAPI()


class Rows(BaseModel):
    """Rows of numbers."""

    rows: list[list[float]]


class Images(BaseModel):
    """Images: rows of pixels, each with its channels."""

    rows: list[list[list[list[float]]]]


class Answers(BaseModel):
    """A list of numbers for each row."""

    answers: list[list[float]]


@app.post("/predict")  # type: ignore[untyped-decorator]  # in its own environment
async def answer(request: Rows) -> Answers:
    """Answer rows."""
    return Answers(answers=predict(np.array(request.rows, np.float32)).tolist())


@app.post("/image")  # type: ignore[untyped-decorator]
async def answer_images(request: Images) -> Answers:
    """Answer images."""
    return Answers(answers=predict(np.array(request.rows, np.float32)).tolist())


@app.post("/raw")  # type: ignore[untyped-decorator]
async def answer_raw(request: fastapi.Request) -> fastapi.Response:
    """Answer images sent as the bytes of their numbers."""
    images = np.frombuffer(await request.body(), np.float32).reshape(-1, *IMAGE_SHAPE)
    return fastapi.Response(predict(images).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=arguments.http_port, log_level="warning", access_log=False)
