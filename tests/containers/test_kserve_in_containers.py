"""KServe's own Python client asks the server, started as the container that KServe would make of the manifest.

No KServe has run it: what is played is image, command, ports, environment, probes and limits of the InferenceService.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.containers.pods import Pods, registry, released
from tests.containers.stack import docker, known_answers, needs_engine, remove_images
from tests.support import ROOT, generate, run
from tests.test_manifests import KSERVE
from tools.environment import Environment

pytestmark = pytest.mark.long

SLUG = "kserve-test"
ANSWERS = {
    "project_slug": SLUG,
    "feature_store": "none",
    "model_registry": "local",
    "runtime": "onnx",
    "rest_api": "open-inference",
    "deployment": "kserve",
    "python_version": "3.13",
}
PROGRAM = ROOT / "tests" / "cluster" / "kserve_asks.py"


@pytest.mark.usefixtures("kubectl")
def test_kserve_s_own_client_is_answered_over_grpc_and_rest(template: Path, tmp_path: Path) -> None:
    needs_engine()
    python = str(Environment(ROOT / "build" / "kserve" / ".venv").ensure([KSERVE]))
    repo = generate(template, tmp_path / "out", ANSWERS)
    repo.passes("train")
    with registry(f"{SLUG}-registry") as address:
        pods = Pods(released(repo, address, "production"), f"{SLUG}-pod", {"registry": repo.path / "registry"})
        digests = re.findall(r"sha256=[0-9a-f]{64}", repo.text("model.lock"))
        (known,) = json.loads(known_answers(repo, digests, stored=False)).values()
        inputs = known["inputs"]
        with pods.running():
            pod = pods.add("--publish", "127.0.0.1::8001", "--publish", "127.0.0.1::8000")
            grpc, rest = (docker("port", pod, port).rpartition(":")[2] for port in ("8001", "8000"))
            ask = [python, str(PROGRAM), f"127.0.0.1:{grpc}", f"http://127.0.0.1:{rest}", SLUG]
            done = run(ask, cwd=tmp_path, stdin=json.dumps(inputs))
        assert done.returncode == 0, done.stderr
        remove_images(f"{SLUG}-*")
    answers = json.loads(done.stdout)
    assert set(answers) == {"grpc", "rest"}
    for said in answers.values():
        assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
        assert said["metadata"]["name"] == SLUG
        assert sorted(said["metadata"]["inputs"]) == sorted(inputs)
        for way in said.keys() & {"infer", "typed"}:
            assert said[way]["model"] == SLUG
            for name, expected in known["outputs"].items():
                assert said[way]["outputs"][name] == pytest.approx(expected, rel=1e-4)
    assert answers["grpc"]["infer"]["version"] == "1"  # its client for REST reads no version
