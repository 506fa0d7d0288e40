from __future__ import annotations

import pytest

from serving_client import Unavailable
from tests.platform.support.artifacts import tiny
from tests.platform.support.callers import PATIENCE_S
from tests.platform.support.fakes import FakeStore
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service

from .conftest import Connect

ATTEMPTS = 4  # of the client's retry policy


async def test_an_unavailable_feature_store_is_reported_after_all_retries(connect: Connect) -> None:
    """The native transport can't send the metadata that forbid a retry."""
    store = FakeStore()
    store.unavailable = True
    async with serving(fake_service(tiny(static=True), store=store)) as wire:
        with pytest.raises(Unavailable, match=r"^the feature store can't be read\.$") as refusal:
            await connect(wire.target, model="tiny").predict({"key": ["a"], "value": [1.0]}, timeout=PATIENCE_S)
    assert store.reads == ATTEMPTS
    assert refusal.value.request_id
