"""A Dockerfile as instructions with line numbers, grouped by stage."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.guardrails.compose import Entry, services
from tests.guardrails.image_names import resolved


@dataclass(frozen=True)
class Instruction:
    """One instruction; `text` is all that follows its name, continuation lines joined."""

    line: int
    name: str
    text: str

    def options(self) -> dict[str, str]:
        """Return the options before the arguments: of `COPY --from=build a b`, from=build."""
        words = [word for word in self.text.split() if word.startswith("--")]
        return {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in words)}

    def arguments(self) -> list[str]:
        """Return the arguments, in exec form or in words."""
        return self.exec_form() or [word for word in _split(self.text) if not word.startswith("--")]

    def exec_form(self) -> list[str]:
        """Return the words of the JSON form; nothing if it is the shell form."""
        text = self.text[self.text.find("[") :] if self.text.startswith(("[", "--", "CMD")) else ""
        try:
            words = json.loads(text)
        except ValueError:
            return []
        return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []

    def pairs(self) -> list[tuple[str, str]]:
        """Return names and values of ARG, ENV and LABEL; the value of `ARG NAME` is empty."""
        words = _split(self.text)
        if self.name == "ENV" and words and "=" not in words[0]:  # the old form: ENV NAME value
            return [(words[0], " ".join(words[1:]))]
        return [(name, value) for name, _, value in (word.partition("=") for word in words)]

    def commands(self) -> list[list[str]]:
        """Return the shell commands of RUN, each as its words."""
        lexer = shlex.shlex(self.text.replace("\n", " ; "), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        lexer.commenters = ""
        commands: list[list[str]] = [[]]
        try:
            words = list(lexer)
        except ValueError:  # quotes that are not closed: what is left of it is still worth reading
            words = self.text.split()
        for word in words:
            if set(word) <= set(";&|"):
                commands.append([])
            elif commands[-1] or not word.startswith("--"):  # options of RUN itself stand before its first command
                commands[-1].append(word)
        return [command for command in commands if command]


@dataclass(frozen=True)
class Stage:
    """What lies between two FROM; `base` is the image it starts from, or empty where `parent` is another stage."""

    file: str
    line: int
    name: str
    base: str
    parent: Stage | None
    instructions: tuple[Instruction, ...]

    def lineage(self) -> list[Stage]:
        """Return the stages whose instructions made this one, in the order in which they ran."""
        return [*(self.parent.lineage() if self.parent else []), self]

    def all(self, *names: str) -> list[Instruction]:
        """Return the instructions of these names, those of the stages it builds on first."""
        return [step for stage in self.lineage() for step in stage.instructions if step.name in names]


def stages(root: Path, file: str = "Dockerfile") -> list[Stage]:
    """Return the stages of a Dockerfile, in order; none if there is no such file."""
    if not (root / file).exists():
        return []
    known: dict[str, str] = {}
    found: list[Stage] = []
    for step in _instructions((root / file).read_text(encoding="utf-8")):
        if step.name == "FROM":
            image, *rest = step.arguments()
            parent = named(found, image)
            name = rest[1] if len(rest) > 1 else str(len(found))
            found.append(Stage(file, step.line, name, "" if parent else resolved(image, known), parent, ()))
        elif found:
            last = found[-1]
            steps = (*last.instructions, step)
            found[-1] = Stage(file, last.line, last.name, last.base, last.parent, steps)
        elif step.name == "ARG":
            known |= {name: value for name, value in step.pairs() if value}
    return found


def named(candidates: list[Stage], name: str) -> Stage | None:
    """Return the stage of this name or number."""
    for number, stage in enumerate(candidates):
        if name.lower() in (stage.name.lower(), str(number)):
            return stage
    return None


def contributing(stage: Stage, everything: list[Stage]) -> list[Stage]:
    """Return all stages from which something may get into this one."""
    found: list[Stage] = []
    for ancestor in stage.lineage():
        for copy in (step for step in ancestor.instructions if step.name in ("COPY", "ADD")):
            source = named(everything, copy.options().get("from", ""))
            if source is not None:
                found += contributing(source, everything)
        found.append(ancestor)
    return found


def all_stages(root: Path) -> list[Stage]:
    """Return the stages of every Dockerfile that an image is made of."""
    files = dict.fromkeys(["Dockerfile", *(image.file for image in images(root)[0])])
    return [stage for file in files for stage in stages(root, file)]


def images(root: Path) -> tuple[list[Stage], list[Entry]]:
    """Return every stage that becomes an image, and the Compose entries that ask for a stage that is not there.

    The last stage is one of them: it is what a plain `docker build` makes.
    """
    built, missing = stages(root)[-1:], []
    for service in services(root):
        for build in service.all("build"):
            file, target = build.get("dockerfile"), build.get("target")
            candidates = stages(root, str(file.value) if file else "Dockerfile")
            stage = named(candidates, str(target.value)) if target else next(reversed(candidates), None)
            if stage is None:
                missing.append(target or build)
            elif stage not in built:
                built.append(stage)
    return built, missing


def _instructions(text: str) -> Iterator[Instruction]:
    """Read line by line: comments go, continued lines are joined, a here-document belongs to its instruction."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        joined = line.rstrip()
        while joined.endswith("\\"):
            _, following = next(lines, (0, ""))
            if not following.lstrip().startswith("#"):
                joined = joined.removesuffix("\\") + following.rstrip()
        name, _, rest = joined.strip().partition(" ")
        marks = [word for word in rest.split() if word.startswith("<<") and not word.startswith("<<<")]
        if marks and name.upper() in ("RUN", "COPY", "ADD"):
            end = marks[0].lstrip("<-").strip("'\"")
            rest = "\n".join([rest.replace(marks[0], ""), *_until(end, lines)])
        yield Instruction(number, name.upper(), rest.strip())


def _until(end: str, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == end:
            return
        yield line


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
