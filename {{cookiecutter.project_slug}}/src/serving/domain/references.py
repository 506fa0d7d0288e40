"""Model references.

`scheme:model/version#sha256=<hex>` names one artifact for good; `scheme:model@stage` is for people and CI only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from serving.domain.errors import UnresolvedReference, quoted

_REFERENCE = re.compile(
    r"(?P<scheme>[a-z][a-z0-9]*):(?P<model>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)"
    r"(?:/(?P<version>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:#(?P<digest>sha256=[0-9a-f]{64}))?|@(?P<stage>[a-z][a-z0-9_-]*))"
)
_DIGEST = re.compile(r"sha256=[0-9a-f]{64}")

FORM = "scheme:model/version#sha256=<64 hex digits>"
LOCK_KEY = "MODEL_VERSION="


@dataclass(frozen=True)
class Reference:
    """Name a model version; it is pinned if it has the digest of the artifact."""

    scheme: str
    model: str
    version: str = ""
    digest: str = ""
    stage: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        :raises UnresolvedReference: the text is not one
        """
        match = _REFERENCE.fullmatch(text.strip())
        if match is None:
            raise UnresolvedReference(f"model reference {quoted(text, 128)} can't be parsed; the form is {FORM}.")
        return cls(**{key: value or "" for key, value in match.groupdict().items()})

    @property
    def pinned(self) -> bool:
        """Whether the reference names exactly one artifact, for good."""
        return bool(self.version and self.digest)

    def pin(self, version: str, digest: str) -> Reference:
        """Return the reference to one version and its digest."""
        return replace(self, version=version, digest=digest, stage="")

    def __str__(self) -> str:
        tail = f"@{self.stage}" if self.stage else f"/{self.version}"
        return f"{self.scheme}:{self.model}{tail}" + (f"#{self.digest}" if self.digest else "")


def parse_pinned(text: str, source: str) -> Reference:
    """Read a reference that must be pinned; messages name its `source`."""
    reference = Reference.parse(text)
    if not reference.pinned:
        raise UnresolvedReference(
            f"{source}: {quoted(text, 128)} is not pinned; write {FORM}, "
            f"which `python -m serving.offline.model_version resolve {reference}` prints."
        )
    return reference


def read_lock(path: Path) -> Reference:
    """Read the version that a lock file pins.

    :raises UnresolvedReference: the file is missing, pins nothing yet, or holds anything but one pinned reference
    """
    reference = find_lock(path)
    if reference is None:
        raise UnresolvedReference(f"{path}: pins no model version yet; run `make train`.")
    return reference


def find_lock(path: Path) -> Reference | None:
    """Read the one line `MODEL_VERSION=<pinned reference>` of a lock file; None where nothing is pinned yet.

    The form is that of an env file, so that Compose reads it too; lines that start with # are comments.

    :raises UnresolvedReference: the file holds anything else
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UnresolvedReference(f"{path}: can't be read ({type(error).__name__}).") from None
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(entries) != 1 or not entries[0].startswith(LOCK_KEY):
        raise UnresolvedReference(f"{path}: must be one line {LOCK_KEY}<pinned reference>; run `make train`.")
    reference = entries[0].removeprefix(LOCK_KEY)
    return parse_pinned(reference, str(path)) if reference else None


def write_lock(path: Path, reference: Reference) -> None:
    """Pin a reference as the version to serve."""
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(f"{LOCK_KEY}{reference}\n", encoding="utf-8")
    staged.replace(path)


def is_digest(text: str) -> bool:
    """Return whether the text is `sha256=` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None
