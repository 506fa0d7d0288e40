from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.errors import UnresolvedReference
from serving.domain.references import Reference, is_digest, parse_pinned, read_lock, write_lock

DIGEST = f"sha256={'0123456789abcdef' * 4}"
PINNED = f"local:my-model/1#{DIGEST}"


@given(
    scheme=st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True),
    model=st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,3}", fullmatch=True),
    version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    digest=st.sampled_from(["", DIGEST]),
)
def test_a_reference_parses_back_from_its_text(scheme: str, model: str, version: str, digest: str) -> None:
    reference = Reference(scheme, model, version, digest)
    assert Reference.parse(str(reference)) == reference
    assert reference.pinned == bool(digest)


def test_a_stage_is_not_a_pinned_reference() -> None:
    reference = Reference.parse("mlflow:my-model@production")
    assert (reference.stage, reference.pinned, str(reference)) == ("production", False, "mlflow:my-model@production")


def test_pinning_drops_the_stage() -> None:
    assert str(Reference.parse("local:my-model@production").pin("1", DIGEST)) == PINNED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my-model/1",
        "local:my-model",
        "local:my-model/",
        "local:../x/1",
        "local:my-model/../1",
        "local:my-model/1#md5=00",
        f"local:my-model/1#{DIGEST[:-1]}",
        f"local:my-model/1#{DIGEST.upper()}",
        f"local:my-model@stage#{DIGEST}",
        f"{PINNED} {PINNED}",
        "local:my-model/1\x1b[31m",
        "é:x/1",
    ],
)
def test_an_invalid_reference_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(
        UnresolvedReference, match="can't be parsed; the form is scheme:model/version#sha256="
    ) as refusal:
        Reference.parse(text)
    assert str(refusal.value).isascii()
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["local:my-model/1", "local:my-model@production"])
def test_an_unpinned_reference_is_refused_where_a_pinned_one_is_required(text: str) -> None:
    with pytest.raises(UnresolvedReference, match=f"MODEL_VERSION: '{text}' is not pinned; write scheme:model/version"):
        parse_pinned(text, "MODEL_VERSION")


@pytest.mark.parametrize(("text", "right"), [(DIGEST, True), (DIGEST[7:], False), (DIGEST + "0", False), ("", False)])
def test_a_digest_is_sha256_and_64_digits(text: str, right: bool) -> None:
    assert is_digest(text) is right


def test_a_lock_holds_what_was_written(folder: Path) -> None:
    write_lock(folder / "model.lock", Reference.parse("local:other/7").pin("7", DIGEST))
    write_lock(folder / "model.lock", Reference.parse(PINNED))
    assert str(read_lock(folder / "model.lock")) == PINNED
    assert (folder / "model.lock").read_text(encoding="utf-8") == f"MODEL_VERSION={PINNED}\n"
    assert [entry.name for entry in folder.iterdir()] == ["model.lock"]


def test_comments_and_blank_lines_in_a_lock_are_ignored(folder: Path) -> None:
    (folder / "model.lock").write_text(f"# chosen on Monday\n\n  MODEL_VERSION={PINNED}  \n", encoding="utf-8")
    assert str(read_lock(folder / "model.lock")) == PINNED


def test_a_missing_lock_says_what_to_run(folder: Path) -> None:
    with pytest.raises(UnresolvedReference, match=r"model\.lock: pins no model version yet; run `make train`\."):
        read_lock(folder / "model.lock")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must be one line MODEL_VERSION=<pinned reference>; run `make train`"),
        (f"MODEL_VERSION={PINNED}\n".encode() * 2, "must be one line"),
        (f"{PINNED}\n".encode(), "must be one line"),
        (b"<<<<<<< HEAD\n", "must be one line"),
        (b"MODEL_VERSION=\n", "pins no model version yet; run `make train`"),
        (b"MODEL_VERSION=local:my-model/1\n", "is not pinned"),
        (b"MODEL_VERSION=my model\n", "can't be parsed"),
        (b"\xff\xfe", r"can't be read \(UnicodeDecodeError\)"),
    ],
)
def test_a_lock_must_name_exactly_one_artifact(folder: Path, content: bytes, words: str) -> None:
    (folder / "model.lock").write_bytes(content)
    with pytest.raises(UnresolvedReference, match=words):
        read_lock(folder / "model.lock")


def test_a_folder_in_place_of_a_lock_is_refused(folder: Path) -> None:
    with pytest.raises(UnresolvedReference, match="can't be read"):
        read_lock(folder)
