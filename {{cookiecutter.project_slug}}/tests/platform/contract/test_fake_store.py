from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.platform.contract.feature_store_contract import FeatureStoreContract
from tests.platform.support.fakes import FakeStore


class TestFakeStore(FeatureStoreContract):
    @pytest.fixture(autouse=True)
    def _one_store(self) -> None:
        self.store = FakeStore()
        self.store.filled = False

    def reader(self, folder: Path) -> FakeStore:
        return self.store

    def writer(self, folder: Path) -> FakeStore:
        return self.store

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[FakeStore]:
        self.store.gate = asyncio.Event()
        yield self.store

    @contextmanager
    def unavailable(self, folder: Path) -> Iterator[None]:
        self.store.unavailable = True
        yield
        self.store.unavailable = False
