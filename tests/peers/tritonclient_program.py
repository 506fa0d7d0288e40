"""A program as a team has written it for MLServer: all rows of a file in one call, the answer as JSON.

tritonclient_program.py TARGET MODEL INPUT DATATYPE ROWS [OUTPUT...]
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton


def main(target: str, model: str, name: str, datatype: str, path: str, *wanted: str) -> None:
    """Ask the server and print what it answers."""
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype={"FP32": np.float32, "FP64": np.float64}[datatype])
    client = triton.InferenceServerClient(target)
    assert client.is_server_ready(client_timeout=30)
    assert client.is_model_ready(model, client_timeout=30)
    sent = triton.InferInput(name, list(rows.shape), datatype)
    sent.set_data_from_numpy(rows)
    outputs = [triton.InferRequestedOutput(output) for output in wanted]
    result = client.infer(model, [sent], outputs=outputs or None, client_timeout=30)
    answers = {}
    for output in wanted or ["predict"]:
        values = result.as_numpy(output)
        text = values.dtype == object
        answers[output] = {
            "datatype": result.get_output(output).datatype,
            "shape": list(values.shape),
            "values": np.char.decode(values.astype(bytes)).tolist() if text else values.tolist(),
        }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
