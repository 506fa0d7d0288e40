from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from serving.online.grpc.access import NO_NAME, Access
from tests.platform.support.grpc_context import Aborted, FakeContext

ALTERNATIVE, COMMON = "x509_subject_alternative_name", "x509_common_name"


class Certified(FakeContext):
    """The context of a caller with a certificate."""

    def __init__(self, found: dict[str, list[bytes]]) -> None:
        super().__init__()
        self.found = found

    def auth_context(self) -> dict[str, list[bytes]]:
        return self.found


class Details(grpc.HandlerCallDetails):
    def __init__(self) -> None:
        self.method = "/any/method"
        self.invocation_metadata = ()


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def stream(request: bytes, _context: Any) -> Any:
    yield request
    yield request


async def handler_of(names: Sequence[str], given: Any) -> Any:
    """Return what the server calls for a method, if only these names may call."""

    async def continuation(_details: grpc.HandlerCallDetails) -> Any:
        return given

    return await Access(None, frozenset(names)).intercept_service(continuation, Details())


@pytest.mark.parametrize(
    ("found", "let_in"),
    [
        ({ALTERNATIVE: [b"other", b"caller"]}, True),
        ({COMMON: [b"caller"]}, True),
        ({ALTERNATIVE: [b"other"], COMMON: [b"caller"]}, False),  # as for the names of servers
        ({ALTERNATIVE: [], COMMON: [b"caller"]}, True),
        ({ALTERNATIVE: [b"caller\xff"]}, False),
        ({}, False),
    ],
)
async def test_a_certificates_alternative_names_count_or_else_its_common_one(
    found: dict[str, list[bytes]], let_in: bool
) -> None:
    handler = await handler_of(["caller"], grpc.unary_unary_rpc_method_handler(echo))
    if let_in:
        assert await handler.unary_unary(b"asked", Certified(found)) == b"asked"
        return
    with pytest.raises(Aborted) as end:
        await handler.unary_unary(b"asked", Certified(found))
    assert (end.value.code, end.value.text) == (grpc.StatusCode.PERMISSION_DENIED, NO_NAME)


@pytest.mark.parametrize(
    ("make", "requests", "responses"),
    [
        (grpc.unary_unary_rpc_method_handler, False, False),
        (grpc.unary_stream_rpc_method_handler, False, True),
        (grpc.stream_unary_rpc_method_handler, True, False),
        (grpc.stream_stream_rpc_method_handler, True, True),
    ],
)
async def test_every_kind_of_method_stays_of_its_kind_behind_the_check(
    make: Any, requests: bool, responses: bool
) -> None:
    given = make(stream if responses else echo, bytes.lower, bytes.upper)
    handler = await handler_of(["caller"], given)
    assert (handler.request_streaming, handler.response_streaming) == (requests, responses)
    assert (handler.request_deserializer, handler.response_serializer) == (bytes.lower, bytes.upper)
    call = next(filter(None, (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)))
    caller = Certified({COMMON: [b"caller"]})
    if responses:
        assert [answer async for answer in call(b"asked", caller)] == [b"asked"] * 2
        with pytest.raises(Aborted):
            await anext(call(b"asked", Certified({})))
    else:
        assert await call(b"asked", caller) == b"asked"


async def test_without_names_everybody_is_let_in() -> None:
    given = grpc.unary_unary_rpc_method_handler(echo)
    assert await handler_of([], given) is given


async def test_an_unknown_method_stays_unknown() -> None:
    assert await handler_of(["caller"], None) is None
