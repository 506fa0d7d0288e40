from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.adapters.runtime.onnx import OnnxRuntime
from serving.domain.errors import ArtifactError, InvalidRequest
from serving.domain.features import Feature, FeatureSet
from serving.domain.tensors import Datatype, TensorSpec
from tests.platform.support.artifacts import Model, external_data, rich, tiny


def load(model: Model, folder: Path) -> OnnxRuntime:
    return OnnxRuntime.load(model.opened(folder / "artifact"), threads=1)


class Harmful:
    """Leave a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", tiny().onnx[:-1], b"\x08" * 1000])
def test_bytes_that_are_not_a_model_are_refused(folder: Path, content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"artifact sha256=\w+: onnxruntime .* refuses its model.onnx") as refusal:
        load(replace(tiny(), onnx=content), folder)
    assert str(refusal.value).isprintable()
    # The reason, without codes and places in the source of onnxruntime.
    assert re.search(r"model\.onnx: \w[^:].*[^., ]\.$", str(refusal.value))
    assert not re.search(r"ONNXRuntimeError|\.cc:", str(refusal.value))


def test_a_pickle_named_like_a_model_is_refused_without_unpickling(folder: Path) -> None:
    canary = folder / "unpickled"
    content = pickle.dumps(Harmful(canary))
    with pytest.raises(ArtifactError, match="refuses its model.onnx"):
        load(replace(tiny(), onnx=content), folder)
    assert not canary.exists()
    pickle.loads(content)  # noqa: S301 - the canary works
    assert canary.exists()


@pytest.mark.parametrize("place", ["initializer", "sparse", "subgraph"])
@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "{folder}/weights.bin", "nowhere.bin"])
def test_a_model_that_refers_to_another_file_is_refused_even_if_it_exists(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, location: str
) -> None:
    """The digest vouches for the model's own bytes only."""
    monkeypatch.chdir(folder)
    (folder / "weights.bin").write_bytes(np.ones(1, np.float32).tobytes())
    features = replace(tiny().manifest.features, real_time=(Feature("value"),))
    content = external_data(place, location.format(folder=folder))
    model = replace(tiny(), onnx=content, manifest=replace(tiny().manifest, features=features))
    with pytest.raises(ArtifactError, match="export it as one file, without external data"):
        load(model, folder)


@pytest.mark.parametrize(
    ("side", "inputs", "outputs"),
    [
        ("input", (Feature("base"),), None),
        ("input", (Feature("base"), Feature("value"), Feature("more")), None),
        ("input", (Feature("base"), Feature("other")), None),
        ("input", (Feature("base"), Feature("value", datatype=Datatype.FP64)), None),
        ("input", (Feature("base"), Feature("value", shape=(2,))), None),
        ("output", None, (TensorSpec("sum", Datatype.FP32),)),
        ("output", None, (TensorSpec("total", Datatype.INT32),)),
    ],
)
def test_a_model_that_does_not_match_its_manifest_is_refused(
    folder: Path, side: str, inputs: tuple[Feature, ...] | None, outputs: tuple[TensorSpec, ...] | None
) -> None:
    model = tiny()
    manifest = replace(
        model.manifest,
        features=FeatureSet(model.manifest.features.entity, (), inputs or model.manifest.features.real_time),
        outputs=outputs or model.manifest.outputs,
    )
    ones = [1.0, 1.0]
    golden = replace(
        model.golden,
        inputs={**model.golden.inputs, "more": ones, "other": ones},
        outputs={**model.golden.outputs, "sum": ones},
    )
    with pytest.raises(ArtifactError, match=f"model.onnx does not fit its manifest: {side} .* declared is "):
        load(replace(model, manifest=manifest, golden=golden), folder)


async def test_bytes_that_are_not_text_are_an_invalid_request(folder: Path) -> None:
    model = rich([Datatype.BYTES])
    runtime = load(model, folder)
    inputs = {"bytes": np.array([b"\xff"], object), "words": np.array([[b"a", b"b"]], object)}
    inputs["matrix"] = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(InvalidRequest, match="input 'bytes': an element is not UTF-8, and this model takes text"):
        await runtime.predict(inputs, timeout=60.0)
    await runtime.close()


def test_a_model_has_as_many_threads_as_the_settings_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    real = onnxruntime.InferenceSession

    def session(model: bytes, options: onnxruntime.SessionOptions, **more: object) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return real(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    artifact = tiny().opened(folder / "artifact")
    for threads in (1, 4):
        OnnxRuntime.load(artifact, threads=threads)
    assert given == [1, 4]


async def test_outputs_are_found_by_name_whatever_their_order_in_the_graph(folder: Path) -> None:
    model = rich([Datatype.BOOL, Datatype.FP32])
    turned = replace(model, manifest=replace(model.manifest, outputs=model.manifest.outputs[::-1]))
    artifact = turned.opened(folder / "artifact")
    inputs = artifact.golden_inputs()
    answer = await OnnxRuntime.load(artifact, threads=1).predict(inputs, timeout=60.0)
    assert {name: tensor.tolist() for name, tensor in answer.items()} == {
        f"{name}_out": tensor.tolist() for name, tensor in inputs.items()
    }


def test_a_refusal_names_what_differs_in_the_first_few_inputs(folder: Path) -> None:
    model = tiny()
    more = tuple(Feature(f"more{number}") for number in range(3))
    features = FeatureSet(model.manifest.features.entity, (), (Feature("value", datatype=Datatype.FP64), *more))
    rows = {**model.golden.inputs, **{feature.name: [1.0, 1.0] for feature in more}}
    golden = replace(model.golden, inputs=rows)
    changed = replace(model, manifest=replace(model.manifest, features=features), golden=golden)
    artifact = changed.opened(folder / "artifact")
    with pytest.raises(ArtifactError) as refusal:
        OnnxRuntime.load(artifact, threads=1)
    assert str(refusal.value) == (
        f"artifact {artifact.digest}: model.onnx does not fit its manifest: "
        "input base is tensor(float) of 1 dimensions, declared is nothing; "
        "input more0 is missing, declared is tensor(float) of 1 dimensions; "
        "input more1 is missing, declared is tensor(float) of 1 dimensions and 2 more. "
        "Declare features and outputs as the model has them, and train or import it again."
    )
