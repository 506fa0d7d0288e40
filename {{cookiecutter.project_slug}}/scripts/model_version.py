"""Model versions from the command line: list them, resolve a reference, fetch a pinned version."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts import project
from serving.adapters.model_registry import DEFAULT_SCHEME, open_registry
from serving.references import Reference, parse_pinned, read_lock
from serving.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.model_version", description=__doc__)
    parser.add_argument("--registry", type=Path, default=project.REGISTRY, help="folder of the local registry")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the versions of a model, oldest first")
    listing.add_argument("model", nargs="?", help="name of the model; this repo's own if left out")
    resolving = commands.add_parser("resolve", help="print the pinned form of a reference")
    resolving.add_argument("reference", help="for example local:my-model/3")
    fetching = commands.add_parser("fetch", help="bring a pinned version to the artifacts folder, verified")
    fetching.add_argument("reference", nargs="?", help="pinned reference; the one to be served if left out")
    fetching.add_argument("--artifacts", type=Path, default=project.ARTIFACTS, help="digest-addressed folder")
    options = parser.parse_args(arguments)
    if options.command == "list":
        return _list(options.registry, options.model or project.service()["name"])
    if options.command == "resolve":
        reference = Reference.parse(options.reference)
        print(open_registry(reference.scheme, options.registry).resolve(reference))
        return 0
    wanted = parse_pinned(options.reference, "reference") if options.reference else load_settings().reference()
    print(f"fetched {wanted} to {fetch(wanted, options.registry, options.artifacts)}")
    return 0


def fetch(reference: Reference, registry: Path, artifacts: Path) -> Path:
    """Bring a pinned version below a digest-addressed folder; return where it lies."""
    return open_registry(reference.scheme, registry).fetch(reference, artifacts)


def _list(registry: Path, model: str) -> int:
    served = read_lock(project.LOCK) if project.LOCK.exists() else None
    versions = open_registry(DEFAULT_SCHEME, registry).versions(model)
    for known in versions:
        mark = "  <- model.lock" if known.reference == served else ""
        print(f"{known.registered_at}  {known.reference}{mark}")
    if not versions:
        print(f"no version of {model} in {registry}; run `make train`")
    return 0


if __name__ == "__main__":
    project.run(main)
