"""Bounded reads, and writes that reach the disk before they return."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from serving.domain.errors import ArtifactError

# Follow no link and do not block: opening a named pipe would otherwise wait for ever.
_READ_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; follow no link.

    :raises ArtifactError: it is missing, no regular file, too large or can't be read
    """
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, _READ_FLAGS)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactError(f"{path}: is not a regular file.")
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing; fetch the artifact again (`make versions ARGS=fetch`).") from None
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read ({error.strerror}).") from None
    if len(content) > limit:
        raise ArtifactError(f"{path}: is larger than {limit} bytes, the most that its manifest or format allows.")
    return content


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
