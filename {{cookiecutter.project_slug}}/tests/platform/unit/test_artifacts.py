from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.domain import artifacts
from serving.domain.artifacts import artifact_folder, copy_artifact, install_artifact, open_artifact
from serving.domain.errors import ArtifactError
from serving.domain.lineage import LINEAGE, Lineage
from tests.platform.support.artifacts import rich, tiny

FLIPS = 1000
FILES = ("golden.json", "manifest.json", "model.onnx")


@pytest.fixture
def written(folder: Path) -> tuple[Path, str]:
    """Write the tiny artifact; return its folder and digest."""
    return folder / "artifact", tiny().write(folder / "artifact")


def from_folder(source: Path, digest: str) -> Callable[[Path], None]:
    """Return a function that copies an artifact into another folder."""
    return lambda target: copy_artifact(source, target, digest)


def rewritten(path: Path, change: Callable[[dict[str, object]], object]) -> str:
    """Change a manifest and return its new digest, as an attacker who controls both could."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    change(manifest)
    content = json.dumps(manifest).encode()
    (path / "manifest.json").write_bytes(content)
    return f"sha256={hashlib.sha256(content).hexdigest()}"


def test_an_artifact_is_opened_as_it_was_written(written: tuple[Path, str]) -> None:
    path, digest = written
    model, artifact = tiny(), open_artifact(path, digest)
    assert artifact.model == model.onnx
    assert artifact.golden == model.golden
    assert replace(artifact.manifest, files={}) == model.manifest
    assert artifact.lineage == model.lineage
    assert sorted(entry.name for entry in path.iterdir()) == [*FILES, LINEAGE]


def test_equal_content_has_an_equal_digest(folder: Path) -> None:
    assert tiny().write(folder / "one") == tiny().write(folder / "two")
    assert tiny("other").write(folder / "three") != tiny().write(folder / "four")


def test_the_digest_does_not_depend_on_the_lineage(folder: Path) -> None:
    lineage = Lineage("Other words", "another commit", "2026-01-01T00:00:00+00:00", machine={"CPU": "another"})
    assert replace(tiny(), lineage=lineage).write(folder / "one") == tiny().write(folder / "two")


def no_file(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [no_file, a_folder, without_end, *map(holding, (b"", b"{", b"[]", b"\xff", b'{"git_commit": 1}', b"[" * 10_000))],
)
def test_a_model_with_an_unreadable_lineage_is_opened_with_unknown_lineage(
    written: tuple[Path, str], folder: Path, change: Callable[[Path], object]
) -> None:
    path, digest = written
    change(path / LINEAGE)
    artifact = open_artifact(path, digest)
    assert artifact.lineage == Lineage()
    assert artifact.model == tiny().onnx
    copied = install_artifact(folder / "root", digest, from_folder(path, digest))
    assert sorted(entry.name for entry in copied.iterdir()) == list(FILES)


def test_a_lineage_that_is_a_link_is_not_followed(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    (path / LINEAGE).rename(folder / "elsewhere")
    (path / LINEAGE).symlink_to(folder / "elsewhere")
    assert open_artifact(path, digest).lineage == Lineage()


def test_known_fields_are_read_from_a_lineage_of_a_later_release(written: tuple[Path, str]) -> None:
    path, digest = written
    (path / LINEAGE).write_text('{"git_commit": "abc", "carbon": 7}', encoding="utf-8")
    assert open_artifact(path, digest).lineage == Lineage(git_commit="abc")


@pytest.mark.parametrize("version", [1, 3])
def test_a_manifest_of_another_schema_is_refused_with_both_versions(written: tuple[Path, str], version: int) -> None:
    path, _ = written
    digest = rewritten(path, lambda manifest: manifest.update(schema_version=version))
    with pytest.raises(ArtifactError, match=f"schema_version is {version}, this release reads 2; train it again"):
        open_artifact(path, digest)


def test_golden_rows_become_tensors_of_the_declared_types(folder: Path) -> None:
    artifact = rich().opened(folder / "artifact")
    for feature in artifact.manifest.features.model_inputs:
        given, expected = artifact.golden_inputs()[feature.name], artifact.golden_outputs()[f"{feature.name}_out"]
        assert given.dtype == feature.datatype.dtype
        assert given.shape == (2, *feature.shape)
        np.testing.assert_array_equal(given, expected)
    assert artifact.golden_inputs()["bytes"].tolist() == [b"left", b"right"]


def test_every_flipped_bit_in_any_file_is_detected(written: tuple[Path, str]) -> None:
    path, digest = written
    source = random.Random(7)
    for _ in range(FLIPS):
        file = path / source.choice(FILES)
        content = bytearray(file.read_bytes())
        whole = bytes(content)
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"sha256|digest"):
            open_artifact(path, digest)
        file.write_bytes(whole)
    open_artifact(path, digest)


@pytest.mark.parametrize("name", ["golden.json", "model.onnx"])
def test_a_changed_file_is_refused_with_its_name_and_both_digests(written: tuple[Path, str], name: str) -> None:
    path, digest = written
    expected = json.loads((path / "manifest.json").read_bytes())["files"][name]["sha256"]
    (path / name).write_bytes(b"!" + (path / name).read_bytes()[1:])
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(path, digest)
    found = hashlib.sha256((path / name).read_bytes()).hexdigest()
    assert str(path / name) in str(refusal.value)
    assert found in str(refusal.value)
    assert expected in str(refusal.value)


def test_another_digest_is_refused_with_both(written: tuple[Path, str]) -> None:
    path, digest = written
    other = f"sha256={'0' * 64}"
    with pytest.raises(ArtifactError, match=f"manifest.json: digest is {digest}, must be {other}; fetch"):
        open_artifact(path, other)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 0.5, -1])
def test_a_truncated_file_is_refused(written: tuple[Path, str], name: str, keep: float) -> None:
    path, digest = written
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(len(content) * keep) if keep >= 0 else -1])
    with pytest.raises(ArtifactError, match=name):
        open_artifact(path, digest)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_grew_is_refused(written: tuple[Path, str], name: str) -> None:
    path, digest = written
    with (path / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match=name):
        open_artifact(path, digest)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(written: tuple[Path, str], name: str) -> None:
    path, digest = written
    (path / name).unlink()
    with pytest.raises(
        ArtifactError, match=f"{name}: is missing; fetch the artifact again .`make versions ARGS=fetch`."
    ):
        open_artifact(path, digest)


def test_a_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: is missing"):
        open_artifact(folder / "nowhere", f"sha256={'0' * 64}")


@pytest.mark.parametrize("name", ["weights.bin", "model.pkl", ".hidden", "\x1b[31m"])
def test_a_file_that_is_not_listed_is_refused(written: tuple[Path, str], name: str) -> None:
    path, digest = written
    (path / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"which the manifest .* does not list") as refusal:
        open_artifact(path, digest)
    assert ascii(name) in str(refusal.value)


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_even_to_the_right_content(written: tuple[Path, str], folder: Path, name: str) -> None:
    path, digest = written
    (path / name).rename(folder / "elsewhere")
    (path / name).symlink_to(folder / "elsewhere")
    with pytest.raises(ArtifactError, match=f"{name}: can't be read"):
        open_artifact(path, digest)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_refused(written: tuple[Path, str], name: str) -> None:
    path, digest = written
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(ArtifactError, match=f"{name}: can't be read"):
        open_artifact(path, digest)


def test_a_named_pipe_is_refused_without_waiting(written: tuple[Path, str]) -> None:
    path, digest = written
    (path / "model.onnx").unlink()
    os.mkfifo(path / "model.onnx")
    with pytest.raises(ArtifactError, match=r"model\.onnx: is not a regular file"):
        open_artifact(path, digest)


def test_a_manifest_that_names_a_file_elsewhere_is_refused(written: tuple[Path, str], folder: Path) -> None:
    path, _ = written
    (folder / "secret").write_bytes(b"secret")
    entry = {"sha256": hashlib.sha256(b"secret").hexdigest(), "size": 6}
    digest = rewritten(path, lambda manifest: manifest["files"].update({"../secret": entry}))  # type: ignore[attr-defined]
    with pytest.raises(ArtifactError, match=r"lists \['\.\./secret', .*must list \['golden\.json', 'model\.onnx'\]"):
        open_artifact(path, digest)


@pytest.mark.parametrize("name", ["", "../onnx", "ONNX", "on/nx"])
def test_a_format_that_is_no_plain_name_is_refused(written: tuple[Path, str], name: str) -> None:
    path, _ = written
    digest = rewritten(path, lambda manifest: manifest.update(format=name))
    with pytest.raises(ArtifactError, match="is no format; train it again"):
        open_artifact(path, digest)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", pickle.dumps({"model": "tiny"}), b"{" * 100_000, b'{"model": 1}'],
)
def test_an_invalid_manifest_is_refused(written: tuple[Path, str], content: bytes) -> None:
    path, _ = written
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a Manifest"):
        open_artifact(path, f"sha256={hashlib.sha256(content).hexdigest()}")


def test_a_manifest_with_an_impossible_declaration_is_refused(written: tuple[Path, str]) -> None:
    path, _ = written
    digest = rewritten(path, lambda manifest: manifest["outputs"][0].update(shape=[-1, -1]))  # type: ignore[index]
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a Manifest"):
        open_artifact(path, digest)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"base": [1.0, 2.0]},
        {"base": [1.0, 2.0], "value": ["one", "two"]},
        {"base": [1.0, 2.0], "value": [[1.0], [2.0, 3.0]]},
    ],
)
def test_golden_rows_that_do_not_fit_the_model_are_refused(folder: Path, inputs: dict[str, list[Any]]) -> None:
    model = tiny()
    with pytest.raises(ArtifactError, match=r"golden\.json: does not fit the features and outputs"):
        replace(model, golden=replace(model.golden, inputs=inputs)).opened(folder / "artifact")


def test_an_endless_manifest_is_not_read_to_the_end(written: tuple[Path, str]) -> None:
    path, digest = written
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match=r"manifest\.json: is larger than 1048576 bytes"):
        open_artifact(path, digest)


def test_an_endless_file_is_read_only_up_to_its_declared_size(written: tuple[Path, str]) -> None:
    path, digest = written
    with (path / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match=r"model\.onnx: is larger than \d+ bytes"):
        open_artifact(path, digest)


def test_a_copy_has_no_files_that_the_manifest_does_not_list(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    (path / "notes.txt").write_bytes(b"left behind")
    (folder / "copy").mkdir()
    copy_artifact(path, folder / "copy", digest)
    assert sorted(entry.name for entry in (folder / "copy").iterdir()) == [*FILES, LINEAGE]
    assert open_artifact(folder / "copy", digest).lineage == tiny().lineage


def test_an_installed_artifact_is_stored_under_its_digest(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    target = install_artifact(folder / "root", digest, from_folder(path, digest))
    assert target == artifact_folder(folder / "root", digest) == folder / "root" / digest.removeprefix("sha256=")
    assert open_artifact(target, digest).model == tiny().onnx


def test_an_installed_artifact_is_not_replaced(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    first = install_artifact(folder / "root", digest, from_folder(path, digest)).stat()
    assert install_artifact(folder / "root", digest, from_folder(folder / "nowhere", digest)).stat() == first


def test_a_broken_installed_artifact_is_replaced(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    target = install_artifact(folder / "root", digest, from_folder(path, digest))
    (target / "model.onnx").write_bytes(b"broken")
    assert install_artifact(folder / "root", digest, from_folder(path, digest)) == target
    assert open_artifact(target, digest).model == tiny().onnx
    assert list((folder / "root").iterdir()) == [target]


def test_a_broken_installed_artifact_stays_if_its_replacement_is_broken_too(
    written: tuple[Path, str], folder: Path
) -> None:
    path, digest = written
    target = install_artifact(folder / "root", digest, from_folder(path, digest))
    for place in (path, target):
        (place / "model.onnx").write_bytes(b"broken")
    with pytest.raises(ArtifactError, match=r"model\.onnx: sha256 is"):
        install_artifact(folder / "root", digest, from_folder(path, digest))
    assert list((folder / "root").iterdir()) == [target]
    assert sorted(entry.name for entry in target.iterdir()) == [*FILES, LINEAGE]


def test_a_broken_download_leaves_nothing_behind(written: tuple[Path, str], folder: Path) -> None:
    path, digest = written
    (path / "model.onnx").write_bytes(b"broken")
    with pytest.raises(ArtifactError, match=r"model\.onnx: sha256 is"):
        install_artifact(folder / "root", digest, from_folder(path, digest))
    assert list((folder / "root").iterdir()) == []


def test_an_artifact_is_never_seen_half_written(
    written: tuple[Path, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = written
    target = artifact_folder(folder / "root", digest)
    seen: list[bool] = []
    write = artifacts.write_synced

    def watched(file: Path, content: bytes) -> None:
        write(file, content)
        seen.append(target.exists())

    monkeypatch.setattr(artifacts, "write_synced", watched)
    install_artifact(folder / "root", digest, from_folder(path, digest))
    assert seen == [False, False, False]
    assert target.exists()


def test_what_a_killed_download_left_is_removed_a_day_later(folder: Path) -> None:
    path = folder / "source"
    digest = tiny().write(path)
    old, young = folder / "root" / ".staging-old", folder / "root" / ".staging-young"
    for left in (old, young):
        (left / "arriving").mkdir(parents=True)
    os.utime(old, (0, 0))
    install_artifact(folder / "root", digest, from_folder(path, digest))
    assert (old.exists(), young.exists()) == (False, True)
