"""The five mistakes, put back into a generated repo in many ways, and changes that only look like one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mistake:
    """A change of files: in `file`, `old` becomes `new`; without `old`, the whole file does.

    `found_in` is where the guard must find it, if not in `file`; `says` is a part of what it must say.
    """

    name: str
    file: str
    old: str
    new: str
    says: str
    found_in: str = ""
    feature_store: str = "redis"

    def make(self, root: Path) -> None:
        """Put the mistake into a repo."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if self.old else ""
        assert self.old in text, f"{self.name}: {self.file} has changed, so this no longer puts the mistake back"
        path.write_text(text.replace(self.old, self.new, 1) if self.old else self.new, encoding="utf-8")


BASE = "compose/base.yaml"
STORE = "compose/feature_store.yaml"
ONLINE_STORE = "compose/online_store.yaml"
CLIENT = "client/serving_client/client.py"
AIO = "client/serving_client/aio.py"
CHANNEL = "client/serving_client/channel.py"
SERVICER = "src/serving/online/grpc/servicer.py"
INFERENCE = "src/serving/online/inference.py"
BOOTSTRAP = "src/serving/online/bootstrap.py"
ARTIFACTS = "src/serving/domain/artifacts.py"
SETTINGS = "src/serving/online/settings.py"
SHARED_SETTINGS = "src/serving/domain/settings.py"
PROTOCOL = "src/serving/online/grpc/proto/open_inference.proto"

AT_THE_TOP = "from __future__ import annotations\n"
IN_THE_CALL = "        signature = self.model.signature\n"
SERVER_VENV = "COPY --from=build-server /opt/venv"
SLOTS = "/opt/venv feature_store"
LAST_COPY = "COPY client/serving_client/ client/serving_client/\n"
NETWORK = "    networks: [clients]\n"
USER = '    user: "65532:65532"\n'
LEVEL = "      SERVING_LOG_LEVEL: ${SERVING_LOG_LEVEL:-INFO}\n"
VERSION = "${MODEL_VERSION:?run `make train` first, which writes it to model.lock}"
REDIS_URL = "redis://server@feature-store:6379/0"

# The kind of Dockerfile that the article behind the five mistakes shows, in our words.
ARTICLES_FIRST = """\
FROM example/uvicorn-gunicorn-fastapi:latest
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY . /app
EXPOSE 8000
CMD uvicorn main:app --host 0.0.0.0 --port 8000
"""
ARTICLES_SECOND = """\
FROM python:3.8-slim AS server
RUN apt-get update && apt-get install --yes gcc
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY . .
ENV NEPTUNE_API_TOKEN=
CMD ["python", "-W", "ignore", "serve.py"]
"""
# What its serving script does on every call.
UNPICKLES = """\
        import pickle

        with open("/tmp/classifier/pickled_model", "rb") as file:
            self.runtime = pickle.load(file)
"""
RAW_STUB = """\
import grpc

channel = grpc.insecure_channel("localhost:8500")
stub = PredictionServiceStub(channel)


def predict(request):
    return stub.Predict(request)
"""


def change(name: str, file: str, old: str, new: str, says: str, **more: str) -> Mistake:
    """Return the mistake of writing `new` for `old`."""
    return Mistake(name, file, old, new, says, **more)


def add(name: str, file: str, after: str, line: str, says: str, **more: str) -> Mistake:
    """Return the mistake of adding a line."""
    return Mistake(name, file, after, after + line, says, **more)


def write(name: str, file: str, text: str, says: str, **more: str) -> Mistake:
    """Return the mistake of writing a file, in the place of one that may be there."""
    return Mistake(name, file, "", text, says, **more)


