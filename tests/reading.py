"""Generate repos for many answers and read the answers back from every file format."""

from __future__ import annotations

import json
import runpy
import shutil
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cookiecutter.exceptions import CookiecutterException
from cookiecutter.main import cookiecutter
from markdown_it import MarkdownIt
from packaging.metadata import Metadata, parse_email

from tests.support import Repo, blocks, is_text, read_json

Answers = Mapping[str, Any]

# Exceptions of parsers and of generating: each becomes a finding that names its answers.
FAULTS = (ValueError, LookupError, SyntaxError, AssertionError, yaml.YAMLError, CookiecutterException)


@dataclass
class Found:
    """The faults found in the repos, and the texts that other tools must check."""

    faults: list[str] = field(default_factory=list)
    dockerfiles: set[str] = field(default_factory=set)
    scripts: set[str] = field(default_factory=set)

    @classmethod
    def all_of(cls, parts: Iterable[Found]) -> Found:
        """Merge the findings of several processes."""
        whole = cls()
        for part in parts:
            whole.faults += part.faults
            whole.dockerfiles |= part.dockerfiles
            whole.scripts |= part.scripts
        return whole


def bake_and_read(template: Path, folder: Path, share: Sequence[Answers]) -> Found:
    """Bake each of these answers, and read every file of it that has not been read with the same bytes before."""
    found = Found()
    # Most answers leave these files unchanged, so each content is read once.
    known: set[tuple[str, bytes]] = set()
    for answers in share:
        repo = bake(template, folder, answers)
        try:
            read_back(repo, answers, found)
            for path in repo.files():
                content = (repo.path / path).read_bytes()
                if (path.name, content) not in known:
                    known.add((path.name, content))
                    parse(repo, path, found)
        except FAULTS as error:
            found.faults.append(f"{answers!a}: {error!r}")
        shutil.rmtree(folder)
    return found


def bake(template: Path, folder: Path, answers: Answers) -> Repo:
    """Bake in this process; the hook's code too, without a separate process."""
    places = {"replay_dir": str(folder / "replay"), "cookiecutters_dir": str(folder / "clones")}
    made = cookiecutter(
        str(template),
        no_input=True,
        extra_context=dict(answers),
        output_dir=str(folder / "out"),
        default_config=places,
        accept_hooks=False,
    )
    assert [path.name for path in (folder / "out").iterdir()] == [answers["project_slug"]]
    runpy.run_path(str(Path(made) / "_variants" / "finish.py"))["finish"](Path(made))
    return Repo(Path(made))


def read_back(repo: Repo, answers: Answers, found: Found) -> None:
    """Check the answers in every file that contains them."""
    name, slug = answers["project_name"], answers["project_slug"]
    description, organization = answers["project_description"], answers["organization"]
    project = tomllib.loads(repo.text("pyproject.toml"))["project"]
    summary = Metadata.from_raw(
        {
            "metadata_version": "2.4",
            "name": slug,
            "version": "1",
            "summary": project["description"],
            "author": project["authors"][0]["name"],
        }
    )
    metadata, _ = parse_email(summary.as_rfc822().as_bytes())
    inline = [
        token
        for token in MarkdownIt().parse("".join(repo.text("README.md").splitlines(keepends=True)[:4]))
        if token.type == "inline"
    ]
    heading, paragraph, *_ = ["".join(part.content for part in token.children or []) for token in inline]
    stated = json.loads(repo.text(".answers.json"))
    readings = {
        "pyproject.toml": (
            (project["name"], project["description"], project["authors"]),
            (slug, description, [{"name": organization}]),
        ),
        "metadata": ((metadata["summary"], metadata["author"]), (description, organization)),
        "config/service.toml": (
            tomllib.loads(repo.text("config/service.toml"))["service"],
            {"name": slug, "description": description, "organization": organization},
        ),
        "README.md": ((heading, paragraph), (name, description)),
        ".answers.json": (stated.pop("cookiecutter"), answers),
        ".answers.json for cruft": (stated, answers),
        "client/pyproject.toml": (
            tomllib.loads(repo.text("client/pyproject.toml"))["project"]["name"],
            f"{slug}-client",
        ),
        "service.json": (json.loads(repo.text("client/serving_client/service.json")), {"model": slug}),
        "Dockerfile": (f'image.title="{slug}"' in repo.text("Dockerfile"), True),
    }
    found.faults += [f"{place}: {got!a} is not {given!a}" for place, (got, given) in readings.items() if got != given]


def parse(repo: Repo, path: Path, found: Found) -> None:
    """Parse one file by its format; collect what other programs must parse."""
    if not is_text(repo.path / path):
        return
    text = repo.text(str(path))
    if path.suffix == ".toml":
        tomllib.loads(text)
    elif path.suffix == ".json":
        read_json(text)
    elif path.suffix in {".yaml", ".yml"}:
        list(yaml.safe_load_all(text))
    elif path.suffix in {".py", ".pyi"}:
        compile(text, str(path), "exec")
    elif path.name == "Dockerfile":
        found.dockerfiles.add(text)
    elif path.suffix == ".sh":
        found.scripts.add(text)
    elif path.suffix == ".md":
        found.scripts.add("\n".join(block.text for block in blocks(text) if block.language == "sh"))
