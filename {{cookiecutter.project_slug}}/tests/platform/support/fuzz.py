"""Mutated requests: good ones with a few random changes to fields or bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb

STRUCTURED_SHARE = 0.7
_NAMES = ("", "nobody", "../../etc/passwd", "a\r\nb", "\x1b[31m", "nul\0", "\N{PILE OF POO}", "x" * 300)
_NUMBERS = (0, 1, -1, 2, 3, 1024, 1025, 1 << 31, (1 << 62) + 1, (1 << 63) - 1, -(1 << 63))
_DATATYPES = (*Datatype, "", "FLOAT", "BF16", "fp32", "BYTES\0")
_CHUNKS = (b"", b"\0", b"\xff" * 4, b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\xff\x7f")
_FIELDS = tuple(field.name for field in pb.InferTensorContents.DESCRIPTOR.fields)


def bodies(seed: int, count: int, starts: Sequence[pb.ModelInferRequest]) -> Iterator[bytes]:
    """Yield `count` bodies, the same for the same seed; each starts as a good request."""
    source = random.Random(seed)
    for _ in range(count):
        start = source.choice(starts)
        if source.random() < STRUCTURED_SHARE:
            request = pb.ModelInferRequest()
            request.CopyFrom(start)
            for _ in range(source.randint(1, 3)):
                source.choice(_CHANGES)(source, request)
            yield request.SerializeToString()
        else:
            yield _bytes_changed(source, start.SerializeToString())


def _names(source: random.Random, request: pb.ModelInferRequest) -> None:
    field = source.choice(("model_name", "model_version", "id"))
    setattr(request, field, source.choice(_NAMES))


def _input(source: random.Random, request: pb.ModelInferRequest) -> Any:
    return source.choice(request.inputs) if request.inputs else request.inputs.add()


def _input_name(source: random.Random, request: pb.ModelInferRequest) -> None:
    _input(source, request).name = source.choice((*_NAMES, _input(source, request).name))


def _datatype(source: random.Random, request: pb.ModelInferRequest) -> None:
    _input(source, request).datatype = source.choice(_DATATYPES)


def _shape(source: random.Random, request: pb.ModelInferRequest) -> None:
    shape = _input(source, request).shape
    if shape and source.random() < 0.7:
        shape[source.randrange(len(shape))] = source.choice(_NUMBERS)
    elif shape and source.random() < 0.5:
        shape.pop()
    else:
        shape.extend([source.choice(_NUMBERS)] * source.choice((1, 2, 100)))


def _rows(source: random.Random, request: pb.ModelInferRequest) -> None:
    rows = source.choice((1, 2, 3, 1024, 1025, 0))
    for tensor in request.inputs:
        tensor.shape[:1] = [rows]


def _raw(source: random.Random, request: pb.ModelInferRequest) -> None:
    contents = request.raw_input_contents
    if not contents or source.random() < 0.1:
        contents.append(source.choice(_CHUNKS))
        return
    index = source.randrange(len(contents))
    contents[index] = source.choice(
        (
            contents[index][: source.randrange(len(contents[index]) + 1)],
            contents[index] + source.choice(_CHUNKS),
            source.choice(_CHUNKS) + contents[index][4:],
            _bytes_changed(source, contents[index]),
            source.randbytes(len(contents[index])),
        )
    )


def _typed(source: random.Random, request: pb.ModelInferRequest) -> None:
    contents = _input(source, request).contents
    field = source.choice(_FIELDS)
    value: Any = source.choice(_CHUNKS) if field == "bytes_contents" else source.randint(0, 1)
    if field in ("fp32_contents", "fp64_contents"):
        value = source.choice((0.0, 1e30, float("nan"), float("inf"), float("-inf")))
    elif field in ("int_contents", "int64_contents"):
        value = source.choice((0, -1, 128, -129, (1 << 31) - 1))
    getattr(contents, field).extend([value] * source.choice((1, 2, 12)))


def _drop(source: random.Random, request: pb.ModelInferRequest) -> None:
    field = source.choice((request.inputs, request.raw_input_contents))
    if field:
        del field[source.randrange(len(field))]


def _repeat(source: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        request.inputs.add().CopyFrom(source.choice(request.inputs))


def _output(source: random.Random, request: pb.ModelInferRequest) -> None:
    request.outputs.add(name=source.choice((*_NAMES, "fp32_out", "matrix_out")))


def _parameter(source: random.Random, request: pb.ModelInferRequest) -> None:
    for number in range(source.choice((1, 40))):
        request.parameters[f"{source.choice(_NAMES)[:9]}{number}"].string_param = "x"


_CHANGES: tuple[Callable[[random.Random, pb.ModelInferRequest], None], ...] = (
    _names,
    _input_name,
    _datatype,
    _shape,
    _rows,
    _raw,
    _raw,
    _typed,
    _drop,
    _repeat,
    _output,
    _parameter,
)


def _bytes_changed(source: random.Random, content: bytes) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    changed = bytearray(content)
    for _ in range(source.randint(1, 8)):
        at = source.randrange(len(changed) + 1)
        action = source.randrange(4)
        if action == 0 and at < len(changed):
            changed[at] ^= 1 << source.randrange(8)
        elif action == 1:
            del changed[at : at + source.randint(1, 16)]
        elif action == 2:
            changed[at:at] = changed[at : at + source.randint(1, 16)]
        else:
            changed[at:at] = source.choice(_CHUNKS)
    return bytes(changed)
