from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from serving.domain.deadline import Deadline
from serving.domain.errors import (
    DeadlineExceeded,
    FeaturesNotFilled,
    FeaturesOutdated,
    FeatureStoreUnavailable,
    NotFound,
)
from serving.domain.features import Entity, Feature, FeatureSet, Missing
from serving.domain.tensors import Datatype, Tensors
from serving.prediction.enrichment import Enricher
from serving.prediction.fallback import Fallback
from tests.platform.support.fakes import FakeStore
from tests.platform.support.services import Observed

AGE = Feature("age", default=50.0)
CITY = Feature("city", datatype=Datatype.BYTES, default="Bern")
CURVE = Feature("curve", shape=(2,), default=-1.0)
STRICT = Feature("strict")
VALUE = Feature("value")
LONG = 60.0
NOW = 1_000_000.0

ROW = {"age": 31.0, "city": b"Oslo", "curve": [1.0, 2.0], "strict": 7.0}


class Setup:
    """An enricher with a fake store, and what it observed."""

    def __init__(
        self,
        *static: Feature,
        unknown: Fallback = Fallback.DEFAULT,
        unavailable: Fallback = Fallback.REFUSE,
        timeout: float = LONG,
    ) -> None:
        self.store = FakeStore({b"known": ROW, b"ageless": ROW | {"age": None}, b"zero": ROW | {"age": 0.0}})
        self.features = FeatureSet(Entity("key"), static or (AGE,), (VALUE,))
        self.seen = Observed()
        self.enricher = Enricher(
            self.store,
            self.features,
            self.seen,
            timeout=timeout,
            unknown_entity=unknown,
            store_unavailable=unavailable,
            clock=lambda: NOW,
        )


def request(*keys: bytes) -> Tensors:
    return {"key": np.array(keys, object), "value": np.ones(len(keys), np.float32)}


async def test_static_features_replace_the_key() -> None:
    setup = Setup(AGE, CITY, CURVE)
    enriched = await setup.enricher.enrich(request(b"known", b"known"), Deadline(LONG))
    assert sorted(enriched.inputs) == ["age", "city", "curve", "value"]
    assert enriched.inputs["age"].tolist() == [31.0, 31.0]
    assert enriched.inputs["city"].tolist() == [b"Oslo", b"Oslo"]
    assert enriched.inputs["curve"].tolist() == [[1.0, 2.0]] * 2
    assert not enriched.defaulted
    assert setup.seen.defaults == []


async def test_an_unknown_entity_gets_flagged_defaults() -> None:
    setup = Setup(AGE, CITY, CURVE)
    enriched = await setup.enricher.enrich(request(b"known", b"nobody", b"ageless"), Deadline(LONG))
    assert enriched.inputs["age"].tolist() == [31.0, 50.0, 50.0]
    assert enriched.inputs["city"].tolist() == [b"Oslo", b"Bern", b"Oslo"]
    assert enriched.inputs["curve"].tolist() == [[1.0, 2.0], [-1.0, -1.0], [1.0, 2.0]]
    assert enriched.defaulted == {"age": [1, 2], "city": [1], "curve": [1]}
    assert setup.seen.defaults == [("age", 2), ("city", 1), ("curve", 1)]


async def test_a_stored_zero_is_a_value_and_a_missing_value_is_not_zero() -> None:
    enriched = await Setup().enricher.enrich(request(b"zero", b"nobody"), Deadline(LONG))
    assert enriched.inputs["age"].tolist() == [0.0, 50.0]
    assert enriched.defaulted == {"age": [1]}


async def test_arrays_from_the_store_are_not_modified() -> None:
    setup = Setup()
    first = await setup.enricher.enrich(request(b"known", b"nobody"), Deadline(LONG))
    again = await setup.enricher.enrich(request(b"known", b"nobody"), Deadline(LONG))
    assert first.defaulted == again.defaulted


@pytest.mark.parametrize("key", [b"nobody", b"ageless"])
async def test_an_unknown_entity_is_refused_if_configured(key: bytes) -> None:
    setup = Setup(unknown=Fallback.REFUSE)
    with pytest.raises(NotFound) as refusal:
        await setup.enricher.enrich(request(b"known", key), Deadline(LONG))
    assert str(refusal.value) == (
        f"input 'key': the feature store has no age for '{key.decode()}' (1 in all); "
        "correct the key or materialize its features."
    )
    assert setup.seen.defaults == []


async def test_a_missing_feature_without_a_default_is_always_refused() -> None:
    with pytest.raises(NotFound, match="no strict for 'nobody'"):
        await Setup(AGE, STRICT).enricher.enrich(request(b"nobody"), Deadline(LONG))


