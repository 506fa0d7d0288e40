from __future__ import annotations

import grpc
import pytest

from serving.domain.errors import InvalidRequest, NotFound
from serving.online.admission import Admission, Limits
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.servicer import InferenceServicer
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.grpc_context import FakeContext
from tests.platform.support.malformed import MALFORMED, Malformed
from tests.platform.support.requests import MODEL, good, good_typed
from tests.platform.support.services import AMPLE, answer_of, fake_service

ERRORS = {grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest, grpc.StatusCode.NOT_FOUND: NotFound}


async def infer(body: bytes, runtime: FakeRuntime) -> pb.ModelInferResponse:
    """Ask the servicer, without a network."""
    service = fake_service(MODEL, runtime=runtime)
    servicer = InferenceServicer(service, Admission(Limits(1, 0, AMPLE), lambda _: None), 60.0)
    return pb.ModelInferResponse.FromString(await servicer.model_infer(body, FakeContext().as_context()))


@pytest.mark.parametrize("request_", [good(), good_typed()], ids=["raw", "typed"])
async def test_the_base_requests_are_valid(request_: pb.ModelInferRequest) -> None:
    answer = await infer(request_.SerializeToString(), FakeRuntime(answer_of(MODEL)))
    assert [output.name for output in answer.outputs] == [spec.name for spec in MODEL.manifest.outputs]


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_a_malformed_request_is_refused_before_the_model_is_called(case: Malformed) -> None:
    runtime = FakeRuntime(answer_of(MODEL))
    with pytest.raises(ERRORS[case.code]) as refusal:
        await infer(case.body(), runtime)
    for word in case.words:
        assert word in str(refusal.value)
    assert runtime.calls == 0


def test_every_case_has_a_unique_name() -> None:
    assert len({case.name for case in MALFORMED}) == len(MALFORMED)
