"""A bare gRPC echo server: the floor of gRPC in Python."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import grpc


async def main() -> None:
    """Serve on a free port until SIGTERM; log the port as the real server does."""

    async def echo(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return body

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"ModelInfer": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"grpc_port": port}), file=sys.stderr, flush=True)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
