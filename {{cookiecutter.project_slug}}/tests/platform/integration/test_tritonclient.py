"""A third-party client calls the real, trained example and knows only its metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from model.features import FEATURES
from serving.modeling import Dataset
from serving.offline import user_model
from serving.offline.exporting import FORMAT
from serving.online.open_inference import platform
from tests.platform.support.server import PATIENCE_S, ServerProcess
from tests.platform.support.training import own_answers
from tests.platform.support.wire import TYPED_FIELDS
from tests.platform.support.workspace import Workspace

RTOL, ATOL = 1e-4, 1e-6
BATCHES = [1, 7, 512]

Answers = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return user_model.dataset()


@pytest.fixture(scope="module")
def client(example_server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(example_server.target) as connected:
        yield connected


@pytest.fixture(scope="module")
def name(example: Workspace) -> str:
    return (example.root / "model.lock").read_text("utf-8").partition(":")[2].partition("/")[0]


@pytest.fixture(scope="module")
def metadata(client: triton.InferenceServerClient, name: str) -> Any:
    return client.get_model_metadata(name)


@pytest.fixture(scope="module")
def expected(data: Dataset) -> Answers:
    """Return the estimator's own answers for every row."""
    return own_answers(data)


def column(data: Dataset, tensor: Any, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values of an input named in the metadata."""
    if tensor.name == FEATURES.entity.name:
        return np.array([data.entities[row].encode() for row in rows], object)
    (feature,) = (feature for feature in FEATURES.model_inputs if feature.name == tensor.name)
    values: np.ndarray[Any, Any] = feature.tensor(data.columns[tensor.name][rows])
    return values


def check(answered: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """Compare numbers within the tolerance, anything else exactly."""
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answered, expected, rtol=RTOL, atol=ATOL)
    else:
        np.testing.assert_array_equal(answered, expected)


def rows_of(data: Dataset, count: int) -> np.ndarray[Any, Any]:
    """Return row numbers in random order; they repeat if there are too few."""
    return np.random.default_rng(count).integers(0, len(data), count)


@pytest.mark.parametrize("count", BATCHES)
def test_raw_contents_give_scikit_learns_own_predictions(
    client: triton.InferenceServerClient, metadata: Any, data: Dataset, expected: Answers, count: int
) -> None:
    rows = rows_of(data, count)
    inputs = []
    for tensor in metadata.inputs:
        values = column(data, tensor, rows)
        inputs.append(triton.InferInput(tensor.name, list(values.shape), tensor.datatype))
        inputs[-1].set_data_from_numpy(values)
    answer = client.infer(metadata.name, inputs, client_timeout=PATIENCE_S)
    for tensor in metadata.outputs:
        check(answer.as_numpy(tensor.name), expected[tensor.name][rows])
    assert "defaulted_features" not in answer.get_response().parameters


@pytest.mark.parametrize("count", BATCHES)
def test_typed_contents_give_scikit_learns_own_predictions(
    example_server: ServerProcess, metadata: Any, data: Dataset, expected: Answers, count: int
) -> None:
    rows = rows_of(data, count)
    request = service_pb2.ModelInferRequest(model_name=metadata.name)
    for tensor in metadata.inputs:
        values = column(data, tensor, rows)
        sent = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=values.shape)
        getattr(sent.contents, TYPED_FIELDS[tensor.datatype]).extend(values.ravel().tolist())
    with grpc.insecure_channel(example_server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=PATIENCE_S)
    assert not answer.raw_output_contents
    for tensor in answer.outputs:
        values = getattr(tensor.contents, TYPED_FIELDS[tensor.datatype])
        answered = np.reshape(values, tensor.shape)
        check(answered, expected[tensor.name][rows])


def test_the_server_reports_its_name_and_that_it_is_ready(client: triton.InferenceServerClient, name: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, "1")
    assert client.get_server_metadata().name


def test_the_metadata_name_version_and_every_tensor(metadata: Any, name: str) -> None:
    assert (metadata.name, list(metadata.versions), metadata.platform) == (name, ["1"], platform(FORMAT))
    declared = {FEATURES.entity.name, *(feature.name for feature in FEATURES.model_inputs)}
    assert {tensor.name for tensor in metadata.inputs} <= declared


def test_an_error_has_the_text_of_the_server(client: triton.InferenceServerClient, name: str) -> None:
    with pytest.raises(InferenceServerException, match="model 'another' is not served here") as refusal:
        client.get_model_metadata("another")
    assert name in str(refusal.value)