REST = [
    add("flask in base.in", "requirements/base.in", "grpcio>=1.80\n", "Flask>=3\n", "flask"),
    add("REST framework in base.in", "requirements/base.in", "grpcio>=1.80\n", "fastapi[all]>=0.1\n", "fastapi"),
    add("fastapi in the server", "src/serving/online/grpc/server.py", AT_THE_TOP, "import fastapi\n", "fastapi"),
    add("http.server inside a call", INFERENCE, IN_THE_CALL, "        from http import server\n", "http.server"),
    add("a server by hand", INFERENCE, IN_THE_CALL, "        asyncio.start_server(self, port=80)\n", "by hand"),
    change("a method not served", SERVICER, '            "ModelMetadata": self.model_metadata,\n', "", "ModelMetadata"),
    change("a method not declared", PROTOCOL, "rpc ModelReady(", "rpc ModelPrepared(", "ModelReady"),
    add("REST in the protocol", PROTOCOL, "package inference;\n", 'import "google/api/annotations.proto";\n', "HTTP"),
    change("a default for timeout", CLIENT, "        timeout: float,\n", "        timeout: float = 60.0,\n", "predict"),
    change("no timeout", AIO, "async def health(self, *, timeout: float)", "async def health(self)", "health"),
    change(
        "a positional timeout", CLIENT, "def wait_ready(self, *, timeout", "def wait_ready(self, timeout", "wait_ready"
    ),
    change("a call without timeout", CLIENT, "method(request, timeout=deadline.left(), ", "method(request, ", "method"),
    change(
        "a stream for ever", AIO, "self._watch(health.REQUEST, timeout=Deadline(timeout).left(), ",
        "self._watch(health.REQUEST, timeout=None, ", "_watch",
    ),
    write("a stub without timeout", "client/serving_client/raw.py", RAW_STUB, "stub.Predict"),
    change(
        "any deadline taken", SERVICER, "self._call_timeout if given is None else min(given, self._call_timeout)",
        "float('inf') if given is None else given", "any deadline",
    ),
    change(
        "calls without bound", SETTINGS, "call_timeout: float = Field(default=5.0, gt=0, le=3600)",
        "call_timeout: float | None = None", "call_timeout",
    ),
]  # fmt: skip

PREPROCESSING = [
    add(
        "sklearn inside a call", SERVICER, "        given = context.time_remaining()\n",
        "        from sklearn.preprocessing import StandardScaler\n", "sklearn",
    ),
    add("pandas in the server", "src/serving/online/grpc/codec.py", AT_THE_TOP, "import pandas as pd\n", "pandas"),
    add("model/ in the server", BOOTSTRAP, AT_THE_TOP, "from model import data\n", "model"),
    add("training by a relative import", INFERENCE, AT_THE_TOP, "from ..offline import train\n", "serving.offline"),
    add("a detour by the benchmarks", INFERENCE, IN_THE_CALL, "        from benchmarks import load\n", "benchmarks"),
    add(
        "pandas by importlib", "src/serving/prediction/enrichment.py", AT_THE_TOP,
        'import importlib\npandas = importlib.import_module("pandas")\n', "pandas",
    ),
    add(
        "an import nobody can see", INFERENCE, IN_THE_CALL, "        importlib.import_module(outputs[0])\n", "computed",
    ),
    write("torch behind a package", "src/serving/adapters/__init__.py", '"""Adapters."""\nimport torch\n', "torch"),
    add("scikit-learn in base.in", "requirements/base.in", "grpcio>=1.80\n", "scikit_learn>=1\n", "scikit-learn"),
    write("pandas in a lock", "requirements/feature_store.txt", "pandas==2.2.3\n", "pandas"),
    add("model/ in the image", "Dockerfile", LAST_COPY, "COPY model/ model/\n", "model/"),
    add("all of src/ in the image", "Dockerfile", LAST_COPY, "COPY src/ src/\n", "src/serving/offline"),
    add("all in the image", "Dockerfile", LAST_COPY, "COPY [\".\", \"/app/\"]\n", "tools/"),
    change("the training lock installed", "Dockerfile", SLOTS, f"{SLOTS} train", "train.txt"),
    change("the model's libraries installed", "Dockerfile", SLOTS, f"{SLOTS} model", "model.txt"),
    change("a registry's client installed", "Dockerfile", SLOTS, f"{SLOTS} model_registry", "model_registry.txt"),
    change(
        "all locks installed with pip", "Dockerfile", f"python -m tools.environment {SLOTS}",
        "python -m pip --python /opt/venv/bin/python install --require-hashes --requirement requirements/*.txt",
        "train.txt",
    ),
    change(
        "a registry's client copied", "Dockerfile", SERVER_VENV, SERVER_VENV.replace("server", "fetch"),
        "model_registry.txt",
    ),
    change("what imports pickles installed", "Dockerfile", SLOTS, f"{SLOTS} import", "import.txt"),
    change("Ray installed", "Dockerfile", SLOTS, f"{SLOTS} ray", "ray.txt"),
    change(
        "the training venv copied", "Dockerfile", SERVER_VENV, SERVER_VENV.replace("server", "batch"),
        "train.txt",
    ),
    change(
        "a store that supplies nothing",
        "src/serving/adapters/feature_store/redis.py",
        "return features.static",
        "return ()",
        "redis",
    ),
    change(
        "static features in the request", BOOTSTRAP, "request_inputs(supplied)", "request_inputs(())", "store",
        feature_store="sqlite",
    ),
]  # fmt: skip

