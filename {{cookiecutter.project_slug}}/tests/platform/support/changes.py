"""Changes that make a good request bad, one each."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.platform.support.requests import ROWS, Request, index, tensor

Change = Callable[[Request], object]
"""Changes a request in place."""


def model_name(name: str) -> Change:
    return lambda request: setattr(request, "model_name", name)


def model_version(version: str) -> Change:
    return lambda request: setattr(request, "model_version", version)


def datatype(datatype: str) -> Change:
    return lambda request: setattr(tensor(request, "fp32"), "datatype", datatype)


def shape(*shape: int, of: str = "matrix") -> Change:
    def change(request: Request) -> None:
        tensor(request, of).shape[:] = shape

    return change


def raw_contents(name: str, make: Callable[[bytes], bytes]) -> Change:
    def change(request: Request) -> None:
        request.raw_input_contents[index(name)] = make(request.raw_input_contents[index(name)])

    return change


def end_with(last: bytes) -> Callable[[bytes], bytes]:
    """Put these bytes in place of the last ones."""
    return lambda content: content[: -len(last)] + last


def drop_input(request: Request) -> None:
    del request.inputs[0], request.raw_input_contents[0]


def no_inputs(request: Request) -> None:
    del request.inputs[:], request.raw_input_contents[:]


def extra_input(request: Request) -> None:
    request.inputs.add(name="extra", datatype="FP32", shape=[ROWS])
    request.raw_input_contents.append(b"\0" * 4 * ROWS)


def other_rows(request: Request) -> None:
    tensor(request, "fp32").shape[:] = [1]
    raw_contents("fp32", lambda content: content[:4])(request)


def parameters(count: int) -> Change:
    def change(request: Request) -> None:
        for number in range(count):
            request.parameters[f"p{number}"].bool_param = True

    return change


def input_parameters(request: Request) -> None:
    for number in range(100):
        tensor(request, "fp32").parameters[f"p{number}"].bool_param = True


def outputs(*names: str) -> Change:
    def change(request: Request) -> None:
        for name in names:
            request.outputs.add(name=name)

    return change


def typed_values(name: str, field: str, *values: float | bytes) -> Change:
    def change(request: Request) -> None:
        contents = tensor(request, name).contents
        contents.Clear()
        getattr(contents, field).extend(values)

    return change


def drop_contents(request: Request) -> None:
    del request.raw_input_contents[:]


def say_length(length: int) -> Callable[[bytes], bytes]:
    """Declare this length for the first element."""
    return lambda content: struct.pack("<I", length) + content[4:]
