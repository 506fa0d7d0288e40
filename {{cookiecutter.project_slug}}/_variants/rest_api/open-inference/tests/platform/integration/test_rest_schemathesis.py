"""Schemathesis reads the OpenAPI document and sends what fits it and what does not: no request is a server error.

SERVING_REST_CASES is the number of each kind for each call; 2600 are more than 10,000 requests for a prediction.
"""

from __future__ import annotations

import asyncio
import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from tests.platform.support.artifacts import tiny
from tests.platform.support.requests import MODEL
from tests.platform.support.rest import serving_rest
from tests.platform.support.services import fake_service

CASES = int(os.environ.get("SERVING_REST_CASES", "10"))
CALLS_WITH_A_BODY = 2
TIMEOUT = "X-Request-Timeout"


def wait_for(case: schemathesis.Case) -> None:
    """Let a valid deadline be long enough: a call that misses it is a 504, as it should be."""
    headers = dict(case.headers or {})
    try:
        if float(headers.get(TIMEOUT, "nan")) > 0:
            case.headers[TIMEOUT] = "60"
    except (TypeError, ValueError):
        pass  # a wrong one is what is tested


@pytest.mark.parametrize("model", [tiny(), MODEL], ids=lambda model: model.name)
async def test_no_request_of_schemathesis_is_a_server_error_or_breaks_the_document(model: object) -> None:
    load_all_checks()
    # A schema can't say that `data` has as many elements as `shape` says, so a request that fits it may be refused.
    excluded = [CHECKS.get_one("positive_data_acceptance")]

    def send(address: str) -> int:
        schema = schemathesis.openapi.from_url(f"http://{address}/v2/openapi.json")
        sent = 0
        for result in schema.get_all_operations():
            operation = result.ok()
            # Only a call with a body or headers can be wrong.
            modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
            for mode in modes:
                cases = operation.as_strategy(generation_mode=mode)

                @settings(max_examples=CASES, suppress_health_check=list(HealthCheck), derandomize=CASES <= 100)
                @given(case=cases)
                def one(case: schemathesis.Case) -> None:
                    nonlocal sent
                    sent += 1
                    wait_for(case)
                    case.call_and_validate(excluded_checks=excluded)

                one()
        return sent

    async with serving_rest(fake_service(model)) as rest:  # type: ignore[arg-type]
        assert await asyncio.to_thread(send, rest.address) >= CALLS_WITH_A_BODY * CASES
