"""The trained example without a feature store."""

from __future__ import annotations

from model.features import FEATURES
from serving.domain.references import read_lock
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import Wire
from tests.platform.support.workspace import Workspace


async def test_callers_send_every_feature_and_no_key(example: Workspace, example_server: ServerProcess) -> None:
    async with Wire(example_server.target) as wire:
        metadata = await wire.metadata(read_lock(example.root / "model.lock").model)
    assert [tensor.name for tensor in metadata.inputs] == [feature.name for feature in FEATURES.model_inputs]


def test_there_is_nothing_to_materialize(example: Workspace) -> None:
    assert not example.has_feature_store
