"""Model versions: register, import, list, show, promote, roll back, fetch, verify and copy.

A reference is `scheme:model/version#sha256=<hex>`; without `#sha256=...` a command looks the digest up, and
`scheme:model@champion` is the version that has the stage. `champion` is what is served: promoting it, and rolling it
back, rewrite model.lock. A rollback goes to the version that model.lock had before, in this clone and on this branch,
not to what another branch trained meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from serving.domain.artifacts import MANIFEST, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.references import Reference, find_lock, parse_pinned, read_lock
from serving.domain.settings import shared_settings
from serving.offline import project
from serving.offline.bootstrap import default_scheme, fetch, open_registry
from serving.offline.pinning import pin, served_digest, served_version
from serving.offline.registry import (
    CHAMPION,
    NONE,
    STAGES,
    TIMEOUT_S,
    TRANSFER_TIMEOUT_S,
    ModelRegistry,
    copy,
    promotion_stack,
)

_Options = argparse.Namespace
_LONGEST_S = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    return COMMANDS[options.command](options)


def current_user() -> str:
    """Return the name of the current user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        return "unknown"


def _open(options: _Options, scheme: str) -> ModelRegistry:
    deadlines = {"timeout": options.timeout, "transfer_timeout": options.transfer_timeout}
    return open_registry(scheme, options.registry, **deadlines)


def _register(options: _Options) -> int:
    manifest = options.artifact / MANIFEST
    if not manifest.is_file():
        raise OperatorError(f"{options.artifact}: has no {MANIFEST}, so it is not an artifact; `make train` makes one.")
    artifact = open_artifact(options.artifact, options.digest)
    registry = _open(options, options.to)
    reference = registry.register(artifact.manifest.model, options.artifact, artifact.digest)
    _print(options, {"reference": str(reference)}, str(reference))
    return 0


def _import(options: _Options) -> int:
    from serving.offline.pickle_import import Wanted, import_model  # not in the fetch image, which imports no model

    wanted = Wanted(
        options.source,
        options.rows,
        options.text,
        options.model,
        options.description,
        options.matrix,
        trusted=options.trusted,
    )
    with contextlib.redirect_stdout(sys.stderr):  # progress messages are not part of the output
        reference = import_model(wanted, _open(options, default_scheme()))
    _print(options, {"reference": str(reference)}, str(reference))
    return 0


def _list(options: _Options) -> int:
    model = options.model or project.service()["name"]
    scheme = options.scheme
    registry = _open(options, scheme)
    record = registry.record(model)
    has = {stage: had[-1].version for stage in STAGES if (had := promotion_stack(record.promotions, stage))}
    served = find_lock(project.LOCK)
    rows: list[dict[str, Any]] = [
        {
            "reference": str(known.reference),
            "registered_at": known.registered_at,
            "stages": [stage for stage, version in has.items() if version == known.reference.version],
            "served": known.reference == served,
            "origin": known.origin,
        }
        for known in record.versions
    ]
    lines = [
        f"{row['registered_at']}  {row['reference']}  {','.join(row['stages']) or '-'}"
        + ("  <- model.lock" if row["served"] else "")
        for row in rows
    ]
    _print(options, rows, "\n".join(lines) or f"no version of {model} in the {scheme} registry; run `make train`")
    return 0


def _show(options: _Options) -> int:
    """Print lineage, signature and promotions of a version; fetches and verifies its artifact."""
    registry = _open(options, options.reference.scheme)
    found = registry.resolve(options.reference)
    artifact = open_artifact(registry.fetch(found, options.artifacts), found.digest)
    manifest = artifact.manifest
    promotions = [asdict(entry) for entry in registry.record(found.model).promotions if entry.version == found.version]
    details = {
        "reference": str(found),
        "format": manifest.format,
        "inputs": {feature.name: feature.datatype.value for feature in manifest.features.model_inputs},
        "outputs": {spec.name: spec.datatype.value for spec in manifest.outputs},
        "lineage": artifact.lineage.outline(),
        "promotions": promotions,
    }
    _print(options, details, _outline(details))
    return 0


