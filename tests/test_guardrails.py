"""The generated repo's five guards: silent on every repo, and each finds its mistake in whatever form it comes back."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.mistakes import HARMLESS, MISTAKES, Mistake
from tests.support import ROOT, Repo, every_pair

Generated = Callable[..., Repo]
Guards = Mapping[str, ModuleType]

PACKAGE = "tests.guardrails"
PINNED = f"MODEL_VERSION=local:diabetes-progression/1#sha256={'0123456789abcdef' * 4}\n"
LEAST = 3

EVERY_MISTAKE = [
    pytest.param(guard, mistake, id=f"{guard[len('test_')]} {mistake.name}")
    for guard, mistakes in MISTAKES.items()
    for mistake in mistakes
]


@pytest.fixture(scope="session")
def guards(generated: Generated, light: Path) -> Iterator[Guards]:
    """The guards of a generated repo, by module; there they are `tests.guardrails`, so here they take that name."""
    folder = light / "guards" / "guardrails"
    shutil.copytree(generated().path / "tests" / "guardrails", folder)
    spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py")
    assert spec is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    modules = sorted(path.stem for path in folder.glob("test_*.py"))
    yield {name: importlib.import_module(f"{PACKAGE}.{name}") for name in modules}
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def run_guard(guard: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the guard's test as the repo at `root` would."""
    monkeypatch.setattr(guard, "ROOT", root)
    (test,) = [value for name, value in vars(guard).items() if name.startswith("test_")]
    test()


def test_each_of_the_five_mistakes_has_a_guard(guards: Guards) -> None:
    assert list(guards) == list(MISTAKES)
    assert all(len(mistakes) >= LEAST for mistakes in MISTAKES.values())


@every_pair()
def test_all_guards_are_silent_on_every_pair_of_choices(
    guards: Guards, generated: Generated, choices: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for guard in guards.values():
        run_guard(guard, generated(**choices).path, monkeypatch)


def test_all_guards_are_silent_when_a_version_is_pinned(
    guards: Guards, generated: Generated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repo"
    shutil.copytree(generated().path, root)
    (root / "model.lock").write_text(PINNED, encoding="utf-8")
    for guard in guards.values():
        run_guard(guard, root, monkeypatch)


@pytest.fixture(scope="module")
def workshop(generated: Generated, light: Path) -> Callable[[Mistake], Path]:
    """Give a repo to put mistakes into: one for each store, so that guards read again only what a mistake changes."""
    copies: dict[str, Path] = {}

    def give(mistake: Mistake) -> Path:
        store = mistake.feature_store
        if store not in copies:
            copies[store] = light / f"workshop-{len(copies)}"
            shutil.copytree(generated(feature_store=store).path, copies[store])
        return copies[store]

    return give


@contextmanager
def made(mistake: Mistake, root: Path) -> Iterator[None]:
    """Put a mistake into a repo, and take it back."""
    path = root / mistake.file
    before = path.read_bytes() if path.exists() else None
    mistake.make(root)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@pytest.mark.parametrize(("name", "mistake"), EVERY_MISTAKE)
def test_a_mistake_that_comes_back_is_found(
    guards: Guards,
    workshop: Callable[[Mistake], Path],
    name: str,
    mistake: Mistake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = workshop(mistake)
    file = mistake.found_in or mistake.file
    with made(mistake, root):
        found = guards[name].violations(root)
        lines = (root / file).read_text(encoding="utf-8").splitlines()
    (telling, *_) = [violation for violation in found if violation.file == file and mistake.says in violation.what]
    assert 1 <= telling.line <= len(lines)
    monkeypatch.setattr(guards[name], "violations", lambda _: found)  # they take a while; once is enough
    with pytest.raises(AssertionError) as failure:
        run_guard(guards[name], root, monkeypatch)
    assert re.search(rf"{re.escape(file)}:{telling.line}: .*\n +why: .+\n +fix: .+", str(failure.value))


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.name)
def test_what_is_no_mistake_is_left_alone(
    guards: Guards, workshop: Callable[[Mistake], Path], change: Mistake, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workshop(change)
    with made(change, root):
        for guard in guards.values():
            run_guard(guard, root, monkeypatch)


def test_the_page_about_the_mistakes_names_every_guard_and_only_files_that_exist(generated: Generated) -> None:
    repo = generated()
    page = repo.text("docs/five-mistakes.md")
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert [link for link in links if not (repo.path / "docs" / link).exists()] == []
    assert {f"../tests/guardrails/{name}.py" for name in MISTAKES} <= set(links)
    assert (ROOT / "{{cookiecutter.project_slug}}" / "docs" / "five-mistakes.md").read_text(encoding="utf-8") == page