async def test_a_refusal_names_a_few_entities_once_and_counts_all() -> None:
    setup = Setup(unknown=Fallback.REFUSE)
    keys = [b"\x1b[31m", *(b"n%d" % (number % 40) for number in range(80))]
    with pytest.raises(NotFound) as refusal:
        await setup.enricher.enrich(request(*keys), Deadline(LONG))
    text = str(refusal.value)
    assert r"'\x1b[31m', 'n0', 'n1', 'n2', 'n3' (41 in all)" in text
    assert text.isascii()


async def test_a_store_read_has_its_timeout_whatever_the_caller_has_left() -> None:
    given: list[float] = []

    class Watched(FakeStore):
        async def read(self, entities, features, *, timeout):  # type: ignore[no-untyped-def]
            given.append(timeout)
            return await super().read(entities, features, timeout=timeout)

    setup = Setup(timeout=0.05)
    enricher = Enricher(Watched({b"known": ROW}), setup.features, setup.seen, timeout=0.05)
    for left in (LONG, 0.02):
        await enricher.enrich(request(b"known"), Deadline(left))
    assert given == [0.05, 0.05]


@pytest.mark.parametrize("left", [-1.0, 0.0, 0.01])
async def test_a_caller_whose_time_is_up_gets_no_substitute_and_blames_no_store(left: float) -> None:
    setup = Setup(AGE, unavailable=Fallback.DEFAULT)
    setup.store.gate = asyncio.Event()
    with pytest.raises(DeadlineExceeded, match="passed while the features were read"):
        await setup.enricher.enrich(request(b"known"), Deadline(left))
    assert setup.seen.defaults == []


async def test_what_the_caller_has_left_is_all_that_a_read_gets() -> None:
    setup = Setup()
    setup.store.gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, setup.store.gate.set)  # after the deadline, so too late
    with pytest.raises(DeadlineExceeded):
        await setup.enricher.enrich(request(b"known"), Deadline(0.01))


async def test_an_unavailable_store_is_reported_and_its_duration_is_observed() -> None:
    setup = Setup()
    setup.store.unavailable = True
    with pytest.raises(FeatureStoreUnavailable):
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    assert len(setup.seen.reads) == 1
    assert math.isfinite(setup.seen.reads[0])
    assert setup.seen.defaults == []


async def test_an_unavailable_store_is_replaced_by_flagged_defaults_if_configured() -> None:
    setup = Setup(AGE, CITY, CURVE, unavailable=Fallback.DEFAULT)
    setup.store.unavailable = True
    enriched = await setup.enricher.enrich(request(b"known", b"nobody"), Deadline(LONG))
    assert enriched.inputs["age"].tolist() == [50.0, 50.0]
    assert enriched.inputs["city"].tolist() == [b"Bern", b"Bern"]
    assert enriched.inputs["curve"].tolist() == [[-1.0, -1.0]] * 2
    assert enriched.defaulted == {"age": [0, 1], "city": [0, 1], "curve": [0, 1]}
    assert setup.seen.defaults == [("age", 2), ("city", 2), ("curve", 2)]


async def test_a_feature_without_a_default_has_no_substitute_while_the_store_is_unavailable() -> None:
    setup = Setup(AGE, STRICT, unavailable=Fallback.DEFAULT)
    setup.store.unavailable = True
    with pytest.raises(FeatureStoreUnavailable):
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    assert setup.seen.defaults == []


async def test_without_static_features_the_store_is_not_read() -> None:
    setup = Setup()
    features = FeatureSet(Entity("key"), (), (VALUE,))
    enricher = Enricher(setup.store, features, setup.seen, timeout=LONG)
    inputs = {"value": np.ones(2, np.float32)}
    assert (await enricher.enrich(inputs, Deadline(LONG))).inputs == inputs
    assert (setup.store.reads, setup.seen.reads) == (0, [])


KEPT = Feature("age", default=50.0, missing=Missing.LAST_KNOWN)


async def test_the_last_known_value_is_used_and_flagged_while_the_store_is_unavailable() -> None:
    setup = Setup(KEPT, CITY, unavailable=Fallback.DEFAULT)
    await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.unavailable = True
    enriched = await setup.enricher.enrich(request(b"nobody", b"known", b"known"), Deadline(LONG))
    assert enriched.inputs["age"].tolist() == [50.0, 31.0, 31.0]
    assert enriched.last_known == {"age": [1, 2]}
    assert enriched.defaulted == {"age": [0], "city": [0, 1, 2]}
    assert setup.seen.last_known == [("age", 2)]
    assert setup.seen.defaults == [("age", 1), ("city", 3)]
    assert setup.seen.failures == ["unavailable"]


