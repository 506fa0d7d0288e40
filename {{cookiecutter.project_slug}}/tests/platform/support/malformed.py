"""Every known kind of malformed request, with the code and the words of its refusal.

All derive from the good ones in `requests.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from tests.platform.support.changes import (
    Change,
    datatype,
    drop_contents,
    drop_input,
    end_with,
    extra_input,
    input_parameters,
    model_name,
    model_version,
    no_inputs,
    other_rows,
    outputs,
    parameters,
    raw_contents,
    say_length,
    shape,
    typed_values,
)
from tests.platform.support.requests import ROWS, Request, good, good_typed, tensor
from tests.platform.support.services import MAX_ROWS

LARGEST = (1 << 63) - 1

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@dataclass(frozen=True)
class Malformed:
    """One wrong request: how to make its body, and what its refusal must say."""

    name: str
    body: Callable[[], bytes]
    words: tuple[str, ...]
    code: grpc.StatusCode = INVALID

    def __str__(self) -> str:
        return self.name


def _changed(start: Callable[[], Request], change: Change) -> Callable[[], bytes]:
    def body() -> bytes:
        request = start()
        change(request)
        return request.SerializeToString()

    return body


def _case(name: str, change: Change, *words: str, code: grpc.StatusCode = INVALID) -> Malformed:
    return Malformed(name, _changed(good, change), words, code)


def _typed(name: str, change: Change, *words: str) -> Malformed:
    return Malformed(name, _changed(good_typed, change), words)


_NAMES = (
    Malformed("empty request", lambda: b"", ("model_name ''", "1 to 128")),
    _case("unknown model", model_name("nobody"), "model 'nobody'", "rich", code=NOT_FOUND),
    _case("path for a model name", model_name("../../etc/passwd"), "model_name '../../etc/passwd'"),
    _case("line break in the model name", model_name("rich\r\nERROR forged"), r"model_name 'rich\r\nERROR forged'"),
    _case("terminal colours in the model name", model_name("\x1b[31mrich"), r"model_name '\x1b[31mrich'"),
    _case("NUL in the model name", model_name("rich\0"), r"model_name 'rich\x00'"),
    _case("emoji for a model name", model_name("\N{PILE OF POO}" * 99), r"model_name '\U0001f4a9", "1 to 128"),
    _case("model name of 100 KB", model_name("n" * 100_000), f"model_name '{'n' * 64}'...", "1 to 128"),
    _case("unknown version", model_version("99"), "model version '99'", "version 1", code=NOT_FOUND),
    _case("path for a version", model_version("../1"), "model_version '../1'"),
    _case("id of 100 KB", lambda request: setattr(request, "id", "i" * 100_000), "id 'iii", "100000", "256"),
)

_INPUTS = (
    _case("no input", no_inputs, "inputs: 0", "fp32"),
    _case("one input missing", drop_input, "input 'bool' is missing"),
    _case("wrong input name", lambda r: setattr(tensor(r, "fp32"), "name", "fp23"), "input 'fp23' is unknown", "fp32"),
    _case("empty input name", lambda r: setattr(tensor(r, "fp32"), "name", ""), "input '' is unknown"),
    _case("the same input twice", lambda r: setattr(tensor(r, "fp32"), "name", "bool"), "input 'bool'", "twice"),
    _case("one input too many", extra_input, "inputs: 16", "15"),
    _case("unknown datatype", datatype("FLOAT"), "input 'fp32'", "'FLOAT'", "FP32"),
    _case("datatype of another size", datatype("FP64"), "input 'fp32'", "'FP64'", "FP32"),
    _case("datatype of the same size", datatype("INT32"), "input 'fp32'", "'INT32'", "FP32"),
    _case("datatype that NumPy lacks", datatype("BF16"), "input 'fp32'", "'BF16'", "FP32"),
    _case("no datatype", datatype(""), "input 'fp32'", "''", "FP32"),
)

_SHAPES = (
    _case("no shape", shape(), "input 'matrix'", "0 dimensions", "3", "[rows, 2, 3]"),
    _case("minus one for rows", shape(-1, 2, 3), "input 'matrix'", "-1 rows"),
    _case("minus one for a dimension", shape(ROWS, -1, 3), "input 'matrix'", "[2, -1, 3]", "[rows, 2, 3]"),
    _case("wrong rank", shape(ROWS, 6), "input 'matrix'", "2 dimensions", "[rows, 2, 3]"),
    _case("zero rows", shape(0, 2, 3), "input 'matrix'", "0 rows"),
    _case("transposed dimensions", shape(ROWS, 3, 2), "input 'matrix'", "[2, 3, 2]", "[rows, 2, 3]"),
    _case("product beyond 2^62", shape(ROWS, 1 << 31, 1 << 31), "input 'matrix'", "2147483648", "[rows, 2, 3]"),
    _case("largest rows", shape(LARGEST, 2, 3), "input 'matrix'", f"{LARGEST} rows"),
    _case("largest dimensions", shape(*[LARGEST] * 3), "input 'matrix'", f"{LARGEST} rows"),
    _case("100,000 dimensions", shape(*[1] * 100_000), "input 'matrix'", "100000 dimensions"),
    _case("batch over the limit", shape(MAX_ROWS + 1, 2, 3), "input 'matrix'", "1025 rows", "1 to 1024"),
    _case("rows that differ", other_rows, "input 'fp32'", "1 rows", "have 2"),
)

_RAW = (
    _case("raw contents short", raw_contents("fp32", lambda c: c[:-4]), "input 'fp32'", "4 bytes", "has 8"),
    _case("raw contents no multiple", raw_contents("fp32", lambda c: c[:-1]), "input 'fp32'", "7 bytes", "has 8"),
    _case("raw contents long", raw_contents("fp32", lambda c: c * 2), "input 'fp32'", "16 bytes", "has 8"),
    _case("raw contents empty", raw_contents("fp32", lambda c: b""), "input 'fp32'", "0 bytes", "has 8"),
    _case(
        "more raw contents than inputs", lambda r: r.raw_input_contents.append(b""), "raw_input_contents", "16", "15"
    ),
    _case("fewer raw contents than inputs", lambda r: r.raw_input_contents.pop(), "raw_input_contents", "14", "15"),
    _case(
        "raw and typed contents",
        lambda r: tensor(r, "fp32").contents.fp32_contents.append(1),
        "input 'fp32'",
        "raw and typed",
    ),
    _case("no contents at all", drop_contents, "input 'bool'", "0 elements"),
    _case("BOOL that is neither", raw_contents("bool", lambda c: b"\2" + c[1:]), "input 'bool'", "0 or 1"),
)

_CONTENTS = (
    _typed(
        "typed contents in the wrong field",
        typed_values("fp32", "fp64_contents", 1, 1),
        "input 'fp32'",
        "fp32_contents",
        "fp64_contents",
    ),
    _typed(
        "typed contents in two fields",
        lambda r: tensor(r, "fp32").contents.fp64_contents.append(1),
        "input 'fp32'",
        "fp64_contents",
    ),
    _typed("too few typed values", typed_values("fp32", "fp32_contents", 1), "input 'fp32'", "1 elements", "has 2"),
    _typed(
        "too many typed values", typed_values("fp32", "fp32_contents", 1, 1, 1), "input 'fp32'", "3 elements", "has 2"
    ),
    _typed("typed value above its type", typed_values("int8", "int_contents", 1, 128), "input 'int8'", "-128 to 127"),
    _typed("typed value below its type", typed_values("int16", "int_contents", -32769, 1), "input 'int16'", "-32768"),
    _typed(
        "unsigned value above its type", typed_values("uint8", "uint_contents", 1, 256), "input 'uint8'", "0 to 255"
    ),
    _typed(
        "typed BYTES too long", typed_values("bytes", "bytes_contents", b"", b"x" * 257), "input 'bytes'", "257", "256"
    ),
    _typed("typed NaN", typed_values("fp64", "fp64_contents", 1, float("nan")), "input 'fp64'", "row 1", "NaN"),
)

_VALUES = tuple(
    _case(
        f"{value} in {name}",
        raw_contents(name, end_with(bad)),
        f"input '{name}'",
        "row 1",
        "NaN or an infinity",
    )
    for name, form in (("fp32", "<f"), ("fp64", "<d"), ("matrix", "<f"))
    for value, bad in ((value, struct.pack(form, float(value))) for value in ("nan", "inf", "-inf"))
)

_BYTES = (
    _case("BYTES with half a length", raw_contents("bytes", lambda c: c + b"\1\0"), "input 'bytes'", "2 elements"),
    _case(
        "BYTES with nothing but half a length", raw_contents("bytes", lambda c: b"\1\0"), "input 'bytes'", "element 0"
    ),
    _case("BYTES of 2^32-1 bytes", raw_contents("bytes", say_length((1 << 32) - 1)), "input 'bytes'", "element 0"),
    _case(
        "BYTES with an element too many", raw_contents("bytes", lambda c: c + b"\0" * 4), "input 'bytes'", "2 elements"
    ),
    _case(
        "BYTES with an element too few",
        raw_contents("bytes", lambda c: c[: len(c) // 2]),
        "input 'bytes'",
        "2 elements",
    ),
    _case("BYTES element cut short", raw_contents("bytes", lambda c: c[:-1]), "input 'bytes'", "element 1"),
    _case(
        "BYTES element too long",
        raw_contents("bytes", lambda c: c[: len(c) // 2] + struct.pack("<I", 257) + b"x" * 257),
        "input 'bytes'",
        "257",
        "256",
    ),
)

_REST = (
    _case("unknown output", outputs("answer"), "output 'answer'", "fp32_out"),
    _case("the same output twice", outputs("fp32_out", "fp32_out"), "outputs", "twice"),
    _case("10,000 outputs", outputs(*["fp32_out"] * 10_000), "outputs: 10000", "15"),
    _case("10,000 parameters", parameters(10_000), "parameters: 10000", "32"),
    _case("parameters on an input", input_parameters, "parameters: 100", "32"),
    Malformed("no protobuf", lambda: b"\xff" * 64, ("inference.ModelInferRequest",)),
    Malformed("protobuf cut short", lambda: good().SerializeToString()[:-1], ("inference.ModelInferRequest",)),
    Malformed("text that is not UTF-8", lambda: b"\x0a\x02\xff\xfe", ("inference.ModelInferRequest",)),
    Malformed("100,000 empty inputs", lambda: b"\x0a\x04rich" + b"\x2a\x00" * 100_000, ("inputs: 100000", "15")),
)

MALFORMED = (*_NAMES, *_INPUTS, *_SHAPES, *_RAW, *_CONTENTS, *_VALUES, *_BYTES, *_REST)
