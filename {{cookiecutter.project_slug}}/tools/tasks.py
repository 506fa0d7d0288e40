"""Every command of this repo: `make COMMAND` or, without make, `python tools/tasks.py COMMAND`.

Needs only the standard library: each command makes the environment that it needs.
"""
# An old Python must reach the message below, so this file uses no syntax newer than 3.6.
# ruff: noqa: E402, UP036

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "error: this needs Python 3.11 or newer, but {} is {}.{}; choose another, for example: "
        "make PYTHON=python3.12 {}".format(sys.executable, *sys.version_info[:2], " ".join(sys.argv[1:]) or "help")
    )

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

sys.exit("error: the template's hook did not run; finish the repo: python3 _variants/finish.py")  # until finished
from tools import cluster
from tools.compose_setup import prepare
from tools.entrypoints import BENCHMARKS_BESIDE
from tools.environment import Environment
from tools.feature_store import BENCHMARKS, MATERIALIZE, NOTE
from tools.process import INTERRUPTED, SetupError, run

Arguments = Sequence[str]

DEV = ROOT / "requirements" / "dev.txt"
RAY, PLOTS = (DEV.with_name(f"{name}.txt") for name in ("ray", "plots"))
# Pickles, Ray and plots have separate environments, and uv is installed outside of every environment.
APART = (DEV, DEV.with_name("import.txt"), PLOTS, RAY, DEV.with_name("uv.txt"))
# What the tests of a slot need besides.
TESTS = "*_tests.txt"
CHECKS = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format --check": ("-m", "ruff", "format", "--check", "."),
    "mypy": ("-m", "mypy"),
    # It can't be run as a module, and its script has the absolute path of an interpreter, which breaks in a moved repo.
    "lint-imports": ("-c", "from importlinter.cli import lint_imports_command as lint; lint(['--no-logo'])"),
}
# What a command can make again; not the versions in registry/ and the features in data/.
CACHES = (".mypy_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis")
DISPOSABLE = (".venv", "artifacts", "build", "dist", *CACHES)

IMPORTABLE = (ROOT / "src", ROOT / "client", ROOT)
ENVIRONMENT = Environment(ROOT / ".venv", importable=IMPORTABLE)
IMPORT_ENVIRONMENT = Environment(ROOT / "build" / "import" / ".venv")
"""Opens pickles: see src/serving/offline/pickle_import.py."""
PLOTS_ENVIRONMENT = Environment(ROOT / "build" / "plots" / ".venv")
"""Draws plots: see src/serving/offline/drift_page.py."""
RAY_ENVIRONMENT = Environment(ROOT / "build" / "ray" / ".venv", importable=IMPORTABLE)
"""Scores files on Ray."""


