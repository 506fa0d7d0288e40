"""Mistake 5: model versions that nobody tracks.

What is served is named by a reference that can mean one artifact only: version and sha256. The server opens it by that
digest, compares before it loads, and has no way to fetch, follow or unpickle anything else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.guardrails.compose import documents, services
from tests.guardrails.dockerfile import all_stages, named
from tests.guardrails.image_names import resolved, unpinned
from tests.guardrails.references import FORM, follows_a_stage, is_pinned
from tests.guardrails.source import (
    allowed,
    calls,
    functions,
    imports,
    last_name,
    nodes,
    of_modules,
    python_files,
    requirements,
    server_files,
    server_imports,
    texts,
    tree_of,
)
from tests.guardrails.violations import ROOT, Violation, report

ARTIFACTS = "src/serving/domain/artifacts.py"
BOOTSTRAP = "src/serving/online/bootstrap.py"
SETTINGS = "src/serving/domain/settings.py"
UNPICKLERS = ("_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve", "skops", "torch")
UNPICKLING = ("load_model_from_pickle", "read_pickle")
REGISTRIES = (
    "clearml", "comet_ml", "huggingface_hub", "mlflow", "neptune", "serving.adapters.model_registry", "serving.offline",
    "wandb",
)  # fmt: skip
DOWNLOADERS = (
    "aiohttp", "azure.storage", "boto3", "botocore", "ftplib", "fsspec", "gcsfs", "google.cloud", "http.client",
    "httpx", "minio", "paramiko", "requests", "s3fs", "smbclient", "urllib.request", "urllib3",
)  # fmt: skip
MOVES = "it means another model tomorrow: nobody can say later which one answered, nor go back to it"
PIN = f"write {FORM}; `python -m serving.offline.model_version resolve <reference>` prints it"


def test_what_is_served_is_pinned_verified_and_known() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place where what is served could change without a commit."""
    return [
        *lock_is_one_pinned_reference(root),
        *compose_insists_on_a_version(root),
        *nothing_follows_a_stage(root),
        *nothing_is_unpickled(root),
        *server_fetches_nothing(root),
        *artifact_is_verified_before_it_is_loaded(root),
        *images_are_pinned(root),
        *libraries_are_locked(root),
    ]


def lock_is_one_pinned_reference(root: Path) -> Iterator[Violation]:
    """model.lock has one line that counts; it may be empty after `MODEL_VERSION=` until a model is trained."""
    file = root / "model.lock"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    entries = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
    if file.exists() and len(entries) != 1:
        what = f"holds {len(entries)} references, not one"
        yield Violation("model.lock", 1, what, "nobody can tell which one is served", "`make train` writes it")
    for number, line in entries:
        key, equals, reference = line.partition("=")
        if not equals or key != "MODEL_VERSION" or (reference and not is_pinned(reference)):
            yield Violation("model.lock", number, f"{line} is not pinned", MOVES, PIN)


