from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from prometheus_client import Metric

from serving.domain.distributions import Distribution, Distributions
from serving.domain.lineage import Lineage
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import Wire, request

HOSTILE = ["a\r\nINFO forged", "\x1b[31mred\x1b[0m", "nul\0byte", '"}\n{"level": "INFO"', "\N{PILE OF POO}" * 64]
# Metrics whose label values appear only after an event, such as a refusal's reason.
LABELLED_BY_EVENTS = {
    *("serving_refused", "serving_feature_defaults", "serving_feature_last_known"),
    *("serving_feature_age_days", "serving_feature_stale"),
    "serving_denied",
    "serving_feature_store_failures",
    "serving_prediction_log_lost",
}
GOOD = request("tiny", {"base": [1.0], "value": [2.0]})


def expected(family: Metric) -> set[str]:
    """Return a metric's names on the page."""
    return {
        "counter": {f"{family.name}_total"},
        "histogram": {f"{family.name}_count", f"{family.name}_sum", f"{family.name}_bucket"},
    }.get(family.type, {family.name})


async def test_the_metrics_page_has_every_metric_and_counts_what_happened(folder: Path) -> None:
    reference = tiny().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            for _ in range(3):
                await wire.infer(GOOD)
            await wire.refused("ModelInfer", b"")
        page = server.metrics()
        names = {key.partition("{")[0] for key in page}
        for family in Metrics.create().registry.collect():
            assert family.name in LABELLED_BY_EVENTS or expected(family) <= names
        label = f"{{digest={reference.digest},model=tiny,version=1}}"
        assert page[f"serving_model_info{label}"] == 1
        assert page["serving_ready"] == 1
        assert page["serving_in_flight"] == page["serving_queued"] == 0
        assert page["grpc_server_started_total{grpc_method=ModelInfer}"] == 4
        assert page["grpc_server_handled_total{grpc_code=OK,grpc_method=ModelInfer}"] == 3
        assert page["grpc_server_handled_total{grpc_code=INVALID_ARGUMENT,grpc_method=ModelInfer}"] == 1
        assert page["grpc_server_handling_seconds_count{grpc_method=ModelInfer}"] == 4
        assert page["serving_model_seconds_count"] == 3


async def test_values_are_counted_in_the_bins_of_training_which_come_from_the_served_version(folder: Path) -> None:
    known = Distribution((0.0, 0.5, 0.5, 0.0), (1.0, 2.0))
    lineage = Lineage(distributions=Distributions({"value": known}))
    replace(tiny(), lineage=lineage).lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            for _ in range(3):
                await wire.infer(GOOD)
        page = server.metrics()
        of_two = "{bin=02 from 2,kind=input,model=tiny,name=value,version=1}"
        assert page[f"serving_values_total{of_two}"] == 3
        assert page[f"serving_values_trained_share{of_two}"] == 0.5
        assert page["serving_rows_total{model=tiny,version=1}"] == 3
        assert page["serving_limit{what=in_flight}"] == 64
        assert page["serving_limit{what=queued}"] == 1024
        assert page["serving_limit{what=request_bytes}"] > page["serving_request_bytes"] == 0


async def test_every_log_record_is_one_line_of_json_whatever_callers_send(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            for text in HOSTILE:
                await wire.refused("ModelInfer", pb.ModelInferRequest(model_name=text).SerializeToString())
                wrong = request("tiny", {"base": [1.0], "value": [2.0]}, id=text)
                wrong.inputs[0].name = text
                await wire.refused("ModelInfer", wrong.SerializeToString())
        server.kill()
        records = [json.loads(line) for line in server.lines]
        refusals = [record for record in records if record["message"].startswith("ModelInfer INVALID_ARGUMENT")]
        assert len(refusals) == 2 * len(HOSTILE)
        assert all(line.isascii() for line in server.lines)


@pytest.mark.parametrize("sent", ["order-7", None])
async def test_a_refusal_is_found_in_the_log_by_its_request_id(folder: Path, sent: str | None) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", b"", metadata=[("x-request-id", sent)] if sent else ())
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call
            message = dict(refusal.value.trailing_metadata())["x-request-id"]
            assert sent in (message, None)
        record = server.wait_for(lambda record: record.get("request_id") == message)
        assert "model_name ''" in record["message"]


async def test_an_answer_carries_the_request_id_too(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", GOOD.SerializeToString(), metadata=[("x-request-id", "mine")])
            answer = pb.ModelInferResponse.FromString(await call)
            assert dict(await call.trailing_metadata())["x-request-id"] == answer.id == "mine"