class StepError(Exception):
    """A step of a command failed."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(f"error: {step} failed with exit code {code}.")
        self.code = code


def everything() -> list[Path]:
    """Return all locks: those of the model, of the checks and of the tests."""
    return [*without_dev(), *sorted(DEV.parent.glob(TESTS)), DEV]


def without_dev() -> list[Path]:
    """Return the locks for training and serving: one per slot."""
    return [lock for lock in sorted(DEV.parent.glob("*.txt")) if lock not in APART and not lock.match(TESTS)]


def module(name: str, *arguments: str, locks: Sequence[Path], environment: Environment = ENVIRONMENT) -> None:
    """Run a module in an environment.

    :raises StepError: its exit code is not 0
    """
    code = run([str(environment.ensure(locks)), "-m", name, *arguments], ROOT)
    if code == INTERRUPTED:  # Ctrl-C ends a server or its logs: no failure
        raise KeyboardInterrupt
    if code:
        raise StepError(" ".join(["python -m", name, *arguments]), code)


def in_containers(command: str, *arguments: str) -> None:
    """Run a command of tools/containers.py; first create the files that Compose needs."""
    prepare(ROOT)
    module("tools.containers", command, *arguments, locks=without_dev())


def in_cluster(command: str, arguments: Arguments) -> None:
    """Run a command of the module that knows the cluster.

    :raises SetupError: this repo has none
    """
    if not cluster.MODULE:
        raise SetupError(
            f"error: TO={os.environ['TO']}: this repo runs on one machine; without TO, `make {command}` is for its "
            "containers. Generate it with deployment=kubernetes or kserve for a cluster."
        )
    module(cluster.MODULE, command, *arguments, locks=without_dev())


def show_help(_arguments: Arguments) -> None:
    """Print one line for each command."""
    print("usage: make COMMAND [ARGS=...]      (without make: python tools/tasks.py COMMAND ...)\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<10} {command.purpose}")
    print("\nalso: " + ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items()))


def setup(_arguments: Arguments) -> None:
    """Make the environment and the files that Compose needs."""
    ENVIRONMENT.ensure(everything())
    prepare(ROOT)
    print(f"ready: {ENVIRONMENT.python.relative_to(ROOT)}")


def demo(arguments: Arguments) -> None:
    """Train, fill the feature store, serve and predict once; change nothing in this repo."""
    module("tools.demo", *arguments, locks=without_dev())


def train(arguments: Arguments) -> None:
    """Train and register a version; then plain Compose commands can serve it."""
    prepare(ROOT)
    module("serving.offline.train", *arguments, locks=without_dev())


def rebuild(arguments: Arguments) -> None:
    """Rebuild the pinned version from this checkout; then plain Compose commands can serve it."""
    prepare(ROOT)
    module("serving.offline.rebuild", *arguments, locks=without_dev())


def features(arguments: Arguments) -> None:
    """Fill the feature store, if this repo has one."""
    if not MATERIALIZE:
        print("this repo has no feature store: callers send every feature with the request")
        return
    for name in MATERIALIZE:
        module(name, *arguments, locks=without_dev())


def score(arguments: Arguments) -> None:
    """Score files with the pinned version, here or on Ray."""
    words = shlex.split(os.environ.get("INPUT", ""))
    for option, name in (("--output", "OUTPUT"), ("--engine", "ENGINE")):
        if os.environ.get(name):
            words += [option, os.environ[name]]
    locks, environment = without_dev(), ENVIRONMENT
    if os.environ.get("ENGINE") == "ray":
        locks, environment = [*locks, RAY], RAY_ENVIRONMENT
    module("serving.offline.score", *words, *arguments, locks=locks, environment=environment)


def run_server(arguments: Arguments) -> None:
    """Serve until stopped."""
    module("tools.run", *arguments, locks=without_dev())


def predict(arguments: Arguments) -> None:
    """Ask the running server."""
    module("tools.predict", *arguments, locks=without_dev())


def test(arguments: Arguments) -> None:
    """Run the tests of the model, the guardrails and a smoke test."""
    module("pytest", *arguments, locks=everything())


def test_all(arguments: Arguments) -> None:
    """Run every test, including those of the platform."""
    module("pytest", "tests", *arguments, locks=everything())


def check(_arguments: Arguments) -> None:
    """Run every static check, even if one fails."""
    python = str(ENVIRONMENT.ensure(everything()))
    failed = []
    for name, arguments in CHECKS.items():
        print(f"-- {name}", flush=True)
        code = run([python, *arguments], ROOT)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(name)
    if failed:
        raise StepError(", ".join(failed), 1)


def fmt(_arguments: Arguments) -> None:
    """Format the code as `check` requires."""
    for words in (("format", "."), ("check", "--fix", "."), ("format", ".")):  # a fix may need formatting
        module("ruff", *words, locks=everything())


def lock(arguments: Arguments) -> None:
    """Resolve model/requirements.in and requirements/*.in again."""
    module("tools.lock", *arguments, locks=everything())


def proto(arguments: Arguments) -> None:
    """Generate the gRPC stubs again."""
    module("tools.proto", *arguments, locks=everything())


def bench(arguments: Arguments) -> None:
    """Measure the server, and the REST API and the feature store if there are any."""
    module("benchmarks.load", *arguments, locks=without_dev())
    for name in (*BENCHMARKS_BESIDE, *BENCHMARKS):
        module(name, locks=without_dev())
    if NOTE:
        print(NOTE)


def sizing(arguments: Arguments) -> None:
    """Print how many replicas a load needs."""
    module("benchmarks.sizing", *arguments, locks=without_dev())


def up(arguments: Arguments) -> None:
    """Run everything in containers."""
    in_containers("up", *arguments)


def certificates(_arguments: Arguments) -> None:
    """Make certificates for development."""
    code = run([sys.executable, "-m", "tools.certificates"], ROOT)
    if code:
        raise StepError("python -m tools.certificates", code)


def build(arguments: Arguments) -> None:
    """Build the images."""
    in_containers("build", *arguments)


def ps(arguments: Arguments) -> None:
    """List the containers."""
    in_containers("ps", *arguments)


def logs(arguments: Arguments) -> None:
    """Show what the containers log."""
    in_containers("logs", *arguments)


def push(arguments: Arguments) -> None:
    """Push the images to a registry."""
    prepare(ROOT)
    module("tools.push", *arguments, locks=without_dev())


def join(arguments: Arguments) -> None:
    """Join the pushed images of several architectures."""
    prepare(ROOT)
    module("tools.push", "join", *arguments, locks=without_dev())


def image_size(arguments: Arguments) -> None:
    """Compare the server's image with its budget."""
    module("tools.image_size", *arguments, locks=without_dev())


def deploy(arguments: Arguments) -> None:
    """Change the version in running containers; with TO, what runs in a cluster."""
    if os.environ.get("TO"):
        in_cluster("deploy", arguments)
    else:
        in_containers("deploy", *arguments)


def versions(arguments: Arguments) -> None:
    """List the model's versions, or run another command of src/serving/offline/model_version.py."""
    if "import" in arguments:
        IMPORT_ENVIRONMENT.ensure([DEV.with_name("import.txt")])
    module("serving.offline.model_version", *(arguments or ("list",)), locks=without_dev())


def promote(arguments: Arguments) -> None:
    """Make a version the champion."""
    module("serving.offline.model_version", "promote", *arguments, locks=without_dev())


def rollback(arguments: Arguments) -> None:
    """Return to the version that served before; with arguments, to that of a stage or model."""
    in_containers("rollback", *arguments)


def down(arguments: Arguments) -> None:
    """Remove the containers."""
    in_containers("down", *arguments)


def drift(arguments: Arguments) -> None:
    """Compare the traffic with the training data."""
    if any(word.startswith("--html") for word in arguments):
        PLOTS_ENVIRONMENT.ensure([PLOTS])
    module("serving.offline.drift", *arguments, locks=without_dev())


def predictions(arguments: Arguments) -> None:
    """Turn the prediction log into Parquet."""
    module("serving.offline.predictions", *arguments, locks=without_dev())


def evaluate(arguments: Arguments) -> None:
    """Measure the model on logged predictions."""
    given = shlex.split(os.environ.get("LABELS", ""))
    module("serving.offline.evaluate", *given, *arguments, locks=without_dev())


def support(arguments: Arguments) -> None:
    """List what is past its end of support, or soon will be."""
    code = run([sys.executable, "-m", "tools.support", *arguments], ROOT)
    if code:
        raise StepError("python -m tools.support", code)


def clean(_arguments: Arguments) -> None:
    """Remove what the other commands can make again."""
    for name in DISPOSABLE:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for cache in [path for path in ROOT.rglob("__pycache__") if path.is_dir()]:
        shutil.rmtree(cache, ignore_errors=True)


@dataclass(frozen=True)
class Command:
    """A command: its help line and its function."""

    purpose: str
    act: Callable[[Arguments], None]


COMMANDS = {
    "help": Command("this list", show_help),
    "setup": Command("make .venv with everything that the other commands need", setup),
    "demo": Command("serve the pinned version, or one trained for the demo, ask for predictions, stop", demo),
    "train": Command("train the model, register it as a new version and pin that in model.lock", train),
    "rebuild": Command(
        "in a clone: train the version in model.lock again, if this checkout gives the same one", rebuild
    ),
    "features": Command("fill the feature store from the data", features),
    "score": Command(
        "score files with the pinned version: INPUT=rows.parquet OUTPUT=scores.parquet (ENGINE=ray)", score
    ),
    "run": Command("serve the pinned version on localhost:8001 until Ctrl-C", run_server),
    "predict": Command("ask the running server for predictions", predict),
    "up": Command("serve in containers: images, network, feature store (replicas: SCALE=2; debug: DEV=1)", up),
    "certificates": Command("make certificates for development in secrets/, for TLS in containers", certificates),
    "build": Command("build the images of `up`", build),
    "push": Command("push the images by commit, and write down their digests (to IMAGE_PREFIX, in .env)", push),
    "join": Command("join the images that machines of several architectures have pushed: one digest each", join),
    "image-size": Command("compare the size of the server's image with its budget in config/size", image_size),
    "ps": Command("list the containers", ps),
    "logs": Command("show the containers' logs, and follow them in a terminal (one service: ARGS=server)", logs),
    "deploy": Command("switch running containers to the version in model.lock, without losing a call", deploy),
    "versions": Command('list the versions of the model (more: ARGS="show <reference>", ARGS=--help)', versions),
    "promote": Command('promote a version, so that it is served: ARGS="local:my-model/3"', promote),
    "rollback": Command("return to the version served before, in model.lock and in running containers", rollback),
    "down": Command("stop and remove the containers; volumes stay", down),
    "test": Command('run the tests of the model and the guardrails, and a smoke test (some: ARGS="-k word")', test),
    "test-all": Command("run every test, those of the platform too", test_all),
    "check": Command("lint, formatting, types, layers", check),
    "fmt": Command("format the code as check requires", fmt),
    "lock": Command("resolve the requirements of model/ and of the rest again (newer versions: ARGS=--upgrade)", lock),
    "proto": Command("generate the gRPC stubs again", proto),
    "bench": Command("measure latency and throughput of the server", bench),
    "sizing": Command(
        "how many replicas a load needs, by the figures of `bench` (for yours: ARGS='--rate 2500')", sizing
    ),
    "drift": Command(
        "compare the traffic of a running server with the training data (plots: ARGS='--html build/drift.html')", drift
    ),
    "predictions": Command("turn the prediction log into Parquet files", predictions),
    "evaluate": Command("measure the model on logged predictions whose labels are known: LABELS=labels.csv", evaluate),
    "support": Command("list the parts of the images that are past their end of support, or soon will be", support),
    "clean": Command("remove .venv, caches and fetched artifacts; keeps registry/ and data/", clean),
}
COMMANDS |= {name: Command(purpose, partial(in_cluster, name)) for name, purpose in cluster.COMMANDS.items()}
ALIASES = {"install": "setup", "serve": "run", "lint": "check", "format": "fmt"}
"""Names that users know from other tools."""


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    name, *arguments = words or ["help"]
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        print(f"error: {name!a} is not a command; the commands are {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        COMMANDS[name].act(arguments)
    except StepError as failure:
        print(failure, file=sys.stderr)
        return failure.code
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