def _resolve(options: _Options) -> int:
    found = _open(options, options.reference.scheme).resolve(options.reference)
    _print(options, {"reference": str(found)}, str(found))
    return 0


def _promote(options: _Options) -> int:
    expect = options.expect
    if expect is None:
        if options.stage != CHAMPION:
            raise OperatorError(f"--expect is missing; say which version is {options.stage} now, or `--expect {NONE}`.")
        expect = served_version(options.reference)
    registry = _open(options, options.reference.scheme)
    found = registry.resolve(options.reference)
    registry.fetch(found, options.artifacts)  # promote only what can be fetched and verified
    champion = options.stage == CHAMPION
    served = served_digest() if champion else None
    promotion = registry.promote(found, options.stage, expect=expect, by=current_user(), replaced=served)
    text = f"{found} is {options.stage}"
    if champion and _pin(options, registry, found) and served:
        text += "\nrunning servers keep the previous version until `make deploy` (containers) or a new `make run`"
    _print(options, asdict(promotion), text)
    return 0


def _rollback(options: _Options) -> int:
    served = read_lock(project.LOCK)
    model, scheme = options.model or served.model, options.scheme or served.scheme
    registry = _open(options, scheme)
    if options.stage == CHAMPION:
        has = promotion_stack(registry.record(model).promotions, CHAMPION)
        if has and has[-1].digest != served.digest:
            raise OperatorError(
                f"{project.LOCK.name} says {served}, but {scheme}:{model}@{CHAMPION} is version {has[-1].version}; "
                f"promote the intended one, then roll back."
            )
    goal = registry.previous(model, options.stage)
    print(f"rolling back to {goal} ...", file=_aside(options))
    registry.fetch(goal, options.artifacts)  # what can't be fetched and verified is not gone back to
    promotion = registry.rollback(model, options.stage, by=current_user())
    found = Reference(scheme, model, promotion.version, promotion.digest)
    if options.stage == CHAMPION:
        _pin(options, registry, found)
    _print(options, asdict(promotion), f"{found} is {options.stage} again")
    return 0


def _pin(options: _Options, registry: ModelRegistry, reference: Reference) -> bool:
    with contextlib.redirect_stdout(_aside(options)):
        return pin(registry, reference, options.artifacts)


def _aside(options: _Options) -> TextIO:
    """Return the stream for messages that are not part of the output."""
    return sys.stderr if options.json else sys.stdout


def _fetch(options: _Options) -> int:
    wanted = parse_pinned(options.reference, "reference") if options.reference else shared_settings().reference()
    place = fetch(wanted, _open(options, wanted.scheme), options.artifacts)
    _print(options, {"reference": str(wanted), "folder": str(place)}, f"fetched {wanted} to {place}")
    return 0


def _verify(options: _Options) -> int:
    """Compare the artifacts folder and the registry with the digest."""
    registry = _open(options, options.reference.scheme)
    found = registry.resolve(options.reference)
    place = registry.fetch(found, options.artifacts)
    open_artifact(place, found.digest)
    _print(options, {"reference": str(found), "folder": str(place)}, f"verified {found}")
    return 0


def _copy(options: _Options) -> int:
    source = _open(options, options.reference.scheme)
    copied = copy(source, options.reference, _open(options, options.target), options.artifacts)
    _print(options, {"reference": str(copied)}, str(copied))
    return 0


