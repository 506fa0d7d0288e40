from __future__ import annotations

import json

import grpc
import pytest

from serving.enrichment import UnknownEntity
from tests.support.artifacts import tiny
from tests.support.fakes import FakeStore
from tests.support.server import serving
from tests.support.services import DIGEST, fake_service
from tests.support.wire import floats, request

MODEL = tiny(static=True)
BODY = request("tiny", {"key": [b"known", b"nobody", b"\xff"], "value": [1.0, 2.0, 3.0]})


def store() -> FakeStore:
    return FakeStore({b"known": {"base": 10.0}})


async def test_an_answer_names_its_model_and_flags_nothing_where_nothing_was_missing() -> None:
    async with serving(fake_service(MODEL, store=store())) as wire:
        answer = await wire.infer(request("tiny", {"key": [b"known"], "value": [1.0]}, id="mine"))
    assert floats(answer) == [11.0]
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "mine")
    assert {key: value.string_param for key, value in answer.parameters.items()} == {"artifact_digest": DIGEST}


async def test_an_unknown_entity_is_answered_with_flagged_defaults() -> None:
    async with serving(fake_service(MODEL, store=store())) as wire:
        answer = await wire.infer(BODY)
    assert floats(answer) == [11.0, 102.0, 103.0]
    assert json.loads(answer.parameters["defaulted_features"].string_param) == {"base": [1, 2]}


async def test_an_unknown_entity_is_not_found_where_told_to_refuse() -> None:
    async with serving(fake_service(MODEL, store=store(), unknown=UnknownEntity.REFUSE)) as wire:
        code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.startswith("input 'key': the feature store has no base for 'nobody', ")
    assert text.isascii()


async def test_a_store_that_is_away_makes_the_service_unavailable_and_no_zeros() -> None:
    away = store()
    async with serving(fake_service(MODEL, store=away)) as wire:
        away.away = True
        code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
        assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the feature store can't be read.")
        away.away = False
        assert floats(await wire.infer(BODY))[0] == pytest.approx(11.0)
