"""The contract of a model registry, with Neptune's client and the server that NEPTUNE_API_TOKEN names.

Needs that server, so no other command runs it: `python -m pytest tests/platform/registries/neptune_contract.py`.
The client runs in this process, except in one end-to-end test: a child process per call takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import neptune
import pytest

from serving.adapters.model_registry.neptune import NeptuneRegistry
from serving.adapters.model_registry.neptune_access import model_key, read_access
from serving.adapters.model_registry.neptune_calls import request_for
from serving.adapters.model_registry.neptune_process import Workspace
from serving.domain.errors import RegistryUnavailable
from serving.domain.references import Reference
from serving.offline.registry import ModelRegistry
from tests.platform.contract.model_registry_contract import registered
from tests.platform.contract.remote_registry_contract import RemoteRegistryContract
from tests.platform.support.isolated import Isolated
from tests.platform.support.neptune import asking
from tests.platform.support.workspace import THIS_REPO


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client writes to the working folder."""
    monkeypatch.chdir(folder)


class TestNeptuneRegistry(RemoteRegistryContract):
    def open(self, folder: Path) -> ModelRegistry:
        return ModelRegistry("neptune", self.backend(folder), timeout=60)

    def backend(self, folder: Path) -> Isolated:
        return Isolated(NeptuneRegistry(asking(neptune, read_access())), folder)

    def damage(self, folder: Path, reference: Reference) -> None:
        access = read_access()
        workspace = Workspace(neptune, access.project, access.token)
        model = self.backend(folder).there(reference.model)
        version_id = f"{workspace.model_id(model_key(model))}-{reference.version}"
        with tempfile.TemporaryDirectory() as name:
            kept = Path(name) / "model.onnx"
            workspace.version(version_id)["artifact/model"].download(str(kept), progress_bar=False)
            kept.write_bytes(b"!" + kept.read_bytes()[1:])
            opened = neptune.init_model_version(
                with_id=version_id, name=model, project=access.project, api_token=access.token, mode="sync"
            )
            opened["artifact/model"].upload(str(kept), wait=True)
            opened.stop()
        workspace.close()


def test_every_call_works_in_a_separate_process(folder: Path) -> None:
    registry = ModelRegistry("neptune", Isolated(NeptuneRegistry(), folder), timeout=60)
    first, second = (registered(registry, folder, number) for number in (1, 2))
    registry.promote(first, "champion", expect="none", by="ann")
    registry.promote(second, "champion", expect="1", by="ann")
    assert registry.rollback("tiny", "champion", by="ann").version == "1"
    assert registry.fetch(first, folder / "artifacts").is_dir()


def test_the_token_reaches_no_log(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.debug('speaking')\n", encoding="utf-8"
    )
    access = read_access()
    request = request_for(access, "read", {"model": "tiny", "key": "TINY"})
    path = os.pathsep.join((str(folder), str(THIS_REPO / "src")))
    done = subprocess.run(
        [sys.executable, "-m", "serving.adapters.model_registry.neptune_process"],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=60,
    )
    assert "speaking" in done.stderr
    assert access.token not in done.stderr + done.stdout
    assert "result" in json.loads(done.stdout)


def test_an_abandoned_download_leaves_nothing_behind(folder: Path) -> None:
    registry = ModelRegistry("neptune", Isolated(NeptuneRegistry(), folder), timeout=60)
    reference = registered(registry, folder)
    away = ModelRegistry("neptune", Isolated(NeptuneRegistry(), folder), timeout=60, transfer_timeout=0.1)
    with pytest.raises(RegistryUnavailable, match="no answer within 0.1 s"):
        away.fetch(reference, folder / "artifacts")
    assert list((folder / "artifacts").iterdir()) == []
