"""A repo used with plain `docker compose`: a clear error before training, working after it, clones kept apart."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.containers.browser import predict_on_the_page
from tests.containers.pods import Pods, pushed, registry
from tests.containers.stack import STACKS, Load, Stack, docker, known_answers, needs_engine
from tests.support import CHOICES, Repo, generate, run

SLUG = "plain-test"
REST = "http://127.0.0.1:8000"
PATIENCE_S = 30.0
PODS = 3
COMMANDS = (
    ["config"],
    ["build"],
    ["up", "--build", "--wait"],
    ["ps"],
    ["logs"],
    ["exec", "server", "id", "-u"],
    ["down"],
)


def test_every_choice_is_put_into_containers_once() -> None:
    for question, choices in CHOICES.items():
        assert {stack[question] for stack in STACKS.values()} == set(choices), question


@pytest.fixture(scope="module")
def stack(template: Path, module_path: Path) -> Iterator[Stack]:
    """A trained repo whose containers do not run yet."""
    needs_engine()
    stack = Stack.generate(template, module_path / "plain", SLUG)
    yield stack
    stack.remove()


@pytest.mark.long
def test_each_command_exits_0_after_training(stack: Stack, tmp_path: Path) -> None:
    for words in COMMANDS:
        done = stack.compose(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        if words[0] == "up":
            printed = stack.command("predict")
            assert f"answered by {SLUG} version 1" in printed
            assert "defaults" not in printed
            assert predicted_by_rest() == f"{SLUG} 1"
            shown = predict_on_the_page(f"{REST}/docs", tmp_path)
            assert (shown["status"], shown["answer"]["model_name"]) == ("200", SLUG)
            assert len(shown["answer"]["outputs"][0]["data"]) > 0
            # The page asks nobody but its server, and its content policy had nothing to refuse.
            assert (shown["hosts"], shown["console"]) == ([REST.removeprefix("http://")], [])
            stack.scores_as_it_answers(flagged=True)


def predicted_by_rest() -> str:
    """Send the example of the OpenAPI document through the gateway; return which model answered."""
    with urlopen(f"{REST}/v2/openapi.json", timeout=PATIENCE_S) as document:  # noqa: S310 - our own address
        calls = json.loads(document.read())["paths"]
    content = calls[f"/v2/models/{SLUG}/infer"]["post"]["requestBody"]["content"]["application/json"]
    body = json.dumps(content["examples"]["rows"]["value"]).encode()
    with urlopen(f"{REST}/v2/models/{SLUG}/infer", body, timeout=PATIENCE_S) as answer:  # noqa: S310
        found = json.loads(answer.read())
    return f"{found['model_name']} {found['model_version']}"


@pytest.mark.long
def test_the_image_with_the_training_library_stays_in_its_budget(stack: Stack) -> None:
    print(stack.command("image-size"))


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
def test_pods_of_the_pushed_images_come_and_go_under_load_without_losing_a_call(stack: Stack) -> None:
    """From the commands of docs/deployment.md to the end of a pod, by the times of the manifest."""
    with registry(f"{SLUG}-registry") as address:
        for variables in ({}, {"IMAGE_TAG": "release-1"}):  # the first for the load; this clone has no commit
            stack.command("build", **variables)
        stack.command("push", IMAGE_PREFIX=f"{address}/team", IMAGE_TAG="release-1")
        images = pushed(stack.repo.path)
        assert sorted(images) == ["batch", "fetch", "server"]
        assert all(image.startswith(f"{address}/team/{SLUG}-{name}@sha256:") for name, image in images.items())
        tags = docker(
            "images", "--filter", f"reference={address}/*/*:release-1-*", "--format", "{{.Repository}}:{{.Tag}}"
        )
        docker("image", "rm", *images.values(), *tags.split())
        manifests = stack.command("manifests", TO="dev")
        fetch = [stack.repo.python, "-m", "serving.offline.model_version", "fetch"]
        assert run(fetch, cwd=stack.repo.path).returncode == 0
        pods = Pods(manifests, f"{SLUG}-pod", {"registry": stack.repo.path / "registry"})
        known = known_answers(stack.repo, re.findall(r"sha256=[0-9a-f]{64}", stack.repo.text("model.lock")))
        with pods.running():
            for _ in range(PODS):
                pods.add()  # pulls the images by their digests
            with (
                stack.load(known, network=pods.network) as load,
                stack.load(known, "ROUND_ROBIN", network=pods.network, callers=1) as plain,
            ):
                for _ in range(PODS):  # a rollout: one more pod first, then one less
                    pods.add()
                    assert pods.remove() == 0
                    load.wait_for(100)
                print(f"balanced {balanced_after_s(pods, load):.1f} s after the last pod went")
    print(f"plain client: {plain.seen['failures']} of {sum(plain.seen['answers'].values())}")
    assert load.seen["failures"] == {}
    assert (load.seen["wrong"], plain.seen["wrong"]) == (0, 0)
    # Without our options a call to a pod that goes may fail.
    assert sum(plain.seen["failures"].values()) <= PODS


def balanced_after_s(pods: Pods, load: Load) -> float:
    """Return the seconds until 1,000 calls were shared out in equal parts, to within a tenth."""
    began = time.monotonic()
    while True:
        before = pods.answered()
        load.wait_for(1000)
        shares = [now - then for now, then in zip(pods.answered(), before, strict=True)]
        if max(abs(share * PODS / sum(shares) - 1) for share in shares) <= 0.1:
            return time.monotonic() - began
        assert time.monotonic() < began + 60, shares


@pytest.mark.long
def test_two_clones_share_no_container_volume_network_or_image(stack: Stack, tmp_path: Path) -> None:
    other = Stack(Repo(tmp_path / SLUG))
    shutil.copytree(stack.repo.path, other.repo.path, ignore=shutil.ignore_patterns(".venv"))
    # `make up`, `make train` and `make setup` begin with this; here it needs no environment.
    prepare = "from pathlib import Path; from tools.compose_setup import prepare; prepare(Path.cwd())"
    prepared = run([sys.executable, "-c", prepare], cwd=other.repo.path)
    assert "this folder was copied or moved" in prepared.stdout, prepared.stderr
    clones: dict[Stack, dict[str, str]] = {
        stack: {},
        other: {"GRPC_PORT": "9001", "METRICS_PORT": "9002", "REST_PORT": "9000"},
    }
    try:
        for clone, variables in clones.items():
            done = clone.compose("up", "--build", "--wait", **variables)
            assert done.returncode == 0, done.stderr
        for kind in ("container", "volume", "network"):
            first, second = (belongings(kind, clone) for clone in clones)
            assert first
            assert second
            assert first.isdisjoint(second), kind
        for clone in clones:
            (server,) = clone.containers("server")
            assert docker("inspect", "--format", "{{.Config.Image}}", server) == clone.image("server")
        other.compose("down", "--volumes")
        assert stack.containers("server")
        assert "answered by" in stack.command("predict")
    finally:
        for clone in clones:
            clone.compose("down", "--volumes")
        docker("image", "rm", "--force", *map(other.image, ("server", "fetch", "batch", "gateway")))


@pytest.mark.long
def test_each_command_says_in_one_line_what_to_do_before_training(template: Path, tmp_path: Path) -> None:
    needs_engine()
    stack = Stack(generate(template, tmp_path / "out", {"project_slug": SLUG} | STACKS[SLUG]))
    for words in COMMANDS:
        said = refusal(stack, words)
        assert "run `make train` first (`make rebuild` in a clone of a trained repo), which writes it to .env" in said
    (stack.repo.path / ".env").write_text("COMPOSE_PROJECT_NAME=untrained\n", encoding="utf-8")  # as after `make setup`
    for words in COMMANDS[:3]:
        assert "run `make train` first, which writes it to model.lock" in refusal(stack, words)


def refusal(stack: Stack, words: list[str]) -> str:
    """Return the one line of Compose's refusal."""
    done = stack.compose(*words)
    assert done.returncode != 0, words
    (line,) = done.stderr.splitlines()
    return line


def belongings(kind: str, clone: Stack) -> set[str]:
    """Return the names of all containers, volumes or networks that a clone has made."""
    everything = ["--all"] if kind == "container" else []
    names = "{{.Names}}" if kind == "container" else "{{.Name}}"
    label = f"label=com.docker.compose.project={clone.project}"
    return set(docker(kind, "ls", *everything, "--filter", label, "--format", names).split())
