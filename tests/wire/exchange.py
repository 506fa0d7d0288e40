"""Exchange messages with TensorFlow Serving's own definitions: run by tests/test_prediction_service.py.

This runs in an environment with TensorFlow and tensorflow-serving-api. Our messages live in a private descriptor pool,
so both fit into one process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2, wrappers_pb2
from serving_client._proto import prediction_service_pb2 as ours
from serving_client.tensorflow_tensors import from_proto, to_proto
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2, status_pb2

THEIRS = {
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "TensorShapeProto.Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorProto": tensor_pb2.TensorProto,
    "Int64Value": wrappers_pb2.Int64Value,
    "Any": any_pb2.Any,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "StatusProto": status_pb2.StatusProto,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "bfloat16", "S"]
MESSAGES = 10_000


def main() -> None:
    """Compare all definitions, then exchange random messages; the exit code says whether all agreed."""
    faults = list(differences())
    if faults:
        sys.exit("\n".join(faults))
    drawn = np.random.default_rng(20)
    for number in range(MESSAGES):
        exchange(drawn, number)
    print(f"{len(THEIRS)} definitions agree, {MESSAGES} messages were read alike in both directions")


def differences() -> Iterator[str]:
    """Give each field and enum value of ours that theirs do not have so."""
    for name, theirs in THEIRS.items():
        mine: Any = ours
        for part in name.split("."):
            mine = getattr(mine, part)
        known = {field.name: form(field) for field in theirs.DESCRIPTOR.fields}
        for field in mine.DESCRIPTOR.fields:
            if known.get(field.name) != form(field):
                yield f"{name}.{field.name} is {form(field)}, theirs {known.get(field.name)}"
    enums = (
        (ours.DataType, types_pb2.DataType),
        (ours.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
    )
    for mine, theirs in enums:
        wrong = dict(mine.items()).items() - dict(theirs.items()).items()
        yield from (f"enum value {name} = {value} is not theirs" for name, value in wrong)


def form(field: Any) -> tuple[Any, ...]:
    """Return what decides the bytes of a field; enums and small integers are equal on the wire."""
    kinds = {field.TYPE_ENUM: field.TYPE_INT32}
    inside = field.message_type
    entry = tuple(form(part) for part in inside.fields) if inside and inside.GetOptions().map_entry else ()
    return field.number, kinds.get(field.type, field.type), field.is_repeated, entry


def exchange(drawn: np.random.Generator, number: int) -> None:
    """Send one random request and one random response each way, and compare what was read."""
    arrays = {f"tensor {place}": array(drawn) for place in range(drawn.integers(0, 4))}
    name, version, label = f"model {number}", int(drawn.integers(-(2**62), 2**62)), f"label {number}"
    mine = ours.PredictRequest(
        model_spec=ours.ModelSpec(name=name, signature_name="s", version=ours.Int64Value(value=version)),
        inputs={key: packed(key, values) for key, values in arrays.items()},
        output_filter=list(arrays),
    )
    if number % 2:
        mine.model_spec.version_label = label
    read = predict_pb2.PredictRequest.FromString(mine.SerializeToString())
    spec = read.model_spec
    assert (spec.name, spec.signature_name, spec.WhichOneof("version_choice")) == (
        name, "s", "version_label" if number % 2 else "version",
    )  # fmt: skip
    assert (spec.version_label if number % 2 else spec.version.value) == (label if number % 2 else version)
    assert list(read.output_filter) == list(arrays)
    assert read.inputs.keys() == arrays.keys()
    for key, values in arrays.items():
        same(tf.make_ndarray(read.inputs[key]), values)
    answer = predict_pb2.PredictResponse(
        model_spec=model_pb2.ModelSpec(name=name, version=wrappers_pb2.Int64Value(value=version))
    )
    for key, values in arrays.items():
        answer.outputs[key].CopyFrom(tf.make_tensor_proto(values))
    got = ours.PredictResponse.FromString(answer.SerializeToString())
    assert (got.model_spec.name, got.model_spec.version.value) == (name, version)
    assert got.outputs.keys() == arrays.keys()
    for key, values in arrays.items():
        same(from_proto(key, got.outputs[key]), values)


def array(drawn: np.random.Generator) -> Any:
    """Return an array of a random type, with 0 to 4 dimensions."""
    shape = tuple(drawn.integers(0, 4, drawn.integers(0, 5)))
    kind = TYPES[drawn.integers(len(TYPES))]
    if kind == "S":
        texts = np.empty(shape, object)
        texts[...] = b""
        for place in np.ndindex(shape):
            texts[place] = drawn.bytes(drawn.integers(0, 9))
        return texts
    if kind == "bfloat16":
        return drawn.normal(size=shape).astype(tf.bfloat16.as_numpy_dtype)
    if kind.startswith("f"):
        return drawn.normal(size=shape).astype(kind)
    return np.frombuffer(drawn.bytes(8 * int(np.prod(shape))), "u8").reshape(shape).astype(kind)


def packed(key: str, values: Any) -> ours.TensorProto:
    if values.dtype == tf.bfloat16.as_numpy_dtype:
        return to_proto(key, values.astype(np.float32), bfloat16=True)
    return to_proto(key, values)


def same(read: Any, sent: Any) -> None:
    """Refuse arrays that differ; bfloat16 may be read as FP32."""
    if sent.dtype == tf.bfloat16.as_numpy_dtype:
        read, sent = np.asarray(read).astype(np.float32), sent.astype(np.float32)
    assert np.asarray(read).shape == sent.shape
    assert np.asarray(read).dtype == sent.dtype
    np.testing.assert_array_equal(read, sent)


if __name__ == "__main__":
    main()
