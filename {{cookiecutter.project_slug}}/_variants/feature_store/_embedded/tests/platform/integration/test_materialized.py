"""The trained example with a feature store filled by its own script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest

from model.features import FEATURES
from serving.domain.errors import SettingsError
from serving.domain.references import read_lock
from serving.modeling import Dataset
from serving.offline import materialize, user_model
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import Wire, request
from tests.platform.support.workspace import Workspace

# Nothing is read from the store then: test_materialize.py tests that nothing is written either.
pytestmark = pytest.mark.skipif(not FEATURES.static, reason="this model has no static features")

KNOWN, UNKNOWN = 0, b"nobody"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return user_model.dataset()


def question(workspace: Workspace, data: Dataset, *keys: bytes) -> pb.ModelInferRequest:
    """Request the first row's measurements for these keys."""
    name = read_lock(workspace.root / "model.lock").model
    columns = {feature.name: np.repeat(data.columns[feature.name][:1], len(keys), 0) for feature in FEATURES.real_time}
    datatypes = {feature.name: feature.datatype for feature in FEATURES.real_time}
    return request(name, {FEATURES.entity.name: keys, **columns}, datatypes=datatypes)


@pytest.fixture
def strict_server(example: Workspace) -> Iterator[ServerProcess]:
    with ServerProcess(example.root, SERVING_UNKNOWN_ENTITY="refuse") as server:
        yield server


async def test_callers_send_a_key_instead_of_the_static_features(
    example: Workspace, example_server: ServerProcess
) -> None:
    async with Wire(example_server.target) as wire:
        metadata = await wire.metadata(read_lock(example.root / "model.lock").model)
    expected = [FEATURES.entity.name, *(feature.name for feature in FEATURES.real_time)]
    assert [tensor.name for tensor in metadata.inputs] == expected


async def test_an_unknown_entity_is_answered_with_flagged_defaults_or_refused_where_one_is_missing(
    example: Workspace, example_server: ServerProcess, data: Dataset
) -> None:
    body = question(example, data, data.entities[KNOWN].encode(), UNKNOWN)
    async with Wire(example_server.target) as wire:
        if any(feature.default_value is None for feature in FEATURES.static):
            code, text = await wire.refused("ModelInfer", body.SerializeToString())
            assert (code, "'nobody'" in text) == (grpc.StatusCode.NOT_FOUND, True)
            return
        answer = await wire.infer(body)
    assert json.loads(answer.parameters["defaulted_features"].string_param) == {
        feature.name: [1] for feature in FEATURES.static
    }
    assert {output.shape[0] for output in answer.outputs} == {2}


async def test_an_unknown_entity_is_not_found_if_the_setting_says_refuse(
    example: Workspace, strict_server: ServerProcess, data: Dataset
) -> None:
    async with Wire(strict_server.target) as wire:
        code, text = await wire.refused("ModelInfer", question(example, data, UNKNOWN).SerializeToString())
        assert code is grpc.StatusCode.NOT_FOUND
        assert "'nobody'" in text
        answer = await wire.infer(question(example, data, data.entities[KNOWN].encode()))
    assert "defaulted_features" not in answer.parameters


def materialized(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SERVING_FEATURE_STORE", url)
    assert materialize.main([]) == 0


def test_materializing_again_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past = user_model.history()
    rows, newest = len(set(past.entities)), datetime.fromtimestamp(int(past.times.max()), UTC)
    messages = []
    for _ in range(2):
        materialized(monkeypatch, f"sqlite:{folder / 'features.db'}")
        messages.append(capsys.readouterr().out.splitlines()[-1])
    assert messages == [
        f"wrote {rows} rows, keyed by {FEATURES.entity.name}",
        f"nothing is new since {newest:%Y-%m-%d}",
    ]


def test_a_store_that_can_not_be_filled_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_FEATURE_STORE", "oracle:x")
    with pytest.raises(SettingsError, match=r"^SERVING_FEATURE_STORE='oracle:x': this repo can fill .*\.$"):
        materialize.main([])


async def test_an_empty_store_makes_the_service_unavailable_until_it_is_filled(
    example: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch, data: Dataset
) -> None:
    body = question(example, data, data.entities[KNOWN].encode())
    url = f"sqlite:{folder / 'features.db'}"
    with ServerProcess(example.root, SERVING_FEATURE_STORE=url) as server:
        async with Wire(server.target) as wire:
            code, text = await wire.refused("ModelInfer", body.SerializeToString())
            assert (code, text) == (
                grpc.StatusCode.UNAVAILABLE,
                "the feature store holds no features; fill it with `make features`.",
            )
            materialized(monkeypatch, url)
            answer = await wire.infer(body)
    assert "defaulted_features" not in answer.parameters