@pytest.mark.parametrize("unavailable", Fallback)
async def test_an_emptied_store_counts_as_unavailable_not_as_full_of_unknown_entities(unavailable: Fallback) -> None:
    setup = Setup(KEPT, unavailable=unavailable)
    await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.rows, setup.store.filled = {}, False
    if unavailable is Fallback.REFUSE:
        with pytest.raises(FeaturesNotFilled, match="holds no features; fill it with `make features`"):
            await setup.enricher.enrich(request(b"known"), Deadline(LONG))
        assert setup.seen.failures == ["not_filled"]
        return
    enriched = await setup.enricher.enrich(request(b"known", b"nobody"), Deadline(LONG))
    assert enriched.inputs["age"].tolist() == [31.0, 50.0]
    assert (enriched.last_known, enriched.defaulted) == ({"age": [0]}, {"age": [1]})


async def test_a_deleted_entity_has_no_last_known_value() -> None:
    setup = Setup(KEPT, unavailable=Fallback.DEFAULT)
    await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.delete([b"known"])
    for unavailable in (False, True):
        setup.store.unavailable = unavailable
        enriched = await setup.enricher.enrich(request(b"known"), Deadline(LONG))
        assert (enriched.last_known, enriched.defaulted) == ({}, {"age": [0]})


async def test_a_last_known_value_keeps_its_age_and_is_not_used_beyond_the_declared_one() -> None:
    setup = Setup(replace(KEPT, max_age_days=1), unavailable=Fallback.DEFAULT)
    setup.store.times = {(b"known", "age"): int(NOW) - 60, (b"zero", "age"): int(NOW) - 90_000}
    await setup.enricher.enrich(request(b"known", b"zero"), Deadline(LONG))
    setup.store.unavailable = True
    setup.seen.ages.clear()
    enriched = await setup.enricher.enrich(request(b"known", b"zero"), Deadline(LONG))
    assert (enriched.last_known, enriched.defaulted) == ({"age": [0]}, {"age": [1]})
    assert setup.seen.ages == [("age", [60.0])]


async def test_a_value_from_the_store_replaces_the_last_known_one() -> None:
    setup = Setup(Feature("age", missing=Missing.LAST_KNOWN), unavailable=Fallback.DEFAULT)
    for value in (31.0, 32.0):
        setup.store.rows[b"known"]["age"] = value
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.unavailable = True
    assert (await setup.enricher.enrich(request(b"known"), Deadline(LONG))).inputs["age"].tolist() == [32.0]


@pytest.mark.parametrize("forbidden", [Feature("age", default=50.0, missing=Missing.FAIL), KEPT])
async def test_no_substitute_is_used_where_it_is_forbidden(forbidden: Feature) -> None:
    setup = Setup(forbidden, unknown=Fallback.REFUSE)
    await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.rows = {}
    with pytest.raises(NotFound):
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    setup.store.unavailable = True
    with pytest.raises(FeatureStoreUnavailable):
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))


async def test_a_missing_required_feature_refuses_the_call_despite_a_default() -> None:
    setup = Setup(Feature("age", default=50.0, missing=Missing.FAIL), unavailable=Fallback.DEFAULT)
    with pytest.raises(NotFound):
        await setup.enricher.enrich(request(b"nobody"), Deadline(LONG))
    setup.store.unavailable = True
    with pytest.raises(FeatureStoreUnavailable):
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))


async def test_ages_of_values_are_reported_and_undated_values_have_none() -> None:
    setup = Setup(AGE, CITY)
    setup.store.times = {(b"known", "age"): int(NOW) - 60}
    await setup.enricher.enrich(request(b"known", b"zero", b"nobody"), Deadline(LONG))
    assert setup.seen.ages == [("age", [60.0])]


async def test_a_store_filled_for_another_declaration_is_reported_without_a_substitute() -> None:
    setup = Setup(AGE, unavailable=Fallback.DEFAULT)
    setup.store.forms = {"age": "INT64[]"}
    with pytest.raises(FeaturesOutdated) as refusal:
        await setup.enricher.enrich(request(b"known"), Deadline(LONG))
    assert str(refusal.value) == (
        "the feature store holds age as 'INT64[]', the model takes 'FP32[]'; fill it again with `make features`."
    )


async def test_the_model_gets_its_inputs_in_the_declared_order() -> None:
    setup = Setup(AGE, CITY)
    enriched = await setup.enricher.enrich(dict(reversed(request(b"known").items())), Deadline(LONG))
    assert list(enriched.inputs) == ["age", "city", "value"]
