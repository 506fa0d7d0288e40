"""The command that changes the code of generated repos: what it changes, and what it says about the result."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import AXES, CHOICES, Repo, tracked
from tools import mutation
from tools.mutation import Mutant, path_in_repo, report

SETTINGS = tomllib.loads(mutation.SETTINGS.read_text(encoding="utf-8"))
KILLED = Mutant("serving.online.budget.x_share__mutmut_1", "killed", "", "")
SURVIVED = Mutant("serving.online.slots.xǁSlotsǁtake__mutmut_2", "survived", "if a:", "if not a:")
UNREACHED = Mutant("serving.online.slots.x__turn__mutmut_1", "no tests", "a = 1", "a = None")


@pytest.fixture
def plain_repo(generated: Callable[..., Repo]) -> Repo:
    return generated()


def test_a_mutant_names_its_function() -> None:
    names = [mutant.function for mutant in (KILLED, SURVIVED, UNREACHED)]
    assert names == ["serving.online.budget.share", "serving.online.slots.Slots.take", "serving.online.slots._turn"]


def test_what_no_test_notices_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([KILLED, SURVIVED, UNREACHED], []) == 1
    printed = capsys.readouterr().out
    assert "serving.online.slots.Slots.take (survived)\n  - if a:\n  + if not a:" in printed
    assert "serving.online.slots._turn (no tests)" in printed
    assert "    1 of     1  serving.online.budget\n    0 of     2  serving.online.slots\n" in printed
    assert "noticed: 1 of 3 (33.3%), unnoticed and listed: 0, unnoticed and not listed: 2" in printed


def test_what_is_listed_may_stay_unnoticed() -> None:
    listed: list[dict[str, Any]] = [
        {"function": "serving.online.slots.Slots.take", "after": ["if not a:"], "reason": "the same"},
        {"function": "serving.online.slots._turn", "after": ["a = 2"], "reason": "another change"},
    ]
    assert report([KILLED, SURVIVED], listed) == 0
    assert report([KILLED, SURVIVED, UNREACHED], listed) == 1
    listed.append({"function": "serving.online.*", "like": "= None$", "reason": "any function, by a pattern"})
    assert report([KILLED, SURVIVED, UNREACHED], listed) == 0


def test_every_listed_change_has_a_reason() -> None:
    listed = SETTINGS.get("unnoticed", [])
    forms = ({"function", "after", "reason"}, {"function", "like", "reason"})
    assert [entry for entry in listed if set(entry) not in forms] == []
    assert [entry["function"] for entry in listed if len(entry["reason"].split()) < 3] == []


def test_every_choice_is_in_one_of_the_repos() -> None:
    for axis in AXES:
        assert {answers[axis] for answers in mutation.covering()} == set(CHOICES[axis])


def test_what_is_left_out_exists_in_a_repo() -> None:
    tests = {path_of(path) for path in tracked() if path.parts[0] == ROOT_FOLDER}
    assert [left for left in SETTINGS["tests"]["left_out"] if not any(test.startswith(left) for test in tests)] == []


def path_of(path: Path) -> str:
    return Path(*path.parts[4 if path.parts[1] == "_variants" else 1 :]).as_posix()


@pytest.mark.parametrize(
    ("changed", "inside"),
    [
        ("src/serving/online/slots.py", "src/serving/online/slots.py"),
        ("_variants/runtime/onnx/src/serving/adapters/runtime/onnx.py", "src/serving/adapters/runtime/onnx.py"),
        ("tests/platform/unit/test_slots.py", None),
        ("src/serving/online/py.typed", None),
    ],
)
def test_a_changed_file_is_found_in_the_repo(changed: str, inside: str | None) -> None:
    assert path_in_repo(Path(ROOT_FOLDER, changed)) == inside


def test_an_unknown_commit_is_refused_in_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^error: --changed nowhere: .*; name a commit that this clone has\.$"):
        mutation.changed_since("nowhere")


def test_without_a_changed_file_nothing_is_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutation, "changed_since", lambda _commit: [])
    assert mutation.main(["--changed", "HEAD"]) == 0
    assert capsys.readouterr().out == "no file of the mutated code changed\n"


def test_mutmut_gets_the_settings_of_a_repo(plain_repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes((plain_repo.path / "pyproject.toml").read_bytes())
    (tmp_path / "model").mkdir()
    (tmp_path / "src").mkdir()
    mutation.configure(tmp_path, SETTINGS, ["src/serving/online/slots.py"])
    written = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    assert written["only_mutate"] == ["src/serving/online/slots.py"]
    assert written["also_copy"] == ["model", "pyproject.toml"]
    assert written["track_dependencies"] is False


def test_only_the_code_of_the_server_is_changed(plain_repo: Repo) -> None:
    files = mutation.sources(plain_repo.path, SETTINGS)
    assert "src/serving/online/grpc/codec.py" in files
    assert "src/serving/adapters/feature_store/sqlite.py" in files
    assert [path for path in files if "_pb2" in path or path.startswith("src/serving/domain")] == []
