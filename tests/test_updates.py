"""A repo follows its template: an update brings the changes of a release and keeps the user's files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tarfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from local_extensions import ROOT_FOLDER
from tests.releases import commit, contents, cruft, differing, git, release, surroundings
from tests.support import CHOICES, ROOT, SAMPLE, Repo, combination_id, run

Tree = dict[str, bytes]
Fresh = Callable[[Mapping[str, str]], Tree]

# Each choice once; all but the default in the long tests only.
EVERY = pytest.mark.parametrize(
    "choices",
    [
        pytest.param(choices, id=combination_id(choices), marks=pytest.mark.long if number else [])
        for number, choices in enumerate(SAMPLE)
    ],
)
BEFORE, PRESENT = "v0", "v1"
MARK = b"# as it was in the release before\n"
ADAPTER = "src/serving/adapters/feature_store/redis.py"
TELEMETRY = "src/serving/online/telemetry.py"
TRAIN_LOCK = "requirements/train.txt"
UNTOUCHED = "model/estimator.py"  # the present changes it and the user does not, but it is still the user's

# The user's work between two releases: in their own files, and at the end of two platform files.
THEIR_FILES: Tree = {
    "model/data.py": b"# all mine\n",
    "model/extra.py": b"# mine too\n",
    "model.lock": b"local:mine/1#sha256=0\n",
    "config/service.toml": b"# my service\n",
    "tests/model/test_mine.py": b"def test_mine() -> None:\n    assert True\n",
    "notebooks/mine.md": b"# Mine\n",
}
THEIR_LINES: Tree = {
    TELEMETRY: b"\n# A line of mine, at the end.\n",
    TRAIN_LOCK: b"zzz-mine==1.0 \\\n    --hash=sha256:" + b"0" * 64 + b"\n",
}


def taken_back(template: Path) -> dict[str, dict[str, bytes | None]]:
    """Return the changes of the present by kind: each file's earlier text, or None if there was none."""
    base = f"{ROOT_FOLDER}/"
    redis = f"{base}_variants/feature_store/redis/"
    example = f"{base}_variants/runtime/_diabetes/"

    def older(path: str) -> bytes:
        return MARK + (template / path).read_bytes()

    def without(path: str, *patterns: str) -> bytes:
        text = (template / path).read_text(encoding="utf-8")
        for pattern in patterns:
            text, count = re.subn(pattern, "", text, flags=re.MULTILINE)
            assert count, f"{path} has no {pattern}"
        return text.encode()

    def other_pin(path: str) -> bytes:
        return re.sub(rb"==[\w.]+", b"==0.0.1", (template / path).read_bytes(), count=1)

    def unasked(path: str) -> bytes:
        return (
            (template / path).read_bytes().replace(b"{{ cookiecutter.organization | toml }}", b'"Example Organization"')
        )

    return {
        "file added": {f"{base}docs/five-mistakes.md": None},
        "file added to an overlay": {redis + ADAPTER: None},
        "file removed": {f"{base}docs/outdated.md": MARK},
        "file removed from an overlay": {f"{redis}docs/outdated-too.md": MARK},
        "file changed": {base + TELEMETRY: older(base + TELEMETRY)},
        "file of an overlay changed": {
            redis + ADAPTER: older(redis + ADAPTER),
        },
        "file renamed": {
            f"{base}client/serving_client/deadline.py": None,
            f"{base}client/serving_client/time_left.py": (
                template / ROOT_FOLDER / "client" / "serving_client" / "deadline.py"
            ).read_bytes(),
        },
        "lock": {base + TRAIN_LOCK: other_pin(base + TRAIN_LOCK)},
        "lock of an overlay": {
            f"{redis}requirements/feature_store.txt": other_pin(f"{redis}requirements/feature_store.txt")
        },
        # The check of the earlier release knows neither the question nor the filter.
        "question added": {
            "cookiecutter.json": without(
                "cookiecutter.json", '^ *"organization": "Example Organization",\n', '^ *"organization": "Which .*\n'
            ),
            f"{base}pyproject.toml": unasked(f"{base}pyproject.toml"),
            f"{base}config/service.toml": unasked(f"{base}config/service.toml"),
        },
        "filter added": {
            "local_extensions.py": without("local_extensions.py", "^ *markdown=markdown,\n"),
            f"{base}README.md": without(f"{base}README.md", r" \| markdown"),
        },
        "file of the user's changed": {
            example + path: older(example + path) for path in (UNTOUCHED, "model/data.py", "model/features.py")
        },
    }


