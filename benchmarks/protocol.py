"""The Open Inference Protocol: its messages, which the generated repo's client has, and two of its names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "{{cookiecutter.project_slug}}" / "client"))
from serving_client._proto import open_inference_pb2

pb: Any = open_inference_pb2
INFER = "/inference.GRPCInferenceService/ModelInfer"
HEADER_LENGTH = "Inference-Header-Content-Length"