ADDRESSES = [
    change("an address for the store", STORE, REDIS_URL, "redis://172.18.0.2:6379/0", "172.18.0.2"),
    change("loopback for a peer", STORE, REDIS_URL, "redis://127.0.0.1:6379/0", "127.0.0.1"),
    change("IPv6 for a peer", STORE, REDIS_URL, "redis://[fd00::7]:6379/0", "fd00::7"),
    change("the default bridge", BASE, NETWORK, "", "default", feature_store="none"),
    change("the network default", BASE, NETWORK, "    networks: [default]\n", "default"),
    change("network_mode bridge", BASE, NETWORK, "    network_mode: bridge\n", "bridge"),
    change("network_mode host", BASE, NETWORK, "    network_mode: host\n", "host"),
    change("another's network", BASE, "  clients: {}", "  clients: {external: true, name: bridge}", "bridge"),
    change(
        "a fixed address", BASE, NETWORK, "    networks: {clients: {ipv4_address: 172.20.0.10}}\n", "fixed address",
    ),
    add("links", BASE, NETWORK, "    links: [feature-store]\n", "links"),
    add("extra_hosts", BASE, NETWORK, '    extra_hosts: ["store:10.1.2.3"]\n', "extra_hosts"),
    add("a port for everyone", BASE, NETWORK, '    ports: ["8001:8001"]\n', "every address"),
    add("a port published elsewhere", BASE, NETWORK, '    ports: ["127.0.0.1:8001:8001"]\n', "outside compose/publish"),
    change("a fixed port", "compose/publish.yaml", "${GRPC_PORT:-8001}", "8001", "fixed port"),
    change("a port on all addresses", "compose/publish.yaml", '"127.0.0.1:$', '"0.0.0.0:$', "every address"),
    write("an address in an env file", ".env.example", "SERVING_FEATURE_STORE=redis://172.17.0.3\n", "172.17.0.3"),
    add("an address in config", "config/service.toml", "[service]\n", 'store = "10.0.0.5:6379"\n', "10.0.0.5"),
    change("an address for the server", "client/serving_client/cli.py", "localhost:8001", "172.17.0.2:8001", "172.17"),
    add("an address in the image", "Dockerfile", LAST_COPY, "ENV STORE_HOST=10.0.0.9\n", "10.0.0.9"),
    add(
        "asking the engine", "tools/containers.py", AT_THE_TOP, 'FORM = "{{.NetworkSettings.IPAddress}}"\n',
        "asks the container engine",
    ),
    change(
        "no new look-up", CHANNEL, '    ("grpc.dns_min_time_between_resolutions_ms", 1_000),\n', "", "looked up",
    ),
    change("a late look-up", CHANNEL, 'resolutions_ms", 1_000', 'resolutions_ms", 30_000', "30000 ms"),
    change("the first address only", CHANNEL, '{"round_robin": {}}', '{"pick_first": {}}', "every address"),
    change("no DNS", CHANNEL, 'f"dns:///{target}"', "target", "DNS"),
    add(
        "a second channel", CLIENT, '        self._infer = self._channel.unary_unary(*protocol.INFER)\n',
        "        self._channel = grpc.insecure_channel(address)\n", "without those options",
    ),
]  # fmt: skip