def compose_insists_on_a_version(root: Path) -> Iterator[Violation]:
    """The server's MODEL_VERSION has no default: starting without a choice fails."""
    for service in services(root):
        versions = [entry for name, entry in service.environment() if name == "MODEL_VERSION"]
        if service.name == "server" and not versions:
            place = (service.entry.file, service.entry.line)
            fix = "set MODEL_VERSION: ${MODEL_VERSION:?...}; `make up` fills it from model.lock"
            yield Violation(*place, "the server does not get the version to serve", MOVES, fix)
        for entry in versions:
            if not str(entry.value).startswith("${MODEL_VERSION:?"):
                what = f"MODEL_VERSION is {entry.value}, which is there even if nobody chose"
                fix = "write ${MODEL_VERSION:?...}; `make up` fills it from model.lock, the one place for it"
                yield Violation(entry.file, entry.line, what, MOVES, fix)
    for node in nodes(tree_of(root / SETTINGS)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in ("model_version", "model_sha256"):
            default = _default_of(node.value)
            if not (isinstance(default, ast.Constant) and default.value == ""):
                what = f"the setting {ast.unparse(node.target)} has a default"
                yield Violation(SETTINGS, node.lineno, what, MOVES, "leave it empty: model.lock says what is served")


def nothing_follows_a_stage(root: Path) -> Iterator[Violation]:
    """No text in what serves is a reference that moves, and no call asks for one."""
    places = [
        (entry.file, entry.line, str(entry.value)) for document in documents(root) for _, entry in document.scalars()
    ]
    places += [(stage.file, step.line, step.text) for stage in all_stages(root) for step in stage.instructions]
    for file in sorted((root / "config").rglob("*")):
        if file.is_file():
            lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
            places += [(file.relative_to(root).as_posix(), number, line.partition("#")[0]) for number, line in lines]
    for file in server_files(root):
        name = file.relative_to(root).as_posix()
        tree = tree_of(file)
        places += [(name, line, text) for line, text, _ in texts(tree)]
        for node in nodes(tree):
            if isinstance(node, ast.Attribute | ast.Name) and "latest" in last_name(node).split("_"):
                yield Violation(name, node.lineno, f"{last_name(node)}: the latest version of something", MOVES, PIN)
    for path, line, text in places:
        for word in text.translate(str.maketrans("\"'`,;()=", " " * 8)).split():
            if follows_a_stage(word):
                yield Violation(path, line, f"{word} is a reference that moves", MOVES, PIN)


def nothing_is_unpickled(root: Path) -> Iterator[Violation]:
    """The server can't read a format that runs code when it is read."""
    why = "unpickling runs whatever the file says: who can write the artifact owns the server"
    fix = "export to ONNX, as `make train` does: it holds numbers and operators, and no code"
    for file in server_files(root):
        name = file.relative_to(root).as_posix()
        if name in allowed(root, "unpickles"):
            continue
        tree = tree_of(file)
        for found in of_modules(imports(root, file), *UNPICKLERS):
            yield Violation(name, found.line, f"imports {found.module}, which runs code when it reads", why, fix)
        for call in (node for node in nodes(tree) if isinstance(node, ast.Call)):
            allows = [
                word for word in call.keywords if word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
            ]
            if allows or next(calls(call, *UNPICKLING), None) is call:
                yield Violation(name, call.lineno, f"unpickles: {ast.unparse(call)[:60]}", why, fix)


def server_fetches_nothing(root: Path) -> Iterator[Violation]:
    """The server imports no registry and no way to download."""
    why = "a server that fetches needs a token and a network, fails with the registry, and may get another model"
    fix = "fetch in src/serving/offline/ before the server starts; it opens the artifact by its digest"
    found = server_imports(root)
    others = {each.module for each in found if re.match(r"(\w+_)?registry\b", each.module)}
    for each in of_modules(found, *others, *REGISTRIES, *DOWNLOADERS):
        yield Violation(each.file, each.line, f"the server imports {each.module}", why, fix)


def artifact_is_verified_before_it_is_loaded(root: Path) -> Iterator[Violation]:
    """bootstrap opens by the reference's digest; artifacts compares sha256; the runtime gets the bytes compared."""
    why = "a model that was changed, or half copied, is served as if it were the one that was tested"
    tree = tree_of(root / BOOTSTRAP)
    opened = [call for call in calls(tree, "open_artifact") if ast.unparse(call.args[-1]).endswith("reference.digest")]
    if not opened:
        fix = "open it with open_artifact(folder, reference.digest)"
        yield Violation(BOOTSTRAP, 1, "the artifact is not opened by the digest of the reference", why, fix)
    for load in calls(tree, "load_runtime"):
        if not opened or load.lineno < opened[0].lineno:
            yield Violation(BOOTSTRAP, load.lineno, "the model is loaded before it is verified", why, "open it first")
    checks = {"open_artifact": "digest", "_verified": ".sha256"}
    defined = {function.name: function for function in functions(tree_of(root / ARTIFACTS))}
    for name, expected in checks.items():
        if name not in defined or not _refuses_what_differs(defined[name], expected):
            line = defined[name].lineno if name in defined else 1
            what = f"{name} does not refuse bytes whose sha256 is not the expected one"
            yield Violation(ARTIFACTS, line, what, why, f"compare with {expected.strip('.')} and raise ArtifactError")
    for file in python_files(root, "src/serving/adapters"):
        for call in calls(tree_of(file), "InferenceSession"):
            if not call.args or not ast.unparse(call.args[0]).endswith("artifact.model"):
                what = "the runtime loads something else than the bytes that were compared"
                name = file.relative_to(root).as_posix()
                yield Violation(name, call.lineno, what, why, "give it artifact.model, which are those bytes")


def images_are_pinned(root: Path) -> Iterator[Violation]:
    """Every image that is not built here has a tag that names a version, or a digest."""
    why = "the same commit runs other software tomorrow"
    fix = "write the tag with its version, such as redis:8.10.2-trixie, or the digest"
    for service in services(root):
        for entry in service.all("image"):
            name = resolved(str(entry.value), {"COMPOSE_PROJECT_NAME": "this-clone"})
            reason = unpinned(name)
            if reason and ("latest" in reason or not service.all("build")):  # what is built here needs no version
                yield Violation(entry.file, entry.line, f"{service.name}: the image {name} {reason}", why, fix)
    everything = all_stages(root)
    for stage in everything:
        taken = [(step.line, step.options()["from"]) for step in stage.instructions if "from" in step.options()]
        others = [(line, image) for line, image in taken if named(everything, image) is None]
        for line, image in [*([(stage.line, stage.base)] if stage.base else []), *others]:
            if unpinned(image):
                yield Violation(stage.file, line, f"the image {image} {unpinned(image)}", why, fix)


def libraries_are_locked(root: Path) -> Iterator[Violation]:
    """Every lock names one version of each package, and images install nothing but locks."""
    why = "a library that changes under a model changes its answers, and no version says so"
    for file in sorted((root / "requirements").glob("*.txt")):
        path = file.relative_to(root).as_posix()
        for package, line, text in requirements(root, path):
            if "==" not in text:
                yield Violation(path, line, f"{package} is not pinned", why, "`make lock` writes this file")
    runs = [(stage, step) for stage in all_stages(root) for step in stage.instructions if step.name == "RUN"]
    for stage, step in runs:
        for command in step.commands():
            if "pip" in command and "install" in command and "--require-hashes" not in command:
                what = "pip installs what it finds, not what is locked"
                fix = "install with --require-hashes from requirements/*.txt"
                yield Violation(stage.file, step.line, what, why, fix)


def _default_of(value: ast.expr | None) -> ast.expr | None:
    """Return the default that `= value` or `= Field(default=value)` gives."""
    if not isinstance(value, ast.Call):
        return value
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    return given.get("default", value.args[0] if value.args else None)


def _refuses_what_differs(function: ast.AST, expected: str) -> bool:
    """Tell whether the function raises where something is not equal to what is expected."""
    for branch in (node for node in ast.walk(function) if isinstance(node, ast.If)):
        unequal = [
            ast.unparse(side)
            for node in ast.walk(branch.test)
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.NotEq)
            for side in (node.left, *node.comparators)
        ]
        raises = any(isinstance(statement, ast.Raise) for statement in branch.body)
        if raises and any(side.endswith(expected) for side in unequal):
            return True
    return False
