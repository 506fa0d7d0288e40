"""Rules for the template's tree that no linter checks."""

from __future__ import annotations

import ast
import configparser
import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER, SYNTAX
from tests.support import AXES, CHOICES, PROMPTS, QUESTIONS, ROOT, is_text, run, tracked

GENERATED = [path for path in tracked() if path.parts[0] == ROOT_FOLDER]
VARIANTS = Path(ROOT_FOLDER, "_variants")
COPIED = PROMPTS["_copy_without_render"]

# Readers may be anywhere: an address belongs in this repo only as a link to read.
LINKS_LEAD_TO = {
    "github.com",
    "kserve.github.io",
    "kubernetes.io",
    "www.apache.org",
    "www.w3.org",  # the SVG namespace, which is never fetched
    "127.0.0.1",
}
ENGINE = "shared/container-engine"


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8") if is_text(ROOT / path) else ""


def test_no_path_below_the_root_folder_holds_template_syntax() -> None:
    below = [str(path.relative_to(ROOT_FOLDER)) for path in GENERATED]
    assert [path for path in below for mark in SYNTAX if mark in path] == []


def test_every_python_file_is_copied_and_never_rendered(template: Path) -> None:
    assert {"*.py", "*.pyi"} <= set(COPIED)
    for path in GENERATED:
        if path.suffix == ".py":
            # Whatever it contains, Python must compile it unrendered.
            compile(text_of(path), str(path), "exec")


def test_no_file_of_a_copied_folder_names_an_answer() -> None:
    """A folder that is copied whole saves most of the time: Cookiecutter compiles each path that it renders."""
    below = [path for path in GENERATED if any(copied(folder) for folder in path.relative_to(ROOT_FOLDER).parents)]
    assert len(below) > len(GENERATED) / 2
    assert [str(path) for path in below if path.suffix != ".py" and "{{ cookiecutter" in text_of(path)] == []


def copied(folder: Path) -> bool:
    return any(fnmatch.fnmatch(folder.as_posix(), pattern) for pattern in COPIED)


def test_templates_contain_no_syntax_except_answers() -> None:
    tags = {
        tag
        for path in GENERATED
        if path.suffix != ".py"
        for tag in re.findall(r"{%-? *(\w+)|{{-? *(\w+)", text_of(path).replace("${{", ""))
        for tag in tag
        if tag
    }
    assert tags == {"cookiecutter"}


def test_the_hook_holds_no_template_syntax() -> None:
    text = (ROOT / "hooks" / "post_gen_project.py").read_text(encoding="utf-8")
    assert [mark for mark in SYNTAX if mark in text] == []


def test_the_only_hook_is_the_one_that_lays_variants() -> None:
    assert [path.name for path in tracked() if path.parts[0] == "hooks"] == ["post_gen_project.py"]


def test_no_answer_depends_on_time_or_chance() -> None:
    text = (ROOT / "cookiecutter.json").read_text(encoding="utf-8") + "".join(
        text_of(path) for path in GENERATED if path.suffix != ".py"
    )
    assert re.findall(r"{% *now|random_ascii_string|uuid4", text) == []


def test_every_url_is_a_link_for_readers() -> None:
    addresses = {
        (str(path), host)
        for path in tracked()
        for host in re.findall(r"https?://(?:[^/@\s]*@)?([\w-]+\.[\w.-]+)", text_of(path))
    }
    reserved = re.compile(r"([\w-]+\.)*example\.com")  # for documentation, by RFC 2606
    assert {
        (path, host) for path, host in addresses if host not in LINKS_LEAD_TO and not reserved.fullmatch(host)
    } == set()


def test_nothing_names_a_path_of_this_machine() -> None:
    assert [str(path) for path in tracked() if str(ROOT) in text_of(path)] == []


def test_only_the_ci_script_names_the_container_engine() -> None:
    own = Path(__file__).resolve().relative_to(ROOT)
    assert [str(path) for path in tracked() if path != own and ENGINE in text_of(path)] == [".ci/run"]


