"""Change the code of generated repos, one place at a time, and list the changes that no test notices: `make mutation`.

mutmut makes the changes and runs the tests that reach them. tools/mutation.toml says which code and tests, and lists
the changes that may stay unnoticed, each with its reason.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.environment import Environment
from tools.process import SetupError, clean, quietly, run

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "{{cookiecutter.project_slug}}"
SETTINGS = Path(__file__).with_suffix(".toml")
LOCK = ROOT / "requirements" / "mutation.txt"
BUILD = ROOT / "build" / "mutation"
APART = ("import", "plots", "ray", "uv")
Settings = Mapping[str, Any]

UNNOTICED = ("survived", "no tests")
# A mutant has this long: three times what its tests take, and 15 s for a busy machine. One that hangs is noticed.
TIME_LIMIT = {"timeout_multiplier": 3.0, "timeout_constant": 5.0}


@dataclass(frozen=True)
class Mutant:
    """A changed function, what changed in it, and what the tests found."""

    name: str
    status: str
    before: str
    after: str

    @property
    def function(self) -> str:
        """The dotted name of the function."""
        module, _, mangled = self.name.partition("__mutmut_")[0].rpartition(".")
        return f"{module}.{mangled.removeprefix('x').removeprefix('_').strip('ǁ').replace('ǁ', '.')}"

    @property
    def module(self) -> str:
        """The path of the module below `src`, as in the repo."""
        return self.name.partition("__mutmut_")[0].rpartition(".")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Test mutants; return 1 if one stays unnoticed that is not listed."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files of the repo, such as 'src/serving/online/*' (default: all)")
    parser.add_argument("--sample", type=int, help="test so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives another sample")
    parser.add_argument("--changed", metavar="COMMIT", help="only files that changed since this commit")
    options = parser.parse_args(arguments)
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    wanted = [*options.paths, *(changed_since(options.changed) if options.changed else [])]
    if options.changed and not wanted:
        print("no file of the mutated code changed")
        return 0
    try:
        tested = mutate(settings, wanted or ["*"], options.sample, options.seed)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return report(tested, settings.get("unnoticed", []))


def changed_since(commit: str) -> list[str]:
    """Return the files of generated repos that changed since a commit, by their paths there."""
    command = ["git", "diff", "--name-only", "-z", commit, "--", GENERATED]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"error: --changed {commit}: {done.stderr.strip()}; name a commit that this clone has.")
    return sorted(filter(None, (path_in_repo(Path(name)) for name in done.stdout.split("\0") if name)))


def path_in_repo(path: Path) -> str | None:
    """Return where a file of the template lies in a generated repo; None if it is not in the mutated code."""
    parts = path.parts[1:]
    inside = Path(*(parts[3:] if parts[0] == "_variants" else parts))
    return inside.as_posix() if inside.parts[:2] == ("src", "serving") and inside.suffix == ".py" else None


def mutate(settings: Settings, wanted: Sequence[str], sample: int | None, seed: int) -> list[Mutant]:
    """Generate the repos, test their mutants, and return what was found.

    :raises SetupError: a repo can't be made, or its tests fail without a change
    """
    repos = [generate(answers) for answers in covering()]
    chosen: dict[Path, list[str]] = {}
    seen: set[tuple[str, bytes]] = set()
    for repo in repos:
        files = [name for name in sources(repo, settings) if any(fnmatch.fnmatch(name, glob) for glob in wanted)]
        # One path can have another file in each choice.
        fresh = [name for name in files if (name, (repo / name).read_bytes()) not in seen]
        configure(repo, settings, fresh)
        seen.update((name, (repo / name).read_bytes()) for name in fresh)
        chosen[repo] = json.loads(driver(repo, "list"))
    mutants = sorted((name, repo) for repo, names in chosen.items() for name in names)
    if sample is not None and sample < len(mutants):
        mutants = random.Random(seed).sample(mutants, sample)  # noqa: S311 - no secret
    print(f"testing {len(mutants)} of {sum(map(len, chosen.values()))} mutants", flush=True)
    found: list[Mutant] = []
    for repo in repos:
        names = [name for name, place in mutants if place == repo]
        if names:
            test(repo, names)
            found += [Mutant(**result) for result in json.loads(driver(repo, "results"))]
    return found


def covering() -> list[dict[str, str]]:
    """Return the answers of as few repos as have every choice of every axis."""
    choices = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    axes = sorted(path.name for path in (ROOT / GENERATED / "_variants").iterdir() if path.is_dir())
    count = max(len(choices[axis]) for axis in axes)
    return [{axis: choices[axis][number % len(choices[axis])] for axis in axes} for number in range(count)]


def generate(answers: Mapping[str, str]) -> Path:
    """Generate a repo and make its environment, with mutmut in it; return its folder.

    :raises SetupError: a step failed
    """
    folder = BUILD / "-".join(answers.values())
    made = BUILD / "new"
    shutil.rmtree(made, ignore_errors=True)
    command = [sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", "--default-config", "-o", str(made)]
    quietly([*command, *(f"{name}={value}" for name, value in answers.items())], "the template could not be generated")
    (fresh,) = made.iterdir()
    if (folder / ".venv").exists():
        (folder / ".venv").rename(fresh / ".venv")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    mutants = folder / "mutants"
    locks = [lock for lock in sorted((folder / "requirements").glob("*.txt")) if lock.stem not in APART]
    Environment(folder / ".venv", importable=(mutants / "src", mutants / "client", mutants)).ensure([*locks, LOCK])
    return folder


def sources(repo: Path, settings: Settings) -> list[str]:
    """Return the files of the mutated code, relative to the repo."""
    source = settings["source"]
    found = (path for folder in source["folders"] for path in (repo / folder).rglob("*.py"))
    return sorted(path.relative_to(repo).as_posix() for path in found if not path.match(source["generated"]))


def configure(repo: Path, settings: Settings, files: Iterable[str]) -> None:
    """Write mutmut's settings into the repo."""
    tests = settings["tests"]
    there = [path for path in tests["left_out"] if (repo / path).exists()]
    values = {
        "source_paths": ["src"],
        "only_mutate": list(files) or ["none"],
        "also_copy": sorted(path.name for path in repo.iterdir() if path.name not in (".venv", "src", "mutants")),
        # gRPC has threads, so each mutant's process forks from one that has only imported the tests.
        "process_isolation": "forkserver",
        "track_dependencies": False,
        "use_setproctitle": False,
        "pytest_add_cli_args": ["-o", "tmp_path_retention_policy=none", *(f"--ignore={path}" for path in there)],
        "pytest_add_cli_args_test_selection": tests["run"],
        **TIME_LIMIT,
    }
    # JSON's lists, strings, numbers and truth values are TOML's too.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    with (repo / "pyproject.toml").open("a", encoding="utf-8", newline="\n") as target:
        target.write("\n".join(["", "[tool.mutmut]", *lines, ""]))


