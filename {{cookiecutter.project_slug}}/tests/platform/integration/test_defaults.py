from __future__ import annotations

import json
from dataclasses import replace

import grpc
import pytest

from serving.domain.features import Feature, Missing
from serving.prediction.fallback import Fallback
from tests.platform.support.artifacts import Model, tiny
from tests.platform.support.fakes import FakeStore
from tests.platform.support.server import serving
from tests.platform.support.services import DIGEST, fake_service
from tests.platform.support.wire import floats, request

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


async def test_an_unknown_entity_is_not_found_if_the_setting_says_refuse() -> None:
    async with serving(fake_service(MODEL, store=store(), unknown=Fallback.REFUSE)) as wire:
        code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.startswith("input 'key': the feature store has no base for 'nobody', ")
    assert text.isascii()


async def test_an_unavailable_store_makes_the_service_unavailable_instead_of_answering_with_zeros() -> None:
    away = store()
    async with serving(fake_service(MODEL, store=away)) as wire:
        away.unavailable = True
        code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
        assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the feature store can't be read.")
        away.unavailable = False
        assert floats(await wire.infer(BODY))[0] == pytest.approx(11.0)


def remembering() -> Model:
    """Return the model with a feature that falls back to its last known value."""
    base = Feature("base", missing=Missing.LAST_KNOWN)
    features = replace(MODEL.manifest.features, static=(base,))
    return replace(MODEL, manifest=replace(MODEL.manifest, features=features))


async def test_the_last_known_value_is_used_and_flagged() -> None:
    emptied = store()
    async with serving(fake_service(remembering(), store=emptied, unavailable=Fallback.DEFAULT)) as wire:
        await wire.infer(request("tiny", {"key": [b"known"], "value": [1.0]}))
        emptied.rows, emptied.filled = {}, False
        answer = await wire.infer(request("tiny", {"key": [b"known"], "value": [2.0]}))
    assert floats(answer) == [12.0]
    assert json.loads(answer.parameters["last_known_features"].string_param) == {"base": [0]}
    assert "defaulted_features" not in answer.parameters


async def test_a_store_filled_for_another_declaration_is_a_failed_precondition() -> None:
    outdated = store()
    outdated.forms = {"base": "INT64[]"}
    async with serving(fake_service(MODEL, store=outdated)) as wire:
        code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert text.endswith("fill it again with `make features`.")


async def test_a_key_that_is_sent_twice_is_answered_twice() -> None:
    async with serving(fake_service(MODEL, store=store())) as wire:
        answer = await wire.infer(request("tiny", {"key": [b"known", b"x", b"known"], "value": [1.0, 1.0, 3.0]}))
    assert floats(answer) == [11.0, 101.0, 13.0]


async def test_ten_thousand_keys_in_one_call_are_refused_before_the_store_is_read() -> None:
    untouched = store()
    keys = [b"key-%d" % number for number in range(10_000)]
    async with serving(fake_service(MODEL, store=untouched)) as wire:
        body = request("tiny", {"key": keys, "value": [1.0] * len(keys)}).SerializeToString()
        code, text = await wire.refused("ModelInfer", body)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "input 'key': has 10000 rows, must have 1 to 1024; split a larger batch."
    assert untouched.reads == 0


async def test_keys_of_another_type_are_refused() -> None:
    async with serving(fake_service(MODEL, store=store())) as wire:
        body = request("tiny", {"key": [b"known"], "value": [1.0]})
        body.inputs[0].datatype = "FP32"
        code, text = await wire.refused("ModelInfer", body.SerializeToString())
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "input 'key': datatype is 'FP32', must be BYTES.")