@pytest.mark.parametrize("name", ["environment", "process", "resolve", "uv"])
def test_both_repos_make_and_lock_their_environments_in_the_same_way(name: str) -> None:
    generated = ROOT / ROOT_FOLDER / "tools" / f"{name}.py"
    assert generated.read_bytes() == (ROOT / "tools" / f"{name}.py").read_bytes()


@pytest.mark.parametrize("folder", [".", ROOT_FOLDER])
def test_make_has_exactly_the_commands_of_python(folder: str) -> None:
    makefile = (ROOT / folder / "Makefile").read_text(encoding="utf-8")
    tasks = (ROOT / folder / "tools" / "tasks.py").read_text(encoding="utf-8")
    commands = re.findall(r'^    "([\w-]+)": Command\(', tasks, re.MULTILINE)
    commands += re.findall(r'"([\w-]+)": "', "".join(re.findall(r"^ALIASES = .*$", tasks, re.MULTILINE)))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    (rule,) = re.findall(r"^(help .*):$", makefile, re.MULTILINE)
    assert phony.split() == commands
    assert rule.split() == commands


def test_choices_prompts_overlays_and_the_option_table_are_the_same_set() -> None:
    prompts = PROMPTS["__prompts__"]
    assert list(prompts) == QUESTIONS
    assert {question: list(prompts[question]) for question in CHOICES} == {
        question: ["__prompt__", *choices] for question, choices in CHOICES.items()
    }
    sentences = [
        text for prompt in prompts.values() for text in (prompt.values() if isinstance(prompt, dict) else [prompt])
    ]
    # "redis - ..." explains the choice; a name alone does not.
    assert [text for text in sentences if len(text.split()) < 4] == []

    for axis in AXES:
        folders = {path.relative_to(VARIANTS / axis).parts[0] for path in variants_of(axis)}
        # A folder shared by choices has a name that no choice can have.
        assert {name for name in folders if not name.startswith("_")} == set(CHOICES[axis])

    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", (ROOT / "docs" / "answers.md").read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == QUESTIONS
    assert {name: re.findall(r"`([^`]+)`", values) for name, values in rows if name in CHOICES} == CHOICES


def variants_of(axis: str) -> list[Path]:
    return [path for path in GENERATED if path.is_relative_to(VARIANTS / axis)]


def test_every_release_says_what_an_older_repo_has_to_do() -> None:
    _, *releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert releases
    names = [release.splitlines()[0] for release in releases]
    assert [name for name in names if not re.fullmatch(r"\d+\.\d+\.\d+ - (unreleased|\d{4}-\d\d-\d\d)", name)] == []
    assert [name for name, release in zip(names, releases, strict=True) if "\n**To migrate**: " not in release] == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert names[0].partition(" ")[0] == version
    # A tag is a release of this page.
    tags = run(["git", "tag", "--list", "v*"], cwd=ROOT).stdout.split()
    assert set(tags) <= {f"v{name.partition(' ')[0]}" for name in names}


def test_the_import_contracts_stay_readable() -> None:
    """At most six, and no list too long to read."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ROOT_FOLDER / ".importlinter", encoding="utf-8")
    assert len([section for section in contracts if ":contract:" in section]) <= 6
    lists = [value.split() for section in contracts.values() for key, value in section.items() if key != "name"]
    assert max(len([word for word in words if word != "|"]) for words in lists) <= 8


def test_what_puts_a_load_on_containers_runs_alone() -> None:
    tasks = (ROOT / "tools" / "tasks.py").read_text(encoding="utf-8")
    (alone,) = re.findall(r"^UNDER_LOAD = (\(.*?\))$", tasks, re.MULTILINE | re.DOTALL)
    loads = re.compile(r"\.(load|survives_failures_of_its_store)\(")
    tests = (path for path in tracked() if path.match("tests/containers/test_*.py"))
    assert [path.as_posix() for path in tests if loads.search(text_of(path))] == sorted(ast.literal_eval(alone))
