"""The template's parts, read from the template itself, and the repos that tests generate from it."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tools.environment import Environment

Answers = tuple[tuple[str, str], ...]

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
QUESTIONS = [key for key in PROMPTS if not key.startswith("_")]
CHOICES: dict[str, list[str]] = {key: PROMPTS[key] for key in QUESTIONS if isinstance(PROMPTS[key], list)}
AXES = sorted(folder.name for folder in (ROOT / ROOT_FOLDER / "_variants").iterdir() if folder.is_dir())
COMMAND_TIMEOUT_S = 900.0
_IN_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108 - folders in it have names that nobody can guess
_TRIES, _CANDIDATES = 20, 10


def pairs(choices: Mapping[str, str], questions: Sequence[str]) -> set[Answers]:
    """Return every pair of answers in one combination."""
    return set(itertools.combinations(((question, choices[question]) for question in questions), 2))


def covering(rows: Sequence[dict[str, str]], questions: Sequence[str]) -> list[dict[str, str]]:
    """Return more combinations, so that every pair of answers to different questions is in at least one.

    Their number grows with the two longest lists of choices, not with the product of all: the fewest of some tries.
    """
    found = (_covering(rows, questions, random.Random(seed)) for seed in range(_TRIES))  # noqa: S311 - no secret
    return min(found, key=len)


def _covering(rows: Sequence[dict[str, str]], questions: Sequence[str], chance: random.Random) -> list[dict[str, str]]:
    missing: set[Answers] = {
        pair
        for first, second in itertools.combinations(questions, 2)
        for pair in itertools.product(_answers(first), _answers(second))
    }
    missing.difference_update(*(pairs(choices, questions) for choices in rows))
    found = []
    while missing:
        candidates = [_candidate(missing, questions, chance) for _ in range(_CANDIDATES)]
        found.append(max(candidates, key=lambda choices: len(pairs(choices, questions) & missing)))
        missing -= pairs(found[-1], questions)
    return found


def _candidate(missing: set[Answers], questions: Sequence[str], chance: random.Random) -> dict[str, str]:
    """Begin with a missing pair, and add to it, question by question, the answer that meets most missing pairs."""
    row = dict(chance.choice(sorted(missing)))
    for question in chance.sample(list(questions), len(questions)):
        if question not in row:
            shuffled = chance.sample(CHOICES[question], len(CHOICES[question]))
            row[question] = max(shuffled, key=lambda choice: len(_met(row, question, choice) & missing))
    return {question: row[question] for question in CHOICES if question in row} | {
        question: choices[0] for question, choices in CHOICES.items() if question not in row
    }


def _met(row: Mapping[str, str], question: str, choice: str) -> set[Answers]:
    """Return the pairs of one more answer with those of a row, in either order."""
    return {pair for other in row.items() for pair in ((other, (question, choice)), ((question, choice), other))}


def _answers(question: str) -> list[tuple[str, str]]:
    return [(question, choice) for choice in CHOICES[question]]


# Every choice of every question is in at least one of them; the first is the default.
SAMPLE = [
    {question: choices[number % len(choices)] for question, choices in CHOICES.items()}
    for number in range(max(map(len, CHOICES.values())))
]
# Every pair of choices is in at least one of them.
PAIRED = [*SAMPLE, *covering(SAMPLE, list(CHOICES))]


def combination_id(choices: Mapping[str, str]) -> str:
    """Name a combination in a test's id."""
    return "-".join(choices.values())


def every_pair(**answers: Sequence[str]) -> pytest.MarkDecorator:
    """Run a test with every pair of choices, in `make test` with every choice; with answers, repos that have one."""
    rows = [row for row in PAIRED if all(row[question] in given for question, given in answers.items())]
    marks = {combination_id(row): pytest.mark.long for row in rows if row not in SAMPLE}
    parameters = [pytest.param(row, id=combination_id(row), marks=marks.get(combination_id(row), ())) for row in rows]
    return pytest.mark.parametrize("choices", parameters)


@dataclass(frozen=True)
class Repo:
    """A generated repo."""

    path: Path

    @property
    def python(self) -> str:
        """The interpreter of the repo's environment."""
        return str(Environment(self.path / ".venv").python)

    @property
    def has_rest(self) -> bool:
        """Whether its server has a REST API too."""
        return (self.path / "src" / "serving" / "online" / "rest").exists()

    @property
    def free_ports(self) -> dict[str, str]:
        """Return the variables with which its server takes free ports, and stops without delay."""
        rest = {"SERVING_REST_PORT": "0"} if self.has_rest else {}
        return {"SERVING_GRPC_PORT": "0", "SERVING_METRICS_PORT": "0", "SERVING_DRAIN": "0"} | rest

    def files(self) -> list[Path]:
        """Return the paths of all files, relative to the repo."""
        return files_below(self.path)

    def text(self, path: str) -> str:
        """Return a file's text."""
        return (self.path / path).read_text(encoding="utf-8")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the repo as on a machine without make."""
        return run([sys.executable, str(self.path / "tools" / "tasks.py"), *words], cwd=self.path)

    def passes(self, *words: str) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def files_below(folder: Path) -> list[Path]:
    """Return the relative paths of all files below a folder, sorted, without bytecode: a test may have run the code."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def is_text(path: Path) -> bool:
    """Return whether a file is text, by git's rule."""
    return b"\0" not in path.read_bytes()[:8192]


