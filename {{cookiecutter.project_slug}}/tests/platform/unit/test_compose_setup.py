"""The files that Compose needs and git lacks: created once, atomically, keeping what a user wrote."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml

from serving.offline import project
from tools.compose_setup import PROJECT, declared_secrets, prepare, remember, settings
from tools.process import SetupError

GENERATED = re.compile(r"tiny-[0-9a-f]{6}")


@pytest.fixture(autouse=True)
def nothing_chosen_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PROJECT, "SCALE", "GRPC_PORT", "METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)


def clone(root: Path, secrets: str = "") -> Path:
    """Create the few files of a repo that are read here."""
    (root / "config").mkdir(parents=True)
    (root / "config" / "service.toml").write_text('[service]\nname = "tiny"\n', encoding="utf-8")
    (root / "compose").mkdir()
    (root / "compose" / "slot.secrets").write_text(secrets, encoding="utf-8")
    return root


def test_two_clones_on_one_machine_get_two_names(folder: Path) -> None:
    first, second = clone(folder / "first"), clone(folder / "second")
    prepare(first)
    prepare(second)
    names = {settings(root)[PROJECT] for root in (first, second)}
    assert len(names) == 2
    assert all(GENERATED.fullmatch(name) for name in names)


def test_a_second_run_changes_nothing_and_prints_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = clone(folder / "repo", "password\n")
    prepare(root)
    before = [(path, path.read_bytes()) for path in (root / ".env", root / "secrets" / "password")]
    capsys.readouterr()
    prepare(root)
    assert [(path, path.read_bytes()) for path, _ in before] == before
    assert capsys.readouterr().out == ""


def test_a_moved_folder_gets_a_new_name_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = clone(folder / "before", "password\n")
    prepare(root)
    old = settings(root)[PROJECT]
    moved = root.rename(folder / "after")
    prepare(moved)
    new = settings(moved)[PROJECT]
    assert new != old
    assert GENERATED.fullmatch(new)
    said = capsys.readouterr().out
    assert f"its containers are now named {new}." in said
    assert f"docker compose --project-name {old} down" in said


@pytest.mark.parametrize("line", ["COMPOSE_PROJECT_NAME=fraud", 'export COMPOSE_PROJECT_NAME="tiny-staging"'])
def test_a_name_that_the_user_chose_stays(folder: Path, line: str) -> None:
    root = clone(folder / "repo")
    (root / ".env").write_text(f"{line}\n", encoding="utf-8")
    prepare(root)
    assert (root / ".env").read_text(encoding="utf-8") == f"{line}\n"
    assert settings(root)[PROJECT] in {"fraud", "tiny-staging"}


def test_the_environment_wins_over_the_file_as_in_compose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = clone(folder / "repo")
    prepare(root)
    monkeypatch.setenv(PROJECT, "production")
    assert settings(root)[PROJECT] == "production"


def test_a_remembered_value_replaces_only_its_own_line(folder: Path) -> None:
    (folder / ".env").write_text("# mine\nMLFLOW_PORT=5001\nSCALE=1\n", encoding="utf-8")
    remember(folder, {"SCALE": "2", "GRPC_PORT": "9001"})
    text = (folder / ".env").read_text(encoding="utf-8")
    assert text == "# mine\nMLFLOW_PORT=5001\nSCALE=2\nGRPC_PORT=9001\n"


def test_a_secret_is_generated_or_left_empty_for_the_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = clone(folder / "repo", "password\ntoken: your registry\n")
    prepare(root)
    made, given = root / "secrets" / "password", root / "secrets" / "token"
    assert len(made.read_text(encoding="utf-8")) >= 32
    assert given.read_text(encoding="utf-8") == ""
    assert "created secrets/token, empty: write the secret from your registry into it" in capsys.readouterr().out
    # Readable for the container's user, who does not exist here; the folder keeps other users out.
    assert stat.S_IMODE(made.stat().st_mode) == 0o444
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in made.parent.iterdir()) == ["password", "token"]


def test_a_file_that_can_not_be_written_is_named_in_one_sentence(folder: Path) -> None:
    root = clone(folder / "repo", "password\n")
    (root / "secrets").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(SetupError) as refusal:
        prepare(root)
    assert str(root / "secrets") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_broken_service_file_is_named_in_one_sentence(folder: Path) -> None:
    root = clone(folder / "repo")
    (root / "config" / "service.toml").write_text("name = tiny", encoding="utf-8")
    with pytest.raises(SetupError, match=r"service\.toml: must have a table \[service\] with a name"):
        prepare(root)


def test_the_declared_secrets_are_those_of_the_compose_files() -> None:
    used = {
        Path(secret["file"])
        for path in (project.ROOT / "compose").glob("*.yaml")
        for secret in yaml.safe_load(path.read_text(encoding="utf-8")).get("secrets", {}).values()
    }
    # The folder is of compose/tls.yaml, which no stack has by itself: `make certificates` or its user fills it.
    assert used == {Path("secrets", name) for name, _ in declared_secrets(project.ROOT)} | {Path("secrets", "tls")}
