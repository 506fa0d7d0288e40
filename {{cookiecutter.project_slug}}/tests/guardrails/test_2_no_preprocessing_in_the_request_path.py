"""Mistake 2: preprocessing in the request path.

What changes rarely is computed in batch, kept in the feature store and read by key. What remains to be computed for a
request is part of the exported model. So no training library is needed to serve, and none can be reached.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tests.guardrails.dockerfile import Stage, contributing, images, stages
from tests.guardrails.source import (
    COMPUTED,
    allowed,
    calls,
    functions,
    nodes,
    of_modules,
    requirements,
    server_imports,
    tree_of,
)
from tests.guardrails.violations import ROOT, Violation, report

# Import name -> package name, where they differ.
TRAINING = {
    "catboost": "", "category_encoders": "", "cv2": "opencv-python", "dask": "", "feature_engine": "",
    "featuretools": "", "fastai": "", "imblearn": "imbalanced-learn", "jax": "", "joblib": "", "keras": "",
    "lightgbm": "", "nltk": "",
    "onnx": "", "onnxmltools": "", "pandas": "", "PIL": "pillow", "polars": "", "pyspark": "", "scipy": "",
    "sklearn": "scikit-learn", "skl2onnx": "", "spacy": "", "statsmodels": "", "tensorflow": "",
    "tf2onnx": "", "torch": "", "torchvision": "", "transformers": "", "xgboost": "",
}  # fmt: skip
NOT_THE_SERVERS = ("benchmarks", "model", "serving.modeling", "serving.offline", "serving_client", "tests", "tools")
NOT_COPIED = ("model", "src/serving/adapters/model_registry", "src/serving/modeling", "src/serving/offline", "tools")
# What makes the environment of an image lies in tools/, and stays in the stage that builds.
INSTALLER = tuple(f"tools/{name}.py" for name in ("__init__", "environment", "process", "uv"))
PACKAGE_OF = {name: package or name.replace("_", "-") for name, package in TRAINING.items()}
PACKAGES = set(PACKAGE_OF.values())
# What a library that serves brings itself. That none of our code imports it, another rule below holds.
BROUGHT = {"feast": {"dask", "pandas"}}
NOT_SERVED = ("dev", "framework", "import", "model", "model_registry", "plots", "ray", "train")
BOOTSTRAP = "src/serving/online/bootstrap.py"
RUNTIMES = "src/serving/adapters/runtime/"
STORES = "src/serving/adapters/feature_store/__init__.py"


def test_nothing_is_preprocessed_in_the_request_path() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place where training code or static features get into the request path."""
    return [
        *no_training_code_is_imported(root),
        *no_training_package_is_required(root),
        *server_image_holds_no_training(root),
        *static_features_come_from_the_store(root),
    ]


def no_training_code_is_imported(root: Path) -> Iterator[Violation]:
    """By no file that the server runs, inside functions too."""
    why = "the first call pays for loading it, every call for running it, and training and serving drift apart"
    fix = "compute it in model/ (exported with the model) or in src/serving/offline/materialize.py (goes to the store)"
    frameworks = allowed(root, "frameworks")
    for found in of_modules(server_imports(root), *TRAINING, *NOT_THE_SERVERS, COMPUTED):
        if found.file.startswith(RUNTIMES) and found.module.partition(".")[0] in frameworks:
            continue
        hidden = found.module == COMPUTED
        what = "an import whose name is computed: nobody can see what it brings" if hidden else found.module
        yield Violation(found.file, found.line, f"the server imports {what}", why, fix)


def no_training_package_is_required(root: Path) -> Iterator[Violation]:
    """Neither by name nor in a lock: every slot but those of NOT_SERVED is in the server's image."""
    frameworks = {PACKAGE_OF[name] for name in allowed(root, "frameworks") & TRAINING.keys()}
    for file in sorted((root / "requirements").glob("*")):
        if file.suffix not in (".in", ".txt") or file.stem in NOT_SERVED:
            continue
        path = file.relative_to(root).as_posix()
        asked = {package for package, _, _ in requirements(root, path.removesuffix(file.suffix) + ".in")}
        brought = frameworks if file.stem == "runtime" else set[str]()
        if file.suffix == ".txt":
            brought = brought.union(*(BROUGHT.get(package, ()) for package in asked))
        for package, line, _ in requirements(root, path):
            if package in PACKAGES - brought:
                yield Violation(
                    path,
                    line,
                    f"{package} is installed in the server's image",
                    "what is there gets used, and a training library is hundreds of megabytes of attack surface",
                    "list it in model/requirements.in and run `make lock`",
                )