def read_json(text: str) -> object:
    """Parse JSON; that of a development container may begin with comments."""
    return json.loads(re.sub(r"^//.*$", "", text, flags=re.MULTILINE))


def tracked() -> list[Path]:
    """Return the paths of the template's files, relative to its root, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).exists())


def copy_of_template(folder: Path) -> Path:
    """Copy the template's files to a new folder, and return that."""
    for path in tracked():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
    return folder


def run(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code, and return what it printed."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )


def tool(name: str, *words: str, cwd: Path) -> None:
    """Run a tool of this environment; it must report nothing."""
    done = run([str(Path(sysconfig.get_path("scripts")) / name), *words], cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def cookiecutter(
    template: Path,
    folder: Path,
    *words: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    no_input: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run the cookiecutter command in `folder`, with a separate home folder beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.parent / f"{folder.name}.home"
    home.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COOKIECUTTER")}
    command = [sys.executable, "-m", "cookiecutter", str(template), *(["--no-input"] if no_input else []), *words]
    surroundings = inherited | {"HOME": str(home), "USERPROFILE": str(home), "COLUMNS": "200"} | dict(environment or {})
    return run(command, cwd=folder, environment=surroundings, stdin=stdin)


def scratch() -> str | None:
    """Return where folders of many small files should be: in memory if there is room, else where temporary files are.

    Every new file on ext4 looks at each inode that was freed in the last minutes, and each repo frees hundreds: on a
    disk, tests that only generate repos took three times as long.
    """
    return str(_IN_MEMORY) if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOM else None


def generate(template: Path, folder: Path, answers: Mapping[str, str]) -> Repo:
    """Generate a repo from these answers, defaults for the rest."""
    with tempfile.TemporaryDirectory(dir=scratch()) as made:
        done = cookiecutter(template, Path(made) / "out", *(f"{key}={value}" for key, value in answers.items()))
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.copytree(Path(made) / "out", folder, dirs_exist_ok=True)
    (repo,) = folder.iterdir()
    return Repo(repo)


def expected_files(template: Path, choices: Mapping[str, str]) -> Iterator[Path]:
    """Return the paths that a repo must have: the base, and the folders of its choices with those they extend."""
    yield from (path for path in files_below(template / ROOT_FOLDER) if path.parts[0] != "_variants")
    for axis in AXES:
        yield from brought(template, axis, choices[axis])
        yield from beside(template, axis, choices)


def brought(template: Path, axis: str, choice: str) -> Iterator[Path]:
    """Return the paths of the files that a choice adds to a repo, whatever the other choices are."""
    for folder in laid(template, axis, choice):
        mine = {"_extends", "_next_steps"}
        yield from (path for path in files_below(folder) if path.name not in mine and path.parts[0] != "_with")


def laid(template: Path, axis: str, choice: str) -> Iterator[Path]:
    """Return the folders of a choice: its own, and those it extends."""
    name: str | None = choice
    while name:
        folder = template / ROOT_FOLDER / "_variants" / axis / name
        yield folder
        extends = folder / "_extends"
        name = extends.read_text(encoding="utf-8").strip() if extends.exists() else None


def beside(template: Path, axis: str, choices: Mapping[str, str]) -> Iterator[Path]:
    """Return the paths of the files that a choice adds because of choices of other axes."""
    for folder in laid(template, axis, choices[axis]):
        for other in sorted((folder / "_with").glob("*")):
            for below in laid(template, other.name, choices[other.name]):
                yield from files_below(other / below.name)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the comment right above it."""

    language: str
    text: str
    note: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a Markdown page, in order."""
    found = re.findall(r"(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(language, text, note) for note, language, text in found]


def assert_shown(shown: str, printed: str) -> None:
    """Assert that every shown line was printed, in that order; `...` matches anything."""
    lines = iter(printed.splitlines())
    for expected in shown.splitlines():
        pattern = re.sub(r"\[", "[[]", expected).replace("...", "*")
        assert any(fnmatch.fnmatchcase(line, pattern) for line in lines), f"{expected!r} is not in:\n{printed}"