def driver(repo: Path, command: str) -> str:
    """Run tools/mutants.py in a repo and return what it prints."""
    python = str(Environment(repo / ".venv").python)
    done = subprocess.run(
        [python, str(Path(__file__).with_name("mutants.py")), command],
        cwd=repo,
        env=clean(os.environ),
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SetupError(f"{done.stderr}error: the mutants of {repo} can't be read, for the reason above.")
    return done.stdout


def test(repo: Path, names: Sequence[str]) -> None:
    """Test these mutants of a repo.

    :raises SetupError: the tests fail without a change
    """
    mutmut = Environment(repo / ".venv").python.with_name("mutmut")
    # It runs tests in the order of a set: with this, in the same order each time.
    os.environ["PYTHONHASHSEED"] = "0"
    # In the folder that all runs of pytest share, each removes what others left. The name is short for sockets.
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        code = run([str(mutmut), "run", *names], repo)
    if code:
        raise SetupError(
            f"error: mutmut failed in {repo}: do its tests pass without a change? On a busy machine one may not; "
            "then run the command again."
        )


def is_listed(mutant: Mutant, entry: Settings) -> bool:
    """Return whether an entry lists a change: by what it makes of the line, or by a pattern for that."""
    if not fnmatch.fnmatchcase(mutant.function, entry["function"]):
        return False
    return mutant.after in entry.get("after", []) or bool("like" in entry and re.search(entry["like"], mutant.after))


def report(tested: Sequence[Mutant], listed: Sequence[Settings]) -> int:
    """Print the score and the unnoticed mutants; return 1 if one is not listed."""
    unnoticed = [mutant for mutant in tested if mutant.status in UNNOTICED]
    missing = [mutant for mutant in unnoticed if not any(is_listed(mutant, entry) for entry in listed)]
    for mutant in missing:
        print(f"\n{mutant.function} ({mutant.status})\n  - {mutant.before}\n  + {mutant.after}")
    print()
    every, bad = Counter(mutant.module for mutant in tested), Counter(mutant.module for mutant in unnoticed)
    for module in sorted(every):
        print(f"{every[module] - bad[module]:5} of {every[module]:5}  {module}")
    noticed = len(tested) - len(unnoticed)
    print(f"\nnoticed: {noticed} of {len(tested)} ({noticed / max(1, len(tested)):.1%})", end="")
    print(f", unnoticed and listed: {len(unnoticed) - len(missing)}, unnoticed and not listed: {len(missing)}")
    if missing:
        print("error: test what changed above, or list it in tools/mutation.toml with its reason.", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
