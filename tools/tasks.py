"""Every command of the template: `make COMMAND` or, without make, `python tools/tasks.py COMMAND`.

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

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tools.environment import Environment
from tools.process import INTERRUPTED, SetupError, quietly, run

Arguments = Sequence[str]

GENERATED = ROOT / "{{cookiecutter.project_slug}}"
BAKE = ROOT / "requirements" / "bake.txt"
DEV = ROOT / "requirements" / "dev.txt"
TRANSPORTS = ROOT / "benchmarks" / "requirements" / "transports.txt"
PEERS = ROOT / "benchmarks" / "requirements" / "peers.txt"
DEMO = ROOT / "build" / "demo"
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
)
# One worker runs what shares a repo: tests/conftest.py has the groups and their order.
IN_PARALLEL = ("-n", "2", "--dist", "loadscope", "--no-loadscope-reorder")
# They put a load on containers: on a busy machine every store looks slow to it.
UNDER_LOAD = (
    "tests/containers/test_containers.py",
    "tests/containers/test_feast_in_containers.py",
    "tests/containers/test_plain_compose.py",
)
DISPOSABLE = (".venv", ".mypy_cache", ".ruff_cache", ".hypothesis", "build")

ENVIRONMENT = Environment(ROOT / ".venv")


class StepError(Exception):
    """A step of a command failed."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(f"error: {step} failed with exit code {code}.")
        self.code = code


def module(name: str, *arguments: str) -> None:
    """Run a module in the environment, with everything that checks and tests need.

    :raises StepError: its exit code is not 0
    """
    python = ENVIRONMENT.ensure([BAKE, DEV])
    step(f"python -m {' '.join([name, *arguments])}", [str(python), "-m", name, *arguments])


def step(name: str, command: Sequence[str]) -> None:
    """Run a command.

    :raises StepError: its exit code is not 0
    """
    code = run(command, ROOT)
    if code:
        raise StepError(name, code)


def show_help(_arguments: Arguments) -> None:
    """Print one line for each command."""
    print("usage: make COMMAND [ARGS=...]      (without make: python tools/tasks.py COMMAND ...)\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<10} {command.purpose}")


def demo(arguments: Arguments) -> None:
    """Generate a repo from the default answers and let it show what it does."""
    python = ENVIRONMENT.ensure([BAKE])
    shutil.rmtree(DEMO, ignore_errors=True)
    print(f"generating a repo from the default answers in {DEMO.relative_to(ROOT)} ...", flush=True)
    generate = [str(python), "-m", "cookiecutter", str(ROOT), "--no-input", "--default-config", "-o", str(DEMO)]
    quietly(generate, "the template could not be generated")
    (repo,) = DEMO.iterdir()
    step("the generated repo's demo", [sys.executable, str(repo / "tools" / "tasks.py"), "demo", *arguments])
    print(f"\nThat was {repo.relative_to(ROOT)}. Make your own, where you keep your repos:")
    print(f"  {python} -m cookiecutter {ROOT}")


def setup(_arguments: Arguments) -> None:
    """Make the environment."""
    ENVIRONMENT.ensure([BAKE, DEV])
    print(f"ready: {ENVIRONMENT.python.relative_to(ROOT)}")


def check(_arguments: Arguments) -> None:
    """Run every static check, even if one fails."""
    python = str(ENVIRONMENT.ensure([BAKE, DEV]))
    failed = []
    for words in CHECKS:
        print(f"-- {' '.join(words)}", flush=True)
        code = run([python, "-m", *words], ROOT)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(" ".join(words))
    if failed:
        raise StepError(", ".join(failed), 1)


def fmt(_arguments: Arguments) -> None:
    """Format the code as `check` requires."""
    for words in (("format", "."), ("check", "--fix", "."), ("format", ".")):  # a fix may need formatting
        module("ruff", *words)


def test(arguments: Arguments) -> None:
    """Run the tests that everyone runs before a commit."""
    module("pytest", "-m", "not long", *IN_PARALLEL, *arguments)


def test_all(arguments: Arguments) -> None:
    """Run every test; alone those that watch what callers of containers see while something breaks."""
    if arguments:
        module("pytest", *IN_PARALLEL, *arguments)
        return
    module("pytest", *IN_PARALLEL, *(f"--ignore={path}" for path in UNDER_LOAD))
    module("pytest", *UNDER_LOAD)


def bench(arguments: Arguments) -> None:
    """Measure how long generating takes."""
    module("benchmarks.generation", *arguments)


def transports(arguments: Arguments) -> None:
    """Compare gRPC with REST on images, and write the figures into docs/."""
    python = Environment(ROOT / "build" / "transports" / ".venv").ensure([TRANSPORTS])
    step("python -m benchmarks.transports", [str(python), "-m", "benchmarks.transports", *arguments])


def peers(arguments: Arguments) -> None:
    """Measure a generated repo beside its peers, and write the figures into docs/."""
    python = Environment(ROOT / "build" / "benchmarks" / ".venv").ensure([BAKE, PEERS])
    step("python -m benchmarks.peers", [str(python), "-m", "benchmarks.peers", *arguments])


def dashboard(arguments: Arguments) -> None:
    """Draw the generated dashboard after half an hour of calls, into the generated repo's docs/."""
    python = Environment(ROOT / "build" / "benchmarks" / ".venv").ensure([BAKE, PEERS])
    step("python -m benchmarks.dashboard", [str(python), "-m", "benchmarks.dashboard", *arguments])


def lock(arguments: Arguments) -> None:
    """Resolve the requirements of the template, of the generated repo and of every choice."""
    module("tools.lock", *arguments)


def mutation(arguments: Arguments) -> None:
    """Change the code of generated repos and list the changes that no test notices."""
    module("tools.mutation", *arguments)


def recording(_arguments: Arguments) -> None:
    """Draw the demo's terminal for the README."""
    step("python -m tools.recording", [sys.executable, "-m", "tools.recording"])


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
    "demo": Command("generate a repo, train, serve and predict in it: the whole path once", demo),
    "setup": Command("make .venv with everything that the other commands need", setup),
    "check": Command("lint, formatting, types", check),
    "fmt": Command("format the code as check requires", fmt),
    "test": Command('one generated repo end to end, all renders (some tests: ARGS="-k word")', test),
    "test-all": Command("every test, those of each combination included", test_all),
    "bench": Command("measure how long generating takes", bench),
    "transports": Command("compare gRPC with REST on images, and write the figures to docs/transports.md", transports),
    "peers": Command(
        "compare a generated repo with other model servers, and write the figures to docs/peers.md", peers
    ),
    "dashboard": Command("draw the generated dashboard after half an hour of calls, for its docs/", dashboard),
    "lock": Command("resolve all requirements again (newer versions: ARGS=--upgrade)", lock),
    "mutation": Command('change generated code and list what no test notices (some: ARGS="--sample 100")', mutation),
    "recording": Command("run the demo and draw its terminal as docs/demo.svg", recording),
    "clean": Command("remove .venv, caches and build/", clean),
}


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    name, *arguments = words or ["help"]
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
