"""TensorFlow Serving moves to another address: the name is resolved again, as after a restart of its container."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing
from serving.domain.tensors import Tensors
from tests.platform.support.artifacts import tiny
from tests.platform.support.fake_tensorflow_serving import VERSION, FakeTensorFlowServing
from tests.platform.support.services import answer_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without configuration")

LONG_S = 60.0
RECOVERY_S = 3.0
NAME = "tensorflow-serving.test"
A_RECORD = 1


class NameServer:
    """Answer every question for an IPv4 address with the present one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                question, sender = self._socket.recvfrom(512)
            except OSError:  # closed
                return
            end = question.index(0, 12) + 5
            (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
            records = [socket.inet_aton(self.address)] if kind == A_RECORD else []
            header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
            answer = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", A_RECORD, 1, 0, 4) + record for record in records)
            self._socket.sendto(header + question[12:end] + answer, sender)


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer("127.0.0.1")
    yield server
    server.close()


def question() -> Tensors:
    return {"base": np.ones(2, np.float32), "value": np.ones(2, np.float32)}


async def test_it_is_found_at_another_address_within_seconds(names: NameServer) -> None:
    before = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), host="127.0.0.1")
    target = f"dns://127.0.0.1:{names.port}/{NAME}:{before.port}"
    runtime = TensorFlowServing(target, "tiny", VERSION, before.inputs, before.outputs, patience=RECOVERY_S)
    await runtime.predict(question(), timeout=LONG_S)
    before.stop()
    names.address = "127.0.0.2"
    after = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), before.port, host="127.0.0.2")
    assert (await runtime.predict(question(), timeout=LONG_S))["total"].tolist() == [2, 2]
    await runtime.close()
    after.stop()
