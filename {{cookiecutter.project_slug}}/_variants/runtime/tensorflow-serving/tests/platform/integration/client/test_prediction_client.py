"""The client for TensorFlow Serving itself, against the development server's services with a fake model."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving_client._proto import prediction_service_pb2 as pb
from serving_client.errors import Cancelled, DeadlineExceeded, InvalidRequest, NotFound, ServerFault, Unavailable
from serving_client.tensorflow_serving import PredictionClient, Signature, Tensor
from tests.platform.support.artifacts import tiny
from tests.platform.support.fake_tensorflow_serving import VERSION, FakeTensorFlowServing
from tests.platform.support.services import answer_of

LONG_S = 60.0
ROWS = {"base": np.ones(2, np.float32), "value": np.array([1, 2], np.float32)}


@pytest.fixture
def server() -> Iterator[FakeTensorFlowServing]:
    running = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()))
    yield running
    running.stop()


@pytest.fixture
def client(server: FakeTensorFlowServing) -> Iterator[PredictionClient]:
    with PredictionClient(f"localhost:{server.port}") as opened:
        yield opened


def test_a_prediction_says_which_version_gave_it(client: PredictionClient) -> None:
    answer = client.predict("tiny", ROWS, timeout=LONG_S, version=VERSION)
    assert answer.outputs["total"].tolist() == [2, 3]
    assert (answer.model, answer.version) == ("tiny", VERSION)


def test_another_version_or_model_is_not_found(client: PredictionClient) -> None:
    for model, version in (("tiny", VERSION + 1), ("other", VERSION)):
        with pytest.raises(NotFound, match="Servable not found"):
            client.predict(model, ROWS, timeout=LONG_S, version=version)


def test_an_answer_of_another_version_is_not_used(client: PredictionClient, server: FakeTensorFlowServing) -> None:
    server.answers_as = VERSION + 1
    with pytest.raises(ServerFault, match=f"version {VERSION + 1} of 'tiny' answered, asked was version {VERSION}"):
        client.predict("tiny", ROWS, timeout=LONG_S, version=VERSION)


def test_a_request_that_the_model_refuses_is_the_callers_fault(client: PredictionClient) -> None:
    with pytest.raises(InvalidRequest):
        client.predict("tiny", {**ROWS, "value": np.ones(3, np.float32)}, timeout=LONG_S, version=VERSION)


def test_version_and_label_are_not_given_together(client: PredictionClient) -> None:
    with pytest.raises(InvalidRequest, match="version 7 and label 'stable' are both given"):
        client.predict("tiny", ROWS, timeout=LONG_S, version=VERSION, label="stable")


def test_a_slow_answer_ends_at_the_timeout(client: PredictionClient, server: FakeTensorFlowServing) -> None:
    client.predict("tiny", ROWS, timeout=LONG_S, version=VERSION)
    server.gate.clear()
    with pytest.raises(DeadlineExceeded):
        client.predict("tiny", ROWS, timeout=0.2, version=VERSION)


def test_a_call_is_repeated_until_a_restarted_server_answers(
    client: PredictionClient, server: FakeTensorFlowServing
) -> None:
    client.predict("tiny", ROWS, timeout=LONG_S, version=VERSION)
    port = server.port
    server.stop()
    with ThreadPoolExecutor(1) as worker:
        asked = worker.submit(client.predict, "tiny", ROWS, timeout=LONG_S, version=VERSION)
        back = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), port)
        assert asked.result().outputs["total"].tolist() == [2, 3]
    back.stop()


def test_a_server_that_is_nowhere_is_reported_within_the_timeout() -> None:
    with PredictionClient("localhost:1") as client, pytest.raises((Unavailable, DeadlineExceeded)):
        client.predict("tiny", ROWS, timeout=0.5)


def test_a_closed_client_says_so(client: PredictionClient) -> None:
    client.close()
    with pytest.raises(Cancelled, match="the client is closed"):
        client.predict("tiny", ROWS, timeout=LONG_S)


def test_signatures_and_states_are_read() -> None:
    info = pb.TensorInfo(dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=-1)]))
    unlike = pb.TensorInfo(dtype=8, tensor_shape=pb.TensorShapeProto(unknown_rank=True))  # type: ignore[arg-type]
    known = pb.SignatureDefMap(
        signature_def={"serving_default": pb.SignatureDef(inputs={"x": info}, outputs={"y": unlike})}
    )
    metadata = pb.GetModelMetadataResponse(metadata={"signature_def": pb.Any(value=known.SerializeToString())})
    states = pb.GetModelStatusResponse(
        model_version_status=[pb.ModelVersionStatus(version=3, state=pb.ModelVersionStatus.AVAILABLE)]
    )
    server = grpc.server(ThreadPoolExecutor(1))
    for service, method, request, response in (
        ("PredictionService", "GetModelMetadata", pb.GetModelMetadataRequest, metadata),
        ("ModelService", "GetModelStatus", pb.GetModelStatusRequest, states),
    ):
        handler = grpc.unary_unary_rpc_method_handler(
            lambda _, __, answer=response: answer, request.FromString, lambda answer: answer.SerializeToString()
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", {method: handler})]
        )
    port = server.add_insecure_port("localhost:0")
    server.start()
    with PredictionClient(f"localhost:{port}") as client:
        signature = Signature({"x": Tensor("FLOAT", (-1,))}, {"y": Tensor("8", None)})
        assert client.metadata("m", timeout=LONG_S) == {"serving_default": signature}
        assert client.status("m", timeout=LONG_S) == {3: "AVAILABLE"}
    server.stop(0).wait()