ROOT_USER = [
    write("the article's first Dockerfile: a shell", "Dockerfile", ARTICLES_FIRST, "shell form"),
    write("the article's first Dockerfile: root", "Dockerfile", ARTICLES_FIRST, "runs as root"),
    write("the article's first Dockerfile: one stage", "Dockerfile", ARTICLES_FIRST, "single stage"),
    write("the article's first Dockerfile: all of it", "Dockerfile", ARTICLES_FIRST, "COPY ."),
    write("the article's second Dockerfile: root", "Dockerfile", ARTICLES_SECOND, "runs as root"),
    write("the article's second Dockerfile: gcc", "Dockerfile", ARTICLES_SECOND, "gcc"),
    write("the article's second Dockerfile: its token", "Dockerfile", ARTICLES_SECOND, "NEPTUNE_API_TOKEN"),
    write("a stage that is not there", "Dockerfile", ARTICLES_FIRST, "stage server", found_in=BASE),
    change("root again at the end", "Dockerfile", "STOPSIGNAL", "USER root\nSTOPSIGNAL", "USER root"),
    change("uid 0", "Dockerfile", "USER 65532:65532\nSTOPSIGNAL", "USER 0:65532\nSTOPSIGNAL", "USER 0"),
    change("a user by name", "Dockerfile", "USER 65532:65532\nSTOPSIGNAL", "USER app\nSTOPSIGNAL", "USER app"),
    change("no USER", "Dockerfile", "USER 65532:65532\nSTOPSIGNAL", "STOPSIGNAL", "no USER"),
    add("pip where it runs", "Dockerfile", LAST_COPY, "RUN python -m pip install --no-deps numpy\n", "pip install"),
    add(
        "a compiler where it runs", "Dockerfile", LAST_COPY,
        "RUN apt-get update \\\n    # wheels are missing\n    && apt-get install -y gcc\n", "gcc",
    ),
    change("CMD in a shell", "Dockerfile", 'CMD ["python", "-m", "serving"]', "CMD python -m serving", "shell form"),
    change(
        "a health check in a shell", "Dockerfile", 'CMD ["python", "-m", "serving_client"', "CMD curl localhost # ",
        "shell form",
    ),
    add("ADD from a URL", "Dockerfile", LAST_COPY, "ADD https://github.com/o/r/model.onnx /m\n", "ADD from"),
    add("token as build argument", "Dockerfile", LAST_COPY, "ARG NEPTUNE_API_TOKEN\n", "NEPTUNE_API_TOKEN"),
    add("token in ENV", "Dockerfile", LAST_COPY, "ENV HUB=hf_abcdefghijklmnopqrst\n", "HUB"),
    add("password in a URL", "Dockerfile", LAST_COPY, "ARG INDEX=https://me:word@localhost/simple\n", "INDEX"),
    add("token in the environment", BASE, LEVEL, "      NEPTUNE_API_TOKEN: ${NEPTUNE_API_TOKEN}\n", "environment"),
    add("token in compose's build", BASE, "      args:\n", "        PIP_TOKEN: ${PIP_TOKEN}\n", "build argument"),
    change("token on the command line", BASE, "serving]", "serving, --api-token=abc]", "command line"),
    change("user root", BASE, USER, "    user: root\n", "root"),
    change("user 0 by default", BASE, USER, '    user: "${UID:-0}"\n', "runs as"),
    change("no user", BASE, USER, "", "as whom"),
    add("developer as root", "compose/dev.yaml", "  server:\n", '    user: "0:0"\n', "0:0"),
    add("a developer of one's choice", "compose/dev.yaml", "  server:\n", '    user: "${DEV_USER}"\n', "runs as"),
    change("writable", BASE, "    init: true\n    read_only: true\n", "    init: true\n", "read_only"),
    change("all capabilities", ONLINE_STORE, "    cap_drop: [ALL]\n", "", "cap_drop"),
    change("one capability dropped", BASE, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "cap_drop"),
    add("a capability", BASE, USER, "    cap_add: [SYS_PTRACE]\n", "cap_add"),
    add("privileged", BASE, USER, "    privileged: true\n", "privileged"),
    add("privileged on demand", "compose/dev.yaml", "  server:\n", "    privileged: true\n", "privileged"),
    change("new privileges", BASE, '    security_opt: ["no-new-privileges:true"]\n', "", "security_opt"),
    change("no init", BASE, "    init: true\n", "", "init"),
    change("no limit of processes", BASE, "    pids_limit: 128\n", "    pids_limit: -1\n", "pids_limit"),
    change("no limit of memory", BASE, "    mem_limit: 512m\n", "", "mem_limit"),
    add("the engine's socket", BASE, "    volumes:\n", "      - /var/run/docker.sock:/s\n", "socket"),
    change(
        "a secret from the environment", ONLINE_STORE, "file: ./secrets/feature_store_server", "environment: PASSWORD",
        "does not come from a file",
    ),
]  # fmt: skip

