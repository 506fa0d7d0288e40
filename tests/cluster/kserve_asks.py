"""Ask a server all that KServe's Python client can: `python kserve_asks.py GRPC REST MODEL < inputs.json`.

Runs in an environment with KServe; prints the answers as JSON. The client has no call for metadata, so its own stubs
and paths ask for that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

TIMEOUT_S = 30.0


def request(model: str, inputs: dict[str, list[float]], *, binary: bool) -> InferRequest:
    """Return a request with one column for each feature."""
    made = []
    for name, values in inputs.items():
        column = np.asarray(values, np.float32)
        made.append(InferInput(name, list(column.shape), "FP32"))
        made[-1].set_data_from_numpy(column, binary_data=binary)
    return InferRequest(model, made)


def outputs(response: InferResponse) -> dict[str, Any]:
    """Return who answered, and each output."""
    answers = {output.name: output.as_numpy().ravel().tolist() for output in response.outputs}
    return {"model": response.model_name, "version": response.model_version, "outputs": answers}


async def over_grpc(target: str, model: str, inputs: dict[str, list[float]]) -> dict[str, Any]:
    """Ask over gRPC."""
    async with InferenceGRPCClient(target, timeout=TIMEOUT_S) as client:
        answers = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(model),
            "infer": outputs(await client.infer(request(model, inputs, binary=True))),
            "typed": outputs(await client.infer(request(model, inputs, binary=False))),
        }
    async with grpc.aio.insecure_channel(target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        described = await stub.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=TIMEOUT_S)
        server = await stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=TIMEOUT_S)
    names = [tensor.name for tensor in described.inputs]
    return answers | {"server": server.name, "metadata": {"name": described.name, "inputs": names}}


async def over_rest(address: str, model: str, inputs: dict[str, list[float]]) -> dict[str, Any]:
    """Ask over HTTP."""
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=TIMEOUT_S, retries=0)) as client:
        asked = request(model, inputs, binary=False)
        answers = {
            "live": await client.is_server_live(address),
            "ready": await client.is_server_ready(address),
            "model_ready": await client.is_model_ready(address, model),
            "infer": outputs(await client.infer(address, asked, model_name=model)),
        }
    described, server = (_read(f"{address}/v2{path}") for path in (f"/models/{model}", ""))
    names = [tensor["name"] for tensor in described["inputs"]]
    return answers | {"server": server["name"], "metadata": {"name": described["name"], "inputs": names}}


def _read(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own address
        return json.loads(answer.read())


async def main(target: str, address: str, model: str) -> None:
    """Ask over both and print the answers."""
    inputs = json.load(sys.stdin)
    answers = {"grpc": await over_grpc(target, model, inputs), "rest": await over_rest(address, model, inputs)}
    print(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