COMMANDS: Mapping[str, Callable[[_Options], int]] = {
    "register": _register,
    "import": _import,
    "list": _list,
    "show": _show,
    "resolve": _resolve,
    "promote": _promote,
    "rollback": _rollback,
    "fetch": _fetch,
    "verify": _verify,
    "copy": _copy,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.offline.model_version",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--registry", type=Path, default=project.REGISTRY, help="folder of the local registry")
    for name, seconds, what in (
        ("timeout", TIMEOUT_S, "an answer"),
        ("transfer-timeout", TRANSFER_TIMEOUT_S, "an artifact"),
    ):
        text = f"seconds to wait for {what} from a registry (default: %(default)g)"
        parser.add_argument(f"--{name}", type=_seconds, default=seconds, metavar="SECONDS", help=text)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON")
        added.add_argument("--artifacts", type=Path, default=project.ARTIFACTS, help="folder of fetched artifacts")
        return added

    registering = command("register", "store an artifact folder as the next version")
    registering.add_argument("artifact", type=Path, help="folder with manifest.json, model and golden rows")
    registering.add_argument("digest", help="sha256=<64 hex digits> of its manifest.json")
    registering.add_argument("--to", default=default_scheme(), help="scheme of the registry")
    importing = command("import", "convert a model to ONNX, compare the two on every row, register it")
    importing.add_argument("source", type=Path, help="a model file, or a folder of MLflow or MLServer")
    importing.add_argument("--rows", type=Path, required=True, help="CSV: names of the columns, then rows")
    importing.add_argument("--text", action="append", default=[], metavar="COLUMN", help="a column of digits is text")
    importing.add_argument(
        "--matrix", metavar="NAME[:FP64]", help="all columns are this one input, and outputs have MLServer's names"
    )
    importing.add_argument("--trusted", action="store_true", help="open a pickle here, with your rights")
    importing.add_argument("--model", help="name of the model (default: that in MLServer, or this repo's)")
    importing.add_argument("--description", help="what it predicts")
    listing = command("list", "list the versions of a model, oldest first")
    listing.add_argument("model", nargs="?", help="name of the model (default: this repo's)")
    listing.add_argument("--scheme", default=default_scheme(), help="scheme of the registry")
    for name, text in (
        ("show", "print lineage, signature and promotions of a version"),
        ("resolve", "print the pinned form of a reference"),
        ("verify", "fetch a version and compare every byte with its digest"),
    ):
        command(name, text).add_argument("reference", type=Reference.parse, help="for example local:my-model/3")
    promoting = command("promote", "move a stage to a version; the champion is what is served")
    promoting.add_argument("reference", type=Reference.parse, help="for example local:my-model/3")
    promoting.add_argument("--stage", default=CHAMPION, choices=STAGES)
    promoting.add_argument(
        "--expect", help=f"version that holds the stage now, or {NONE} ({CHAMPION}: that of model.lock)"
    )
    rolling = command("rollback", "return to the version served before")
    rolling.add_argument("model", nargs="?", help="name of the model (default: that of model.lock)")
    rolling.add_argument("--scheme", help="scheme of the registry (default: that of model.lock)")
    rolling.add_argument("--stage", default=CHAMPION, choices=STAGES)
    fetching = command("fetch", "copy a pinned version to the artifacts folder and verify it")
    fetching.add_argument("reference", nargs="?", help="pinned reference (default: the one to serve)")
    copying = command("copy", "register a version in another registry, under the same digest")
    copying.add_argument("reference", type=Reference.parse, help="for example local:my-model/3")
    copying.add_argument("target", help="scheme of the other registry")
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= _LONGEST_S:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; write one above 0, at most {_LONGEST_S:g}")


def _print(options: _Options, value: Any, text: str) -> None:
    print(json.dumps(value, indent=1) if options.json else text, file=sys.stdout)


def _outline(value: Any, indent: str = "") -> str:
    """Return nested values as indented lines."""
    lines = []
    for key, entry in value.items():
        entries = entry if isinstance(entry, list) else [entry]
        for part in entries or ["-"]:
            if isinstance(part, Mapping):
                lines += [f"{indent}{key}:", _outline(part, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {part}")
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    project.run(main)