UNTRACKED = [
    write("a stage in the lock", "model.lock", "MODEL_VERSION=local:diabetes-progression@production\n", "not pinned"),
    write("no digest in the lock", "model.lock", "MODEL_VERSION=local:diabetes-progression/3\n", "not pinned"),
    write("two references in the lock", "model.lock", f"MODEL_VERSION=a:b/1#sha256={'0' * 64}\n" * 2, "2 references"),
    change("a default version", BASE, VERSION, "${MODEL_VERSION:-local:m/1}", "nobody chose"),
    change("no version asked for", BASE, f"      MODEL_VERSION: {VERSION}\n", "", "version to serve"),
    change("a stage in compose", BASE, VERSION, "mlflow:model@production", "moves"),
    add("a stage in config", "config/service.toml", "[service]\n", 'model = "local:model@production"\n', "moves"),
    add("a stage in code", INFERENCE, IN_THE_CALL, '        name = "models:/model/Production"\n', "moves"),
    add("the latest version", INFERENCE, IN_THE_CALL, "        registry.get_latest_versions()\n", "latest"),
    change(
        "a default in the settings", SHARED_SETTINGS, 'model_version: str = Field(default=""',
        'model_version: str = Field(default="1"', "model_version",
    ),
    add("unpickled in the call", INFERENCE, IN_THE_CALL, UNPICKLES, "pickle"),
    add("joblib", "src/serving/adapters/runtime/onnx.py", AT_THE_TOP, "from joblib import load\n", "joblib"),
    add("torch.load in the call", INFERENCE, IN_THE_CALL, '        __import__("torch").load("m.pt")\n', "torch"),
    add("pickled arrays", INFERENCE, IN_THE_CALL, '        np.load("model.npy", allow_pickle=True)\n', "unpickles"),
    add(
        "the registry in the server", BOOTSTRAP, AT_THE_TOP,
        "from serving.adapters.model_registry import open_registry\n", "model_registry",
    ),
    add(
        "the rules of a registry in the server", BOOTSTRAP, AT_THE_TOP,
        "from serving.offline.registry import ModelRegistry\n", "serving.offline.registry",
    ),
    add("a registry's client", BOOTSTRAP, AT_THE_TOP, "import mlflow.pyfunc\n", "mlflow"),
    add("a download in the call", INFERENCE, IN_THE_CALL, "        from urllib import request\n", "urllib.request"),
    change(
        "no digest expected", BOOTSTRAP, "open_artifact(folder, reference.digest)", "open_artifact(folder, found)",
        "digest of the reference",
    ),
    change("the digest not compared", ARTIFACTS, "if actual != digest:", "if not actual:", "open_artifact"),
    change(
        "the sha256 not compared", ARTIFACTS, "or _sha256(content) != entry.sha256", "", "_verified",
    ),
    change(
        "another file loaded", "src/serving/adapters/runtime/onnx.py", "InferenceSession(artifact.model,",
        'InferenceSession("/artifacts/model.onnx",', "bytes that were compared",
    ),
    change("redis:latest", ONLINE_STORE, "redis:8.10.2-trixie", "redis:latest", "latest"),
    change("redis without a tag", ONLINE_STORE, "${REDIS_IMAGE:-redis:8.10.2-trixie}", "redis", "no tag"),
    change("no version of the base", "Dockerfile", "FROM ${BASE_IMAGE} AS base", "FROM python AS base", "no tag"),
    change("a base without default", "Dockerfile", "FROM ${BASE_IMAGE} AS base", "FROM ${IMAGE} AS base", "variable"),
    change("the image latest", BASE, "${IMAGE_TAG:-local}", "${IMAGE_TAG:-latest}", "latest"),
    add("a tool from latest", "Dockerfile", LAST_COPY, "COPY --from=busybox:latest /bin/sh /sh\n", "busybox:latest"),
    write("the article's first Dockerfile", "Dockerfile", ARTICLES_FIRST, "tag latest"),
    write("the article's unlocked libraries", "Dockerfile", ARTICLES_SECOND, "not what is locked"),
    write("a library without a version", "requirements/feature_store.txt", "redis\n", "not pinned"),
]  # fmt: skip

