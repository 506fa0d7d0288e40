"""The manifests for Kubernetes and KServe: real kubectl renders them, the API's schemas and our guard accept them.

Where there is no kubectl, that of Debian 13 runs in a container. No cluster has run them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import kubernetes_validate
import pytest
import yaml

from tests.containers.autoscaling import Rule
from tests.mistakes import Mistake
from tests.support import CHOICES, PAIRED, ROOT, Answers, Repo, every_pair, run
from tools.environment import Environment

Manifests = Callable[[Path, str], str]

pytestmark = pytest.mark.usefixtures("kubectl")

ENVIRONMENTS = ("dev", "staging", "production")
NEWEST = ("1.37", "1.36", "1.35")
CLUSTERS = [choice for choice in CHOICES["deployment"] if choice != "compose"]
COMBINATIONS = [choices for choices in PAIRED if choices["deployment"] in CLUSTERS]
# Of operators, whose schemas Kubernetes does not have.
ELSEWHERE = {"PodMonitor": "monitoring.coreos.com/v1", "InferenceService": "serving.kserve.io/v1beta1"}
IMAGES = ("server", "fetch", "batch", "feature-store", "tensorflow-serving")
MODEL = f"local:any/1#sha256={'0' * 64}"
KSERVE = ROOT / "benchmarks" / "peers" / "kserve" / "requirements" / "server.txt"

SERVER = "deploy/base/server.yaml"
NETWORK = "deploy/base/network.yaml"
REDIS = "deploy/slots/online_store/redis.yaml"
NON_ROOT = "        runAsNonRoot: true\n        runAsUser: 65532\n"
ADDED = """\
- op: add
  path: /spec/template/spec/containers/-
  value: { name: shell, image: busybox:1 }
"""

MISTAKES = [
    Mistake("root", SERVER, NON_ROOT, "        runAsUser: 0\n", "may run as root"),
    Mistake(
        "root of one container",
        SERVER,
        "            allowPriv",
        "            runAsUser: 0\n            allowPriv",
        "root",
    ),
    Mistake(
        "the network of the node", SERVER, "      enableServiceLinks", "      hostNetwork: true\n      x", "hostNetwork"
    ),
    Mistake("a writable root", SERVER, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRoot"),
    Mistake("capabilities", SERVER, "{ drop: [ALL] }", "{ drop: [NET_RAW] }", "keeps capabilities"),
    Mistake("a capability more", SERVER, "{ drop: [ALL] }", "{ drop: [ALL], add: [SYS_ADMIN] }", "gets capabilities"),
    Mistake("no seccomp", SERVER, "        seccompProfile: { type: RuntimeDefault }\n", "", "no seccomp profile"),
    Mistake("a token of the API", SERVER, "automountServiceAccountToken: false", "x: y", "token of the cluster"),
    Mistake(
        "a tag", SERVER, "          image: server\n", "          image: registry.example.com/server:2\n", "not pinned"
    ),
    Mistake("an address for gRPC", SERVER, "  clusterIP: None\n", "", "not headless"),
    Mistake("a port of each node", SERVER, "  clusterIP: None\n", "  clusterIP: None\n  type: NodePort\n", "NodePort"),
    Mistake(
        "a port of the node", SERVER, "containerPort: 8001 }", "containerPort: 8001, hostPort: 8001 }", "a port of"
    ),
    Mistake(
        "no time to drain", SERVER, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 10", "above"
    ),
    Mistake("no preStop", SERVER, "sleep: { seconds: 5 }", "sleep: { seconds: 0 }", "no preStop"),
    Mistake("no readiness", SERVER, "          readinessProbe:\n", "          other:\n", "readinessProbe"),
    Mistake(
        "other memory than in Compose",
        SERVER,
        "limits: { memory: 512Mi }\n          volume",
        "limits: { memory: 1Gi }\n          volume",
        "in Compose 512m",
    ),
    Mistake("no limit of memory", REDIS, "            limits: { memory: 512Mi }\n", "", "no limit of memory"),
    Mistake("a folder of the node", REDIS, "configMap: { name: redis }", "hostPath: { path: / }", "folder of the node"),
    Mistake(
        "a secret in the manifest",
        REDIS,
        "          ports:",
        "          env: [{ name: PASSWORD, value: x }]\n          ports:",
        "a secret",
    ),
    Mistake(
        "no policy", NETWORK, "  policyTypes: [Ingress, Egress]\n", "  policyTypes: [Ingress]\n", "denies by default"
    ),
    Mistake(
        "a container by patch",
        "deploy/slots/model_registry/deployment.yaml",
        "- op: add\n",
        ADDED + "- op: add\n",
        "not pinned",
    ),
    Mistake("a file that nobody lists", "deploy/base/more.yaml", "", "kind: Service\n", "no kustomization lists"),
]


@pytest.fixture(scope="module")
def released(generated: Callable[..., Repo], light: Path) -> Callable[..., Path]:
    """Return a repo with a pinned version and pushed images; tests may write into it."""
    copies: dict[Answers, Path] = {}

    def give(**choices: str) -> Path:
        name = tuple(sorted(choices.items()))
        if name not in copies:
            copies[name] = light / f"released-{len(copies)}"
            shutil.copytree(generated(**choices).path, copies[name])
            (copies[name] / "model.lock").write_text(f"MODEL_VERSION={MODEL}\n", encoding="utf-8")
            images = {image: f"registry.example.com/team/{image}@sha256:{'0' * 64}" for image in IMAGES}
            (copies[name] / "build").mkdir()
            (copies[name] / "build" / "images.json").write_text(json.dumps(images), encoding="utf-8")
        return copies[name]

    return give


@pytest.fixture(scope="module")
def guard(released: Callable[..., Path]) -> Iterator[ModuleType]:
    """The repo's guard for manifests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("tests.guardrails")]:
            patch.delitem(sys.modules, name)
        folder = released(deployment="kubernetes") / "tests" / "guardrails"
        spec = importlib.util.spec_from_file_location("tests.guardrails", folder / "__init__.py")
        assert spec is not None
        patch.setitem(sys.modules, "tests.guardrails", importlib.util.module_from_spec(spec))
        yield importlib.import_module("tests.guardrails.test_manifests")
        for name in [name for name in sys.modules if name.startswith("tests.guardrails.")]:
            del sys.modules[name]


