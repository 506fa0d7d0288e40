"""A SavedModel in an artifact, unpacked where TensorFlow Serving looks for versions."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from serving.adapters.runtime.tensorflow_serving.saved_model import pack, unpack
from serving.adapters.runtime.tensorflow_serving.settings import CONFIG, address
from serving.domain.errors import ArtifactError, SettingsError
from serving.offline.fetch_saved_model import keep_newest


@pytest.fixture
def saved(folder: Path) -> Path:
    place = folder / "saved"
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"graph")
    (place / "variables" / "variables.index").write_bytes(b"index")
    (place / "fingerprint.pb").write_bytes(os.urandom(8))
    return place


def test_what_is_packed_is_unpacked_without_what_is_random(saved: Path, folder: Path) -> None:
    content = pack(saved)
    (saved / "fingerprint.pb").write_bytes(os.urandom(8))
    os.utime(saved / "saved_model.pb", (1, 1))
    assert pack(saved) == content
    unpack(content, folder / "models" / "digits" / "7")
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in (folder / "models").rglob("*") if p.is_file()}
    assert files == {
        "models/digits/7/saved_model.pb": b"graph",
        "models/digits/7/variables/variables.index": b"index",
    }


def test_a_version_that_is_there_is_left_alone(saved: Path, folder: Path) -> None:
    target = folder / "models" / "7"
    target.mkdir(parents=True)
    unpack(pack(saved), target)
    assert not list(target.iterdir())


def tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as packed:
        first, entry = tarfile.TarInfo("saved_model.pb"), tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        packed.addfile(first)
        packed.addfile(entry)
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        tar("../escaped"),
        tar("/escaped"),
        tar("variables/../../escaped"),
        tar("link", tarfile.SYMTYPE),
        tar("link", tarfile.LNKTYPE),
        tar("pipe", tarfile.FIFOTYPE),
        b"nothing of a tar",
    ],
)
def test_what_leads_out_of_the_folder_is_refused_and_nothing_is_written(folder: Path, content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.savedmodel: "):
        unpack(content, folder / "models" / "7")
    assert not list((folder / "models").iterdir())


def test_the_pinned_version_and_the_one_before_stay(folder: Path) -> None:
    for age, name in enumerate(["3", "9", "1", "5"]):
        (folder / name).mkdir()
        os.utime(folder / name, (age, age))
    keep_newest(folder / "9")  # pinned again
    assert sorted(path.name for path in folder.iterdir()) == ["5", "9"]


def test_the_version_of_a_running_server_stays_however_often_another_was_pinned_since(folder: Path) -> None:
    for name in ("7", "8", "9"):  # 7 is served, the deployments of 8 and 9 have failed
        (folder / name).mkdir()
        keep_newest(folder / name, [7])
    assert sorted(path.name for path in folder.iterdir()) == ["7", "8", "9"]
    keep_newest(folder / "9")
    assert (folder / "9").exists()
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("url", "answer"), [("grpc://tensorflow-serving:8500", "tensorflow-serving:8500"), ("development:", "")]
)
def test_the_environment_says_where_it_runs(monkeypatch: pytest.MonkeyPatch, url: str, answer: str) -> None:
    monkeypatch.setenv("SERVING_RUNTIME_URL", url)
    assert address() == answer


@pytest.mark.parametrize("url", ["tensorflow-serving:8500", "http://tensorflow-serving:8501", "grpc://host", "x"])
def test_a_wrong_url_is_refused_with_its_form(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SERVING_RUNTIME_URL", url)
    with pytest.raises(SettingsError, match=r"must be grpc://<host>:<port>"):
        address()


def test_without_a_url_the_setting_to_restore_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVING_RUNTIME_URL", raising=False)
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError, match=f"{CONFIG}: must have `url`"):
        address()
