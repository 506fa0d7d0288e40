"""The development server answers as TensorFlow Serving does, to the client for TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving_client.errors import InvalidRequest, NotFound
from serving_client.tensorflow_serving import PredictionClient, Tensor
from tests.platform.support.artifacts import tiny
from tests.platform.support.development_server import development_server, save

LONG_S = 60.0
ROWS = {"base": np.ones(2, np.float32), "value": np.array([1, 2], np.float32)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one model, and one that TensorFlow can't load."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        save(tiny(), folder / "tiny" / str(number))
    broken = folder / "tiny" / "3"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no graph")
    return folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[PredictionClient]:
    with development_server(models) as address, PredictionClient(address) as opened:
        yield opened


def test_the_newest_version_that_can_be_loaded_answers(client: PredictionClient) -> None:
    answer = client.predict("tiny", ROWS, timeout=LONG_S)
    assert (answer.outputs["total"].tolist(), answer.version) == ([2, 3], 2)
    assert client.predict("tiny", ROWS, timeout=LONG_S, version=1).version == 1


def test_each_loaded_version_is_available(client: PredictionClient) -> None:
    assert client.status("tiny", timeout=LONG_S) == {1: "AVAILABLE", 2: "AVAILABLE"}


def test_the_signature_is_described(client: PredictionClient) -> None:
    signature = client.metadata("tiny", timeout=LONG_S)["serving_default"]
    column = Tensor("FLOAT", (-1,))
    assert signature.inputs == {"base": column, "value": column}
    assert signature.outputs == {"total": column}


def test_what_is_not_there_is_not_found(client: PredictionClient) -> None:
    for model, version in (("tiny", 3), ("tiny", 4), ("other", None)):
        with pytest.raises(NotFound, match="Servable not found"):
            client.predict(model, ROWS, timeout=LONG_S, version=version)
        with pytest.raises(NotFound):
            client.metadata(model, timeout=LONG_S, version=version)


def test_a_label_signature_or_output_that_does_not_exist_is_refused(client: PredictionClient) -> None:
    with pytest.raises(InvalidRequest, match="Unrecognized servable version label: stable"):
        client.predict("tiny", ROWS, timeout=LONG_S, label="stable")
    with pytest.raises(InvalidRequest, match='"other" not found in signature def'):
        client.predict("tiny", ROWS, timeout=LONG_S, signature="other")
    with pytest.raises(InvalidRequest, match="output tensor alias not found in signature: other"):
        client.predict("tiny", ROWS, timeout=LONG_S, outputs=["other"])
