"""Create the untracked files that Docker Compose needs: `.env`, `secrets/`, `registry/` and `batch/`.

`make setup`, `train`, `rebuild` and `up` call `prepare` first, so that plain `docker compose` commands work
afterwards. Needs only the standard library, and no Docker.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.process import SetupError

PROJECT = "COMPOSE_PROJECT_NAME"

_DOTENV = ".env"
_HEADER = "# Compose reads this. The repo's commands write the values that they choose; your own lines stay."
_ASSIGNMENT = re.compile(r"(?:export +)?(?P<name>\w+)=(?P<value>.*)")
_SECRET_BYTES = 32


def prepare(root: Path) -> None:
    """Create the missing files and print their names.

    :raises SetupError: a file can't be written
    """
    try:
        for folder in ("registry", "batch"):
            (root / folder).mkdir(exist_ok=True)
        _create_secrets(root)
        _name_project(root)
    except OSError as error:
        raise SetupError(f"error: {error.filename}: can't be written ({error.strerror}); Compose needs it.") from None


def settings(root: Path) -> dict[str, str]:
    """Return the variables of .env and the environment; the environment wins, as in Compose."""
    return _written(root) | os.environ


def remember(root: Path, values: Mapping[str, str]) -> None:
    """Set variables in .env; every other line stays."""
    lines = _lines(root) or [_HEADER]
    for name, value in values.items():
        places = [place for place, line in enumerate(lines) if (m := _ASSIGNMENT.match(line)) and m["name"] == name]
        for place in places:
            lines[place] = f"{name}={value}"
        if not places:
            lines.append(f"{name}={value}")
    text = "\n".join(lines) + "\n"
    path = root / _DOTENV
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        _write_whole(path, text, mode=0o644)


def declared_secrets(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that a Compose slot needs in secrets/, and its provider, if the user supplies it."""
    for listing in sorted((root / "compose").glob("*.secrets")):
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, issuer = line.partition(":")
            yield name.strip(), issuer.strip()


def _create_secrets(root: Path) -> None:
    folder = root / "secrets"
    for name, issuer in declared_secrets(root):
        secret = folder / name
        if secret.exists():
            continue
        folder.mkdir(mode=0o700, exist_ok=True)
        # Readable in the container, private on the host: its user is neither owner nor group, and the folder is 0700.
        _write_whole(secret, "" if issuer else secrets.token_urlsafe(_SECRET_BYTES), mode=0o444)
        print(f"created secrets/{name}" + (f", empty: write the secret from {issuer} into it" if issuer else ""))


def _name_project(root: Path) -> None:
    """Write a unique project name to .env; a name that the user chose stays."""
    slug = _service_name(root)
    ours = f"{slug}-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"
    named = _written(root).get(PROJECT, "")
    chosen = named and not re.fullmatch(rf"{re.escape(slug)}-[0-9a-f]{{6}}", named)
    if chosen or named == ours:
        return
    remember(root, {PROJECT: ours})
    if named:
        print(
            f"this folder was copied or moved: its containers are now named {ours}. If {named} still runs and "
            f"you do not need it: docker compose --project-name {named} down"
        )


def _service_name(root: Path) -> str:
    """Return the service's name in the characters that Compose allows."""
    path = root / "config" / "service.toml"
    try:
        name = str(tomllib.loads(path.read_text(encoding="utf-8"))["service"]["name"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SetupError(f"error: {path}: must have a table [service] with a name ({error}).") from None
    return re.sub(r"[^a-z0-9_-]", "-", name.lower()).lstrip("-_") or "serving"


def _written(root: Path) -> dict[str, str]:
    return {match["name"]: match["value"].strip("\"'") for match in map(_ASSIGNMENT.match, _lines(root)) if match}


def _lines(root: Path) -> list[str]:
    try:
        return (root / _DOTENV).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file atomically: under another name, then rename it."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.chmod(mode)
    draft.replace(path)
