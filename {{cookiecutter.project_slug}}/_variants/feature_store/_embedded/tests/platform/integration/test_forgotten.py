"""A deleted entity is gone from the feature store and from the prediction log of a running server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.features import FEATURES
from serving.domain.references import read_lock
from serving.offline import user_model
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import Wire, request
from tests.platform.support.workspace import Workspace

pytestmark = pytest.mark.skipif(not FEATURES.static, reason="this model has no static features")


async def test_a_deleted_entity_is_gone_from_the_prediction_log_by_command_and_by_event(trained: Workspace) -> None:
    data = user_model.dataset()
    by_command, by_event, other = data.entities[:3]
    columns = {feature.name: np.repeat(data.columns[feature.name][:1], 3, 0) for feature in FEATURES.real_time}
    keys = [key.encode() for key in (by_command, by_event, other)]
    datatypes = {feature.name: feature.datatype for feature in FEATURES.real_time}
    name = read_lock(trained.root / "model.lock").model
    asked = request(name, {FEATURES.entity.name: keys, **columns}, datatypes=datatypes)
    log = {"SERVING_PREDICTION_LOG": "log"}
    with ServerProcess(trained.root, **log) as server:
        async with Wire(server.target) as wire:
            await wire.infer(asked)
        command = trained.run("serving.offline.materialize", "--delete", by_command, **log)
        assert "deleted 1 of 1 entities, rows of the prediction log: 1;" in command.stdout, command.stderr
        event = trained.run("serving.offline.push_features", by_event, "--delete", **log)
        assert event.stdout == f"{by_event}: deleted, rows of the prediction log: 1\n", event.stderr
        assert server.stop() == 0
    (file,) = Path(trained.root, "log").glob("*-*")
    table = pq.read_table(file)
    assert table.column("entity").to_pylist() == [other]
    static = FEATURES.static[0].name
    assert f"input.{static}" in table.schema.names  # what the store gave, too