@pytest.fixture(scope="session")
def manifests(generated: Callable[..., Repo], tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Print a repo's manifests as `make manifests` does, in an environment that all repos share."""
    folder = tmp_path_factory.mktemp("manifests") / ".venv"
    python = str(Environment(folder).ensure([generated().path / "requirements" / "base.txt"]))

    def of(repo: Path, environment: str) -> str:
        variables = os.environ | {"TO": environment, "PYTHONPATH": os.pathsep.join([str(repo), str(repo / "src")])}
        done = run([python, "-m", "tools.kubernetes", "manifests"], cwd=repo, environment=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return of


@every_pair(deployment=CLUSTERS)
def test_kubernetes_accepts_every_combination(
    released: Callable[..., Path], manifests: Manifests, guard: ModuleType, choices: dict[str, str], tmp_path: Path
) -> None:
    repo = released(**choices)
    assert guard.violations(repo) == []
    for environment in ENVIRONMENTS:
        rendered = manifests(repo, environment)
        objects = list(yaml.safe_load_all(rendered))
        namespaces = {item["metadata"].get("namespace", item["metadata"]["name"]) for item in objects}
        assert namespaces == {f"{repo_name(repo)}-{environment}"}
        for item in objects:
            if ELSEWHERE.get(item["kind"]) == item["apiVersion"]:
                continue
            for version in NEWEST if environment == "production" else ():  # they differ in numbers of replicas only
                kubernetes_validate.validate(item, version, strict=True)
        # The same rules hold for what Kustomize has made: here each image has its digest.
        (tmp_path / "deploy").mkdir(exist_ok=True)
        (tmp_path / "deploy" / "rendered.yaml").write_text(rendered, encoding="utf-8")
        (tmp_path / "deploy" / "kustomization.yaml").write_text("[rendered.yaml]", encoding="utf-8")
        assert guard.violations(tmp_path) == []
        images = re.findall(r"^ +image: (\S+)$", rendered, re.MULTILINE)
        assert images
        assert [image for image in images if "@sha256:" not in image] == []
        assert f"MODEL_VERSION: {MODEL}" in rendered
        assert "{{" not in rendered


def repo_name(repo: Path) -> str:
    """Return the slug of a repo."""
    answers = json.loads((repo / ".answers.json").read_text(encoding="utf-8"))
    return str(answers["cookiecutter"]["project_slug"])


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_the_manifests_is_found(
    released: Callable[..., Path], guard: ModuleType, mistake: Mistake, tmp_path: Path
) -> None:
    shutil.copytree(released(deployment="kubernetes", model_registry="local"), tmp_path / "repo")
    assert guard.violations(tmp_path / "repo") == []
    mistake.make(tmp_path / "repo")
    found = guard.violations(tmp_path / "repo")
    assert [violation for violation in found if mistake.says in violation.what], found


def test_a_schema_that_is_not_met_is_refused(released: Callable[..., Path], manifests: Manifests) -> None:
    rendered = manifests(released(deployment="kubernetes"), "dev").replace("minReadySeconds", "minReadySecond")
    (deployment,) = [
        item
        for item in yaml.safe_load_all(rendered)
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "server"
    ]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST[0], strict=True)


@pytest.mark.parametrize("deployment", CLUSTERS)
def test_a_changed_setting_restarts_the_pods(
    released: Callable[..., Path], manifests: Manifests, deployment: str, tmp_path: Path
) -> None:
    """Pods name the ConfigMap with its digest, whichever kind declares them."""
    repo = tmp_path / "repo"
    shutil.copytree(released(deployment=deployment), repo)

    def named() -> set[str]:
        return set(re.findall(r"^ +name: ((?:server|model|fetch)-\w{10})$", manifests(repo, "dev"), re.MULTILINE))

    before = named()
    assert {name.partition("-")[0] for name in before} == {"server", "model", "fetch"}
    (repo / "model.lock").write_text(f"MODEL_VERSION={MODEL.replace('/1#', '/2#')}\n", encoding="utf-8")
    assert {name.partition("-")[0] for name in before - named()} == {"model"}


@pytest.mark.parametrize("model_registry", CHOICES["model_registry"])
def test_the_example_of_a_nightly_score_fits_the_rest(
    released: Callable[..., Path], manifests: Manifests, guard: ModuleType, model_registry: str, tmp_path: Path
) -> None:
    repo, base = tmp_path / "repo", "deploy/base"
    shutil.copytree(released(deployment="kubernetes", model_registry=model_registry), repo)
    shutil.copy(repo / "deploy" / "examples" / "score.yaml", repo / base)
    kustomization = repo / base / "kustomization.yaml"
    listed = kustomization.read_text(encoding="utf-8").replace("server.yaml]", "server.yaml, score.yaml]")
    kustomization.write_text(listed, encoding="utf-8")
    assert guard.violations(repo) == []
    objects = list(yaml.safe_load_all(manifests(repo, "dev")))
    (job,) = [item for item in objects if item["kind"] == "CronJob" and item["metadata"]["name"] == "score"]
    kubernetes_validate.validate(job, NEWEST[0], strict=True)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    assert all("@sha256:" in container["image"] for container in containers)
    named = {source["configMapRef"]["name"] for container in containers for source in container["envFrom"]}
    assert named <= {item["metadata"]["name"] for item in objects if item["kind"] == "ConfigMap"}
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_example_of_a_canary_fits_the_service(
    released: Callable[..., Path], manifests: Manifests, tmp_path: Path
) -> None:
    rendered = manifests(with_canary(released(deployment="kserve"), tmp_path / "repo"), "production")
    (service,) = [item for item in yaml.safe_load_all(rendered) if item["kind"] == "InferenceService"]
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Knative"}
    predictor = service["spec"]["predictor"]
    assert (predictor["canaryTrafficPercent"], predictor["minReplicas"], predictor["maxReplicas"]) == (10, 0, 10)
    assert "terminationGracePeriodSeconds" not in predictor
    assert "lifecycle" not in predictor["containers"][0]


def with_canary(repo: Path, copy: Path) -> Path:
    """Copy a repo, and do in it what the first lines of the example say."""
    shutil.copytree(repo, copy)
    overlay = copy / "deploy" / "overlays" / "production"
    shutil.copy(copy / "deploy" / "examples" / "canary.yaml", overlay)
    with (overlay / "kustomization.yaml").open("a", encoding="utf-8") as kustomization:
        kustomization.write("  - path: canary.yaml\n    target: { kind: InferenceService }\n")
    return copy


def test_the_autoscaler_s_rule_doubles_at_once_and_goes_down_slowly_after_five_calm_minutes(
    released: Callable[..., Path], manifests: Manifests
) -> None:
    """The rule of the manifest, worked out as Kubernetes does; tests/containers/autoscaling.py plays it with pods."""
    rule = Rule.of(manifests(released(deployment="kubernetes"), "production"))
    replicas, seen = 3, []
    # Seconds, use of the CPU and calls that wait in each pod: busy, much too busy, within the tolerance, calm.
    moments = [(0, 0.9, 0.0), (15, 0.9, 90.0), (30, 0.75, 0.0), *((now, 0.1, 0.0) for now in range(45, 700, 15))]
    for now, cpu, queued in moments:
        wanted = rule.wanted(now, replicas, cpu, queued)
        if wanted != replicas:
            seen.append((now, wanted))
        replicas = wanted
    assert seen == [(0, 4), (15, 8), (345, 6), (405, 4), (465, 3)]


@pytest.mark.long
def test_the_models_of_kserve_accept_the_service(
    released: Callable[..., Path], manifests: Manifests, tmp_path: Path
) -> None:
    python = str(Environment(ROOT / "build" / "kserve" / ".venv").ensure([KSERVE]))
    script = str(ROOT / "tests" / "cluster" / "kserve_accepts.py")
    for choices in [choices for choices in COMBINATIONS if choices["deployment"] == "kserve"]:
        objects = json.dumps(list(yaml.safe_load_all(manifests(released(**choices), "production"))))
        done = run([python, script], cwd=ROOT, stdin=objects)
        assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    canary = list(yaml.safe_load_all(manifests(with_canary(released(**choices), tmp_path / "repo"), "production")))
    done = run([python, script], cwd=ROOT, stdin=json.dumps(canary))
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    typo = objects.replace('"scaleMetric"', '"scaleMetrik"')
    done = run([python, script], cwd=ROOT, stdin=typo)
    assert done.returncode == 1
    assert "InferenceService.spec.predictor.scaleMetrik" in done.stdout
