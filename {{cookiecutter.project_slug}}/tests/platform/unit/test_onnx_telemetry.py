"""The server sends no usage reports, whatever onnxruntime's published wheels do by default."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_IMPORT = "import serving.adapters.runtime.onnx"


def test_importing_the_runtime_leaves_no_device_id(tmp_path: Path) -> None:
    # Without a separate home, a CI variable or an earlier choice could suppress the reports.
    hidden = ("CI", "HOME", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "TF_BUILD", "JENKINS_URL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    subprocess.run([sys.executable, "-c", _IMPORT], env=environment, check=True, timeout=60)

    assert list(tmp_path.rglob("*onnxruntime*")) == []