def server_image_holds_no_training(root: Path) -> Iterator[Violation]:
    """The image that runs `python -m serving` gets neither model/ nor tools/ nor packages that it doesn't need."""
    for image in images(root)[0]:
        everything = stages(root, image.file)
        if any("serving" in command.arguments() for command in image.all("CMD", "ENTRYPOINT")[-1:]):
            for stage in contributing(image, everything):
                yield from _copies_no_training(stage)
            for lock in NOT_SERVED:
                yield from _does_not_install(f"requirements/{lock}.txt", image, everything)


def static_features_come_from_the_store(root: Path) -> Iterator[Violation]:
    """Where the repo has a store, no caller sends what the declaration calls static."""
    if not (root / "src/serving/offline/materialize.py").exists():
        return
    why = "the caller would send, and someone would look up or compute, on every call what changes once a year"
    for name, file in _stores(root):
        for method in functions(tree_of(file)):
            if method.name == "supplies" and ast.unparse(method.body[-1]) != "return features.static":
                what = f"the store {name} does not supply all static features, so they become inputs of the request"
                place = (file.relative_to(root).as_posix(), method.body[-1].lineno)
                yield Violation(*place, what, why, "return features.static")
    tree = tree_of(root / BOOTSTRAP)
    supplied = {
        ast.unparse(node.targets[0])
        for node in nodes(tree)
        if isinstance(node, ast.Assign) and any(True for _ in calls(node.value, "supplies"))
    }
    for signature in calls(tree, "Signature"):
        asked = next(calls(signature, "request_inputs"), None)
        if asked is None or [ast.unparse(argument) for argument in asked.args] not in [[name] for name in supplied]:
            yield Violation(
                BOOTSTRAP,
                signature.lineno,
                "the request's inputs are not what the store leaves over",
                why,
                "make the signature from features.request_inputs(supplied), supplied from store.supplies(features)",
            )


def _stores(root: Path) -> Iterator[tuple[str, Path]]:
    """Give the adapters that feature_store.py imports, each with its file."""
    for node in nodes(tree_of(root / STORES)):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        file = root.joinpath("src", *module.split(".")).with_suffix(".py")
        if module.startswith("serving.adapters.") and file.exists():
            yield module.rpartition(".")[2], file


def _copies_no_training(stage: Stage) -> Iterator[Violation]:
    for step in stage.instructions:
        if step.name in ("COPY", "ADD") and "from" not in step.options():
            for folder in NOT_COPIED:
                if any(_covers(source, folder) for source in step.arguments()[:-1] if source not in INSTALLER):
                    yield Violation(
                        stage.file,
                        step.line,
                        f"the server's image gets {folder}/: {step.name} {step.text}",
                        "what is in the image can be imported by the request path, and reads the training data",
                        "copy domain, the adapters that the server opens, prediction, online and serving_client only",
                    )


def _does_not_install(lock: str, image: Stage, everything: list[Stage]) -> Iterator[Violation]:
    steps = [(stage, step) for stage in contributing(image, everything) for step in stage.instructions]
    brought = any(
        _covers(source, lock)
        for _, step in steps
        if step.name in ("COPY", "ADD") and "from" not in step.options()
        for source in step.arguments()[:-1]
    )
    for stage, step in steps:
        for command in step.commands() if step.name == "RUN" else []:
            if command[0] in ("rm", "mv") and lock in command:
                brought = False
            elif _installs(command, lock, brought=brought):
                yield Violation(
                    stage.file,
                    step.line,
                    f"the server's image gets packages that it does not need ({lock})",
                    "what trains or opens a registry is larger than all the rest of it, and gets used once it is there",
                    f"leave {lock} out of this installation, and install it in a separate image",
                )


def _installs(command: list[str], lock: str, *, brought: bool) -> bool:
    """Tell whether a command installs a lock: by its slot's name, by its file's name, or by a pattern over all."""
    if "tools.environment" in command:
        return posixpath.basename(lock).removesuffix(".txt") in command
    installer = any(word.rpartition("/")[2].startswith(("pip", "uv")) for word in command)
    return (
        "install" in command and installer and (brought or posixpath.basename(lock) in map(posixpath.basename, command))
    )


def _covers(source: str, path: str) -> bool:
    """Tell whether copying `source` brings `path`, or something in it."""
    normal = posixpath.normpath(source).lstrip("/") or "."
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return normal == "." or any(fnmatch(name, normal) for name in above) or normal.startswith(f"{path}/")
