"""Every answer is data: it is refused with a sentence or written unchanged, whichever way it comes in."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from slugify import slugify

import local_extensions as gate
from tests.releases import contents, cruft, release, surroundings
from tests.support import CHOICES, PROMPTS, QUESTIONS, cookiecutter, generate, read_json, run

CANARY = "canary"
RUN_CANARY = f"open('{CANARY}', 'w')"
JINJA_CANARY = f"{{{{ cycler.__init__.__globals__.os.system('touch {CANARY}') }}}}"

DEFAULTS = {key: PROMPTS[key][0] if isinstance(PROMPTS[key], list) else PROMPTS[key] for key in QUESTIONS} | {
    "project_slug": "diabetes-progression"
}

ORDER = {
    "identity": ["project_name", "project_slug", "project_description", "organization"],
    "features": ["feature_store"],
    "registry": ["model_registry"],
    "operation": ["runtime", "grpc_transport", "rest_api", "deployment", "ci", "python_version"],
}
HOSTILE_SLUGS = {
    "way out of the folder": "../../escaped/deep/x",
    "absolute path": "/escaped",
    "windows path": "..\\escaped",
    "quotes and code": f'x");{RUN_CANARY};("',
    "template syntax": JINJA_CANARY,
    "the folder's own name": gate.ROOT_FOLDER,
    "device name": "con",
    "package of the standard library": "json",
    "package of the repo": "serving",
    "upper case": "Escaped",
    "too long": "a" * 64,
    "too short": "a",
    "double hyphen": "a--b",
    "digit first": "3d-model",
    "not ascii": "größe",
    "line break": "a\nb",
    "empty": "",
}
HOSTILE_TEXTS = {
    "template syntax": JINJA_CANARY,
    "statement": "{% set x = 1 %}",
    "comment": "{# x #}",
    "the folder's own name": gate.ROOT_FOLDER,
    "line break": "one\ntwo",
    "terminal code": "\x1b[31mred",
    "zero": "a\x00b",
    "reordered": "user\u202etxt.exe",
    "too long": "a" * 201,
    "blank": "   ",
    "space at the end": "word ",
}
LEGAL_TEXTS = {
    "quotes": "\"double\" 'single' `back` '''three''' \"\"\"three\"\"\"",
    "backslash": "C:\\new\\table \\u0041 \\",
    "comment and mapping": "a: b # c",
    "emoji": "progress 😀 👩🏽‍⚕️",
    "right to left": "תחזית סוכרת",
    "dollar and braces": "${HOME} $(id) {x} %s %(x)s",
    "code": f'");{RUN_CANARY};("',
    "markdown": "# *a* _b_ [c](d) <e> | f ~ ! & &amp;",
    "longest": "é" * 200,
}


@dataclass(frozen=True)
class Outcome:
    """How a run of cookiecutter ended, and the files that it created."""

    code: int
    said: str
    left: list[Path]


# Every way to pass answers; each passes the same ones.

WayIn = Callable[[Path, Path, Mapping[str, object]], Outcome]


def bake(template: Path, place: Path, *words: str, stdin: str = "", no_input: bool = True) -> Outcome:
    before = set(place.rglob("*"))
    done = cookiecutter(template, place / "deep" / "out", *words, stdin=stdin, no_input=no_input)
    own = {place / "deep", place / "deep" / "out", place / "deep" / "out.home"}
    new = {path for path in place.rglob("*") if place / "deep" / "out.home" not in path.parents}
    return Outcome(done.returncode, done.stdout + done.stderr, sorted(new - before - own))


def as_keys(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    return bake(template, place, *(f"{key}={value}" for key, value in answers.items()))


def as_defaults_file(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    config = place / "defaults.yaml"
    config.write_text(json.dumps({"default_context": answers}), encoding="utf-8")
    return bake(template, place, "--config-file", str(config))


def as_replay_file(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    replay = place / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": {**DEFAULTS, **answers}}), encoding="utf-8")
    return bake(template, place, "--replay-file", str(replay), no_input=False)


def as_prompts(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    lines = [str(answers.get(key, "")) for key in QUESTIONS]
    return bake(template, place, stdin="\n".join(lines) + "\n", no_input=False)


def as_context_for_cruft(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    published, out = place / "published", place / "deep" / "out"
    release(published, template, "v1")
    surroundings(place / "own")
    before = set(place.rglob("*"))
    words = ["create", str(published), "--no-input", "--output-dir", str(out), "--extra-context", json.dumps(answers)]
    done = cruft(place / "own", *words)
    return Outcome(done.returncode, done.stdout + done.stderr, sorted(set(place.rglob("*")) - before))


def as_keys_with_private_variables(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    return as_keys(template, place, {**answers, "__checked": "yes", "_checked": "yes", "__prompts__": "{}"})


def as_replay_file_with_private_variables(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    return as_replay_file(template, place, {**answers, "__checked": "yes", "_template": "x", "_output_dir": "/"})


def as_context_for_cruft_with_private_variables(template: Path, place: Path, answers: Mapping[str, object]) -> Outcome:
    return as_context_for_cruft(template, place, {**answers, "__checked": "yes", "_commit": "x", "_output_dir": "/"})


WAYS_IN: dict[str, WayIn] = {
    "keys": as_keys,
    "defaults file": as_defaults_file,
    "replay file": as_replay_file,
    "prompts": as_prompts,
    "context for cruft": as_context_for_cruft,
    "keys with private variables": as_keys_with_private_variables,
    "replay file with private variables": as_replay_file_with_private_variables,
    "context for cruft with private variables": as_context_for_cruft_with_private_variables,
}
EVERY_WAY_IN = pytest.mark.parametrize("way_in", WAYS_IN.values(), ids=WAYS_IN)


@EVERY_WAY_IN
@pytest.mark.parametrize("slug", ["../../escaped/x", f'x");{RUN_CANARY};("', JINJA_CANARY, gate.ROOT_FOLDER])
def test_hostile_answers_are_refused_all_at_once_and_leave_nothing(
    template: Path, tmp_path: Path, way_in: WayIn, slug: str
) -> None:
    result = way_in(template, tmp_path, {"project_slug": slug, "organization": JINJA_CANARY})
    assert result.code == 1, result.said
    assert "The template refuses 2 answers; nothing was written." in result.said
    assert f"project_slug = {slug!a}"[:60] in result.said
    assert f"organization = {JINJA_CANARY!a}"[:60] in result.said
    assert "Traceback" not in result.said
    assert result.left == []


@EVERY_WAY_IN
def test_valid_answers_are_written_unchanged(template: Path, tmp_path: Path, way_in: WayIn) -> None:
    texts = dict(zip(("project_name", "project_description", "organization"), LEGAL_TEXTS.values(), strict=False))
    result = way_in(template, tmp_path, {**texts, "project_slug": "a1-b2"})
    assert result.code == 0, result.said
    repo = tmp_path / "deep" / "out" / "a1-b2"
    answers = json.loads((repo / ".answers.json").read_text(encoding="utf-8"))["cookiecutter"]
    assert answers == {**DEFAULTS, **texts, "project_slug": "a1-b2"}
    assert not list(tmp_path.rglob(CANARY))


@pytest.mark.long  # a sample of it, by the same readers, is in test_answer_properties.py
@pytest.mark.parametrize("text", LEGAL_TEXTS.values(), ids=LEGAL_TEXTS)
def test_every_file_with_answers_parses_and_has_them_unchanged(template: Path, tmp_path: Path, text: str) -> None:
    repo = generate(
        template,
        tmp_path / "out",
        {"project_name": text, "project_slug": "a1", "project_description": text, "organization": text},
    )
    service = tomllib.loads(repo.text("config/service.toml"))["service"]
    assert service == {"name": "a1", "description": text, "organization": text}
    project = tomllib.loads(repo.text("pyproject.toml"))["project"]
    assert (project["name"], project["description"], project["authors"]) == ("a1", text, [{"name": text}])
    for path in repo.files():
        if path.suffix == ".toml":
            tomllib.loads(repo.text(str(path)))
        elif path.suffix == ".json":
            read_json(repo.text(str(path)))
        elif path.suffix in {".yaml", ".yml"}:
            list(yaml.safe_load_all(repo.text(str(path))))
        elif path.suffix == ".py":
            compile(repo.text(str(path)), str(path), "exec")


def test_the_answers_file_generates_the_same_repo_again(template: Path, tmp_path: Path) -> None:
    first = generate(template, tmp_path / "first", {"organization": LEGAL_TEXTS["quotes"], "feature_store": "none"})
    answers = str(first.path / ".answers.json")
    replayed = cookiecutter(template, tmp_path / "replayed", "--replay-file", answers, no_input=False)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    release(tmp_path / "published", template, "v1")
    words = ["--no-input", "--extra-context-file", answers, "--output-dir", str(tmp_path / "crufted")]
    crufted = cruft(tmp_path / "own", "create", str(tmp_path / "published"), *words)
    assert crufted.returncode == 0, crufted.stdout + crufted.stderr
    (tmp_path / "crufted" / "diabetes-progression" / ".cruft.json").unlink()
    for folder in ("replayed", "crufted"):
        (again,) = (tmp_path / folder).iterdir()
        assert contents(again) == contents(first.path)


# The text of the refusal


INSTALLED = str(Path(sys.executable).parent)
SYSTEM = os.pathsep.join(
    folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder, "cookiecutter").exists()
)


@pytest.mark.parametrize(
    ("path", "program"),
    [
        (os.pathsep.join([INSTALLED, SYSTEM]), "cookiecutter "),
        (SYSTEM, f"{shlex.join([sys.executable, '-m', 'cookiecutter'])} "),  # like `.venv/bin/python -m cookiecutter`
    ],
    ids=["installed", "in an environment"],
)
def test_the_refusal_ends_with_a_command_that_works(
    template: Path, tmp_path: Path, path: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    hostile = {"project_slug": "Not A Slug", "project_description": "  too many\x07 bells ", "organization": "It's #1"}
    refused = as_keys(template, tmp_path, hostile)
    command = refused.said.strip().splitlines()[-1].strip()
    assert command.startswith(program)
    environment = os.environ | {"HOME": str(tmp_path / "deep" / "out.home")}
    shell = ["cmd", "/c"] if os.name == "nt" else ["sh", "-c"]
    again = run([*shell, command], cwd=tmp_path / "deep" / "out", environment=environment)
    assert again.returncode == 0, again.stdout + again.stderr
    answers = json.loads((tmp_path / "deep" / "out" / "not-a-slug" / ".answers.json").read_text(encoding="utf-8"))
    assert answers["cookiecutter"] == {
        **DEFAULTS,
        "project_slug": "not-a-slug",
        "project_description": "too many  bells",
        "organization": "It's #1",
    }


def test_a_refusal_under_cruft_ends_with_a_cruft_command(template: Path, tmp_path: Path) -> None:
    refused = as_context_for_cruft(template, tmp_path, {"project_slug": "Not A Slug", "organization": "It's #1"})
    command = shlex.split(refused.said.strip().splitlines()[-1])
    create = command.index("create")
    assert command[:create] in (["cruft"], [sys.executable, "-m", "cruft"])
    again = cruft(tmp_path / "own", *command[create:])
    assert again.returncode == 0, again.stdout + again.stderr
    answers = json.loads((tmp_path / "own" / "not-a-slug" / ".answers.json").read_text(encoding="utf-8"))
    assert answers["cookiecutter"] == {**DEFAULTS, "project_slug": "not-a-slug", "organization": "It's #1"}


def test_a_refused_value_is_shown_in_a_harmless_form(template: Path, tmp_path: Path) -> None:
    said = as_keys(template, tmp_path, {"organization": "\x1b[31mé" + "x" * 300}).said
    assert "organization = '\\x1b[31m\\xe9xxx" in said
    assert "... (3" in said
    assert "\x1b[31m" not in said.split("way out:")[0]


def test_variables_that_control_cookiecutter_are_refused_as_answers(template: Path, tmp_path: Path) -> None:
    result = as_replay_file(template, tmp_path, {"_copy_without_render": ["*"], "_new_lines": "\r\n", "team": "x"})
    assert result.code == 1
    assert "refuses 3 answers" in result.said
    assert "team = 'x'\n    rule:    this template asks no such question" in result.said
    assert result.left == []


def test_an_unknown_choice_is_refused_in_a_replay_file(template: Path, tmp_path: Path) -> None:
    result = as_replay_file(template, tmp_path, {"feature_store": "../sqlite", "python_version": 3.12})
    assert result.code == 1
    choices = ", ".join(CHOICES["feature_store"])
    assert f"feature_store = '../sqlite'\n    rule:    must be one of {choices}" in result.said
    assert "python_version = 3.12" in result.said
    assert result.left == []


# Input that no template can refuse. If Cookiecutter learns to, these fail and docs/answers.md must change.


def test_a_wrong_choice_as_a_key_ends_with_a_line_that_names_the_choices(template: Path, tmp_path: Path) -> None:
    result = as_keys(template, tmp_path, {"feature_store": "hopsworks"})
    assert result.code == 1
    last = result.said.strip().splitlines()[-1]
    assert [word for word in ("hopsworks", "feature_store", *CHOICES["feature_store"]) if word not in last] == []
    assert result.left == []


def test_a_wrong_choice_in_a_defaults_file_drops_all_after_it_with_a_warning(template: Path, tmp_path: Path) -> None:
    given = {"organization": "Kept", "feature_store": "hopsworks", "model_registry": "local"}
    result = as_defaults_file(template, tmp_path, given)
    assert "Invalid default received" in result.said
    answers = json.loads((tmp_path / "deep/out/diabetes-progression/.answers.json").read_text(encoding="utf-8"))
    assert answers["cookiecutter"] == {**DEFAULTS, "organization": "Kept"}


def test_an_unknown_key_is_ignored(template: Path, tmp_path: Path) -> None:
    result = as_keys(template, tmp_path, {"team": "x"})
    assert result.code == 0
    answers = json.loads((tmp_path / "deep/out/diabetes-progression/.answers.json").read_text(encoding="utf-8"))
    assert answers["cookiecutter"] == DEFAULTS


def test_a_replay_file_without_the_check_runs_no_answer(template: Path, tmp_path: Path) -> None:
    result = as_replay_file(template, tmp_path, {"_extensions": [], "organization": JINJA_CANARY})
    assert result.code == 1
    assert "No filter named" in result.said
    assert not list(tmp_path.rglob(CANARY))


def test_a_folder_may_have_template_syntax_in_its_name(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / JINJA_CANARY, {})
    assert repo.path.name == "diabetes-progression"
    assert (repo.path / "src" / "serving").is_dir()
    assert not list(tmp_path.rglob(CANARY))


# The rules


@pytest.mark.parametrize("slug", HOSTILE_SLUGS.values(), ids=HOSTILE_SLUGS)
def test_a_bad_slug_breaks_a_rule(slug: object) -> None:
    assert gate.slug_fault(slug)


@pytest.mark.parametrize("slug", ["ab", "a1", "fraud-score-2", "a" * 63, "jsons", "my-model"])
def test_a_good_slug_breaks_none(slug: str) -> None:
    assert gate.slug_fault(slug) is None


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_a_bad_text_breaks_a_rule(text: object) -> None:
    assert gate.text_fault(text)


@pytest.mark.parametrize("text", LEGAL_TEXTS.values(), ids=LEGAL_TEXTS)
def test_a_good_text_breaks_none(text: str) -> None:
    assert gate.text_fault(text) is None


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Diabetes Progression", "diabetes-progression"),
        ("3D Model", "d-model"),
        ("Crème brûlée", "creme-brulee"),
        ("Json", "json-service"),
        ("serving", "serving-service"),
        ("x", "x-service"),
        ("😀", "my-service"),
        ("a" * 62 + " b", "a" * 62),
    ],
)
def test_the_slug_comes_from_the_name(name: str, slug: str) -> None:
    assert gate.slug_of(name, slugify) == slug


@given(st.text() | st.text("{%#}-a1 \n", max_size=100) | st.from_regex(gate.SLUG, fullmatch=True))
def test_a_derived_slug_is_always_valid(text: str) -> None:
    assert gate.slug_fault(gate.slug_of(text, slugify)) is None


@given(st.text(max_size=300) | st.text("{%#} a\x00", max_size=300))
@example("{{{{ x }}}}")
@example(" " * 200 + "x")
def test_the_suggestion_for_a_bad_text_is_valid(text: str) -> None:
    offered = gate.clean(text)
    assert not offered or gate.text_fault(offered) is None


@pytest.mark.parametrize("first", [*range(0, 0x10000, 0x1000), 0x1F000], ids=hex)
def test_every_character_survives_quoting(first: int) -> None:
    text = "".join(chr(code) for code in range(first, first + 0x1000) if not 0xD800 <= code <= 0xDFFF)
    assert tomllib.loads(f"x = {gate.quoted(text)}")["x"] == text
    assert yaml.safe_load(f"x: {gate.quoted(text)}")["x"] == text
    assert json.loads(gate.quoted(text)) == text


# The questions


def test_every_default_is_accepted() -> None:
    assert gate.check(PROMPTS | DEFAULTS, slugify) == []


def test_questions_come_in_the_order_in_which_people_think() -> None:
    assert [question for group in ORDER.values() for question in group] == QUESTIONS


def test_there_are_few_questions() -> None:
    assert len(QUESTIONS) <= 14
