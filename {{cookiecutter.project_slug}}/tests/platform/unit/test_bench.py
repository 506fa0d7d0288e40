from __future__ import annotations

import asyncio

import pytest

from benchmarks import load
from serving.domain.errors import OperatorError


def test_a_server_that_does_not_answer_the_bench_is_one_sentence_with_its_reason() -> None:
    async def call() -> None:
        async with load.opened(load.Server(0, "127.0.0.1:1", 0.0, {}), b""):
            pytest.fail("nothing listens there")

    with pytest.raises(OperatorError, match="the server does not answer the bench: .*Connection refused"):
        asyncio.run(call())
