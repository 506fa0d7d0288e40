"""The file of a packed model: how its library saved it, and which of its answers are the outputs.

A zip without compression and dates, so that the same model has the same digest:

    model.json      what `Description` holds
    model           the bytes that the library wrote
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from serving.domain.errors import ArtifactError, quoted

_DESCRIPTION, _MODEL = "model.json", "model"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Ask:
    """Say how one output is asked for: `predict` or `predict_proba`, then one column of it, then a label by number."""

    output: str
    method: str
    column: int | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """Say which library wrote a model and what it is asked for.

    `classes` are those of a classifier whose file does not name them. `python` is the version that can read a pickle.
    """

    library: str
    asks: tuple[Ask, ...]
    classes: tuple[int | str, ...] = ()
    python: str = ""


def pack(description: Description, model: bytes) -> bytes:
    """Return both as one file."""
    return archive({_DESCRIPTION: json.dumps(asdict(description), sort_keys=True).encode(), _MODEL: model})


def unpack(content: bytes) -> tuple[Description, bytes]:
    """Return what was packed.

    :raises ArtifactError: the content is no packed model
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in packed.infolist()):
                # Compressed, a small file could fill the memory.
                raise ArtifactError("model.python: its entries are compressed; train it again.")
            return TypeAdapter(Description).validate_json(packed.read(_DESCRIPTION)), packed.read(_MODEL)
    except (zipfile.BadZipFile, KeyError, ValidationError, OSError, RuntimeError) as error:
        raise ArtifactError(f"model.python: is no packed model ({quoted(error, 120)}); train it again.") from None


def archive(files: dict[str, bytes]) -> bytes:
    """Return files as a zip that depends on nothing but their names and contents."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return target.getvalue()


def without_dates(content: bytes) -> bytes:
    """Return a zip whose entries have no dates."""
    with zipfile.ZipFile(io.BytesIO(content)) as saved:
        return archive({name: saved.read(name) for name in sorted(saved.namelist())})
