"""Serve a model with PyTriton, which runs Triton and calls Python."""

from __future__ import annotations

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.arguments import asked
from benchmarks.peers.models import IMAGE, IMAGE_SHAPE, NAME, Array

if __name__ == "__main__":
    arguments = asked()
    predict = arguments.predict

    @batch  # type: ignore[untyped-decorator]  # in its own environment
    def infer(x: Array) -> list[Array]:
        """Call the model."""
        return [predict(x).astype(np.float32)]

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.http_port,
        grpc_address="127.0.0.1",
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
    )
    shape = IMAGE_SHAPE if arguments.model == IMAGE else (-1,)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=shape)],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher()),
        )
        triton.serve()