def tree_with(template: Path, folder: Path, files: Mapping[str, bytes | None]) -> Path:
    """Copy the template to a new folder, with these files added and those that are None removed."""
    tree: Mapping[str, bytes | None] = contents(template) | dict(files)
    for path, content in tree.items():
        if content is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return folder


def archive(tag: str, folder: Path) -> Path:
    """Write the tree of a published release of the template to a new folder."""
    packed = folder.with_suffix(".tar")
    git(ROOT, "archive", "--output", str(packed), tag)
    with tarfile.open(packed) as tree:
        tree.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Template:
    """The published template: a git repo with a tag for each release."""

    path: Path
    place: Path

    def create(self, folder: Path, choices: Mapping[str, str], tag: str) -> Repo:
        """Create a repo of a release in a new folder, and commit it."""
        # By question too: several have the answer `none`.
        made = self.place / "made" / "-".join([tag, *(f"{question}={choice}" for question, choice in choices.items())])
        if not made.exists():
            words = ["--no-input", "--checkout", tag, "--output-dir", str(made), "--extra-context", json.dumps(choices)]
            done = cruft(self.place, "create", str(self.path), *words)
            assert done.returncode == 0, done.stdout + done.stderr
            commit(next(made.iterdir()), "Generate the repo")
        shutil.copytree(made, folder)
        (path,) = folder.iterdir()
        return Repo(path)

    def cruft(self, repo: Repo, *words: str) -> str:
        """Run cruft in a repo; it must succeed. Return its output."""
        done = cruft(self.place, *words, cwd=repo.path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def update(self, repo: Repo, *words: str, tag: str = PRESENT) -> str:
        """Update a repo to a release."""
        return self.cruft(repo, "update", "--skip-apply-ask", "--checkout", tag, *words)


@pytest.fixture(scope="module")
def published(template: Path, light: Path) -> Template:
    """The present, and an earlier release made by these tests."""
    place = light / "published"
    place.mkdir()
    files = {path: content for change in taken_back(template).values() for path, content in change.items()}
    release(place / "template", tree_with(template, place / "before", files), BEFORE)
    release(place / "template", template, PRESENT)
    return Template(place / "template", place)


@pytest.fixture
def fresh(published: Template, tmp_path: Path) -> Fresh:
    """Return the files of a fresh repo of the present."""
    return lambda choices: contents(published.create(tmp_path / "fresh", choices, PRESENT).path)


def owned(repo: Repo) -> Callable[[str], bool]:
    """Return a function that returns whether the repo declares a path as the user's."""
    skipped = tomllib.loads(repo.text("pyproject.toml"))["tool"]["cruft"]["skip"]
    return lambda path: any(path == entry or path.startswith(f"{entry}/") for entry in skipped)


def work(repo: Repo) -> None:
    """Change a repo as its users do, and commit."""
    for path, content in THEIR_FILES.items():
        (repo.path / path).parent.mkdir(parents=True, exist_ok=True)
        (repo.path / path).write_bytes(content)
    for path, line in THEIR_LINES.items():
        (repo.path / path).write_bytes((repo.path / path).read_bytes() + line)
    commit(repo.path, "Work")


def with_their_work(tree: Tree, before: Tree, is_theirs: Callable[[str], bool]) -> Tree:
    """Return the expected files after an update: the fresh tree with the user's earlier files."""
    platform = {path: content + THEIR_LINES.get(path, b"") for path, content in tree.items() if not is_theirs(path)}
    return platform | {path: content for path, content in before.items() if is_theirs(path) or path in THEIR_FILES}


def follows(published: Template, repo: Repo, tree: Tree) -> None:
    """Work in a repo of an older release, update it, and find both the changes and the work."""
    work(repo)
    before = contents(repo.path)
    published.update(repo)
    after = contents(repo.path)
    assert differing(after, with_their_work(tree, before, owned(repo))) == set()
    assert {path: after[path] for path in THEIR_FILES} == THEIR_FILES
    assert after[UNTOUCHED] == before[UNTOUCHED]


@EVERY
def test_an_update_brings_every_change_and_keeps_the_files_of_the_user(
    published: Template, fresh: Fresh, tmp_path: Path, choices: dict[str, str]
) -> None:
    follows(published, published.create(tmp_path / "out", choices, BEFORE), fresh(choices))


def test_each_kind_of_change_shows_in_a_repo_so_one_that_is_missed_is_seen(
    published: Template, fresh: Fresh, template: Path, tmp_path: Path
) -> None:
    choices = SAMPLE[0] | {"project_name": "A_name_to_quote"}
    seen = differing(contents(published.create(tmp_path / "out", choices, BEFORE).path), fresh(choices))
    for kind, files in taken_back(template).items():
        assert seen.intersection(map(in_a_repo, files)), kind


def in_a_repo(path: str) -> str:
    """Return where a repo shows a file of the template: a question in its answers, the code of the gate nowhere."""
    if path == "cookiecutter.json":
        return ".answers.json"
    return re.sub(rf"^{re.escape(ROOT_FOLDER)}/(_variants/\w+/[\w-]+/)?", "", path)


def test_an_update_works_from_every_release(template: Path, tmp_path: Path) -> None:
    for tag in git(ROOT, "tag", "--list", "v*").split():
        place = tmp_path / tag
        surroundings(place)
        release(place / "template", archive(tag, place / "tree"), BEFORE)
        release(place / "template", template, PRESENT)
        published = Template(place / "template", place)
        tree = contents(published.create(place / "fresh", {}, PRESENT).path)
        follows(published, published.create(place / "out", {}, BEFORE), tree)


# Answers that change


BOTH_AXES = pytest.param(
    BEFORE,
    {"feature_store": "redis", "model_registry": "local"},
    {"feature_store": "sqlite", "model_registry": "mlflow"},
    id="both axes, together with a release",
    marks=pytest.mark.long,
)
# In a circle, so that each choice is added at least once and removed at least once.
SWAPS = list(zip(SAMPLE, [*SAMPLE[1:], SAMPLE[0]], strict=True))
EACH_SWAP = [
    pytest.param(PRESENT, before, after, id=f"to {combination_id(after)}", marks=pytest.mark.long)
    for before, after in SWAPS
]


def test_each_choice_is_added_and_removed() -> None:
    for question, choices in CHOICES.items():
        swaps = [(before[question], after[question]) for before, after in SWAPS if before[question] != after[question]]
        for changed in zip(*swaps, strict=True):
            assert set(changed) == set(choices), question


@pytest.mark.parametrize(("tag", "before", "answers"), [BOTH_AXES, *EACH_SWAP])
def test_another_answer_swaps_an_overlay(
    published: Template,
    fresh: Fresh,
    tmp_path: Path,
    tag: str,
    before: dict[str, str],
    answers: dict[str, str],
) -> None:
    repo = published.create(tmp_path / "out", before, tag)
    work(repo)
    worked = contents(repo.path)
    published.update(repo, "--variables-to-update", json.dumps(answers))
    expected = with_their_work(fresh({**before, **answers}), worked, owned(repo))
    assert differing(contents(repo.path), expected) == set()


def test_a_refused_answer_changes_nothing_and_ends_with_a_command_that_works(
    published: Template, tmp_path: Path
) -> None:
    repo = published.create(tmp_path / "out", {}, PRESENT)
    before = contents(repo.path)
    hostile = json.dumps({"organization": "{{ 7 * 7 }}", "project_slug": "../escaped"})
    done = cruft(published.place, "update", "-y", "--variables-to-update", hostile, cwd=repo.path)
    assert done.returncode == 1
    assert "The template refuses 2 answers; nothing was written." in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(repo.path) == before
    command = shlex.split(done.stderr.strip().splitlines()[-1])
    begin = command.index("cruft")  # on PATH, or a module of the interpreter before it
    assert command[begin + 1 : begin + 3] == ["update", "--variables-to-update"]
    published.cruft(repo, *command[begin + 1 :], "-y")
    answers = json.loads(repo.text(".answers.json"))
    assert (answers["organization"], answers["project_slug"]) == ("{ 7 * 7 }}", "escaped")


# Cases that need the user


def test_a_conflict_shows_both_changes_between_markers_and_the_rest_is_updated(
    published: Template, fresh: Fresh, tmp_path: Path
) -> None:
    repo = published.create(tmp_path / "out", SAMPLE[0], BEFORE)
    (repo.path / TELEMETRY).write_bytes(repo.text(TELEMETRY).encode().replace(MARK, b"# MINE\n"))
    (repo.path / "docs" / "five-mistakes.md").write_text("MINE\n", encoding="utf-8")  # the present adds it
    commit(repo.path, "Work")
    published.update(repo)
    conflicts = git(repo.path, "diff", "--name-only", "--diff-filter=U").split()
    assert conflicts == ["docs/five-mistakes.md", TELEMETRY]
    for path in conflicts:
        assert re.match("(?s)<<<<<<<.*MINE.*=======.*>>>>>>>", repo.text(path))
    hooks = yaml.safe_load(repo.text(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    (options,) = [hook["entry"].split()[1:] for hook in hooks if hook["id"] == "check-merge-conflict"]
    guard = [sys.executable, "-m", "pre_commit_hooks.check_merge_conflict", *options]
    assert run([*guard, *conflicts], cwd=repo.path).returncode == 1
    assert run([*guard, "README.md"], cwd=repo.path).returncode == 0
    is_theirs = owned(repo)
    late = {path for path in differing(contents(repo.path), fresh(SAMPLE[0])) if not is_theirs(path)}
    assert late == set(conflicts)


@pytest.mark.parametrize("staged", [False, True], ids=["changed", "staged"])
def test_an_update_of_a_repo_that_is_not_committed_is_refused_and_changes_nothing(
    published: Template, tmp_path: Path, staged: bool
) -> None:
    repo = published.create(tmp_path / "out", {}, BEFORE)
    (repo.path / "Makefile").write_text("mine\n", encoding="utf-8")
    if staged:
        git(repo.path, "add", "--all")
    before = contents(repo.path)
    done = cruft(published.place, "update", "--skip-apply-ask", cwd=repo.path)
    assert done.returncode == 1
    assert "clean before proceeding" in done.stdout
    assert contents(repo.path) == before


# Output of the other commands


def test_check_fails_if_a_newer_release_exists_and_passes_after_the_update(published: Template, tmp_path: Path) -> None:
    repo = published.create(tmp_path / "out", {}, BEFORE)
    late = cruft(published.place, "check", "--checkout", PRESENT, cwd=repo.path)
    assert (late.returncode, "out of date" in late.stdout) == (1, True)
    published.update(repo)
    published.cruft(repo, "check", "--checkout", PRESENT)


@EVERY
def test_diff_is_empty_in_a_new_repo(published: Template, tmp_path: Path, choices: dict[str, str]) -> None:
    repo = published.create(tmp_path / "out", choices, PRESENT)
    done = cruft(published.place, "diff", "--exit-code", cwd=repo.path)
    assert (done.returncode, done.stdout) == (0, "")


def test_diff_shows_only_platform_files_that_the_user_changed(published: Template, tmp_path: Path) -> None:
    repo = published.create(tmp_path / "out", {}, PRESENT)
    work(repo)
    done = cruft(published.place, "diff", "--exit-code", cwd=repo.path)
    assert done.returncode == 1
    assert set(re.findall(r"^\+\+\+ \S+?/(\S+)$", done.stdout, re.MULTILINE)) == set(THEIR_LINES)


def test_a_repo_made_by_cookiecutter_can_be_linked_and_updated(
    published: Template, fresh: Fresh, tmp_path: Path
) -> None:
    made = published.create(tmp_path / "out", SAMPLE[0], BEFORE)
    linked = contents(made.path)[".cruft.json"]
    (made.path / ".cruft.json").unlink()
    words = ["--checkout", BEFORE, "--no-input", "--extra-context", made.text(".answers.json")]
    published.cruft(made, "link", str(published.path), *words)
    assert contents(made.path)[".cruft.json"] == linked
    commit(made.path, "Link the repo to its template")
    follows(published, made, fresh(SAMPLE[0]))


# Ownership of files


@EVERY
def test_a_repo_made_by_cruft_differs_only_by_the_file_of_cruft(
    fresh: Fresh, generated: Callable[..., Repo], choices: dict[str, str]
) -> None:
    assert differing(fresh(choices), contents(generated(**choices).path)) == {".cruft.json"}


def test_git_knows_every_generated_file(published: Template, tmp_path: Path) -> None:
    # Cruft takes a file missing from a clone for one that the user removed.
    repo = published.create(tmp_path / "out", {}, PRESENT)
    assert set(git(repo.path, "ls-files").splitlines()) == set(contents(repo.path))


def test_the_files_of_the_user_exist_or_are_optional_and_a_page_lists_them(generated: Callable[..., Repo]) -> None:
    repo = generated()
    skipped = tomllib.loads(repo.text("pyproject.toml"))["tool"]["cruft"]["skip"]
    assert {entry for entry in skipped if not (repo.path / entry).exists()} == {"model.lineage.json"}
    row = re.findall(r"^\| yours \| (.*?) \|", repo.text("docs/updating.md"), re.MULTILINE)[0]
    assert [name.rstrip("/") for name in re.findall("`([^`]+)`", row)] == skipped
