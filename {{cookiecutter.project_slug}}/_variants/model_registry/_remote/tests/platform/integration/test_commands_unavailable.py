"""Without a usable server every command ends in time with one sentence, shows no secret and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from serving.domain.artifacts import artifact_folder, open_artifact
from serving.domain.references import Reference, write_lock
from serving.offline import model_version, project
from tests.platform.support.artifacts import tiny
from tests.platform.support.registry_address import CANARY, SCHEME, garble, point_to
from tests.platform.support.troubled_server import PAGE, answering, no_listener, silent

SILENT, GARBLED = "never answers", "gets a garbled token"
TROUBLES: Mapping[str, Callable[[], AbstractContextManager[int]]] = {
    SILENT: silent,
    "is not there": no_listener,
    "is a page": lambda: answering(200, PAGE),
    "is overloaded": lambda: answering(503, b"{}"),
    "takes no such token": lambda: answering(401, b"{}"),
    GARBLED: lambda: answering(401, b"{}"),
}
VERSION = f"{SCHEME}:tiny/1"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "register": ("register", "source", "DIGEST", "--to", SCHEME),
    "list": ("list", "tiny", "--scheme", SCHEME),
    "show": ("show", VERSION),
    "resolve": ("resolve", VERSION),
    "verify": ("verify", f"{VERSION}#DIGEST"),
    "promote": ("promote", VERSION),
    "rollback": ("rollback", "tiny", "--scheme", SCHEME),
    "fetch": ("fetch", f"{VERSION}#DIGEST"),
    "copy from it": ("copy", VERSION, "local"),
    "copy to it": ("copy", "local:tiny/1", SCHEME),
}
OTHERS = [trouble for trouble in TROUBLES if trouble != SILENT]
CASES = [(name, trouble) for number, name in enumerate(COMMANDS) for trouble in (SILENT, OTHERS[number % len(OTHERS)])]
"""Silence for each command, each other trouble for two of them: what reports it is the same for all."""


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command, which must fail and change nothing, and returns its message."""
    digest = tiny().write(folder / "source")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(project, "LOCK", folder / "model.lock")
    write_lock(project.LOCK, Reference(SCHEME, "tiny", "1", digest))
    places = ["--registry", str(folder / "registry")]
    with pytest.raises(SystemExit):
        project.run(lambda: model_version.main([*places, "register", "source", digest, "--to", "local"]))
    before = tree(folder)
    capsys.readouterr()

    def run(*words: str, timeout: str) -> str:
        asked = [word.replace("DIGEST", digest) for word in words]
        deadlines = ["--timeout", timeout, "--transfer-timeout", timeout]
        with pytest.raises(SystemExit) as ended:
            project.run(
                lambda: model_version.main([*places, *deadlines, *asked, "--artifacts", str(folder / "artifacts")])
            )
        assert ended.value.code == 1
        assert tree(folder) == before
        if fetched := [*folder.glob("artifacts/*")]:  # complete or absent
            assert fetched == [artifact_folder(folder / "artifacts", digest)]
            open_artifact(*fetched, digest)
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return run


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files except verified artifacts."""
    files = [path for path in folder.rglob("*") if path.is_file() and folder / "artifacts" not in path.parents]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("name", "trouble"), CASES)
def test_a_command_reports_an_unusable_server_in_one_sentence(
    name: str, trouble: str, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TROUBLES[trouble]() as port:
        point_to(port, monkeypatch)
        if trouble == GARBLED:
            garble(monkeypatch)
        said = command(*COMMANDS[name], timeout="0.3" if trouble == SILENT else "20")
        is_reported_once(said, "" if trouble == GARBLED else f"127.0.0.1:{port}")


def is_reported_once(said: str, where: str) -> None:
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert where in said
    assert CANARY not in said
    assert "Traceback" not in said