LIBRARY = "RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1=12.2.0-14\n"
HEREDOC = """\
RUN --mount=type=cache,target=/tmp/cache <<END
set -e
python -m compileall -q /app/src
END
"""
HEALTHY = """\
HEALTHCHECK CMD ["python", "-m", "serving_client", "health"]
HEALTHCHECK --interval=10s"""
MONITORING = """\
x-hardened: &hardened
  user: "65534:65534"
  init: true
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 64
  mem_limit: 256m
services:
  prometheus:
    <<: *hardened
    image: ${PROMETHEUS_IMAGE:-prom/prometheus:v3.0.1}
    networks: {clients: {aliases: [metrics]}}
    environment: ["LISTEN=0.0.0.0"]
"""
NOTE = '"""Not the latest, not local:model@production, not 10.0.0.1."""\n'

HARMLESS = [
    add("a library that is no build tool", "Dockerfile", LAST_COPY, LIBRARY, ""),
    add("a here-document", "Dockerfile", LAST_COPY, HEREDOC, ""),
    change("a health check without options", "Dockerfile", "HEALTHCHECK --interval=10s", HEALTHY, ""),
    change("a base by digest", "Dockerfile", "-slim-trixie\n", f"-slim@sha256:{'0' * 64}\n", ""),
    add("a range of addresses", BASE, "networks:\n  clients:", "\n    ipam: {config: [{subnet: 10.9.0.0/24}]}\n #", ""),
    add("the address to listen on", BASE, LEVEL, "      SERVING_HOST: 0.0.0.0\n", ""),
    change("metrics on IPv6", BASE, "SERVING_METRICS_HOST: 0.0.0.0", 'SERVING_METRICS_HOST: "::"', ""),
    add("a secret by file", BASE, LEVEL, "      NEPTUNE_API_TOKEN_FILE: /run/secrets/neptune\n", ""),
    change("an image by digest", ONLINE_STORE, "redis:8.10.2-trixie", f"redis@sha256:{'0' * 64}", ""),
    write("a hardened service on demand", "compose/monitoring.yaml", MONITORING, ""),
    add("words about it", INFERENCE, AT_THE_TOP, NOTE, ""),
    add("metrics over HTTP", INFERENCE, AT_THE_TOP, "from prometheus_client import start_http_server\n", ""),
]  # fmt: skip

MISTAKES = {
    "test_1_grpc_contract": REST,
    "test_2_no_preprocessing_in_the_request_path": PREPROCESSING,
    "test_3_names_not_addresses": ADDRESSES,
    "test_4_no_root": ROOT_USER,
    "test_5_tracked_versions": UNTRACKED,
}
