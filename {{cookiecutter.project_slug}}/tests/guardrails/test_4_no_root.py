"""Mistake 4: processes that run as root.

Who breaks into a process gets what the process has. So the image ends as a numeric user without rights and holds no
tool to build or install with, the container can't write to its own files and has no capability, and no secret is in
either: not in a layer, not in the environment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from tests.guardrails.compose import Entry, Service, documents, services
from tests.guardrails.credentials import holds_a_secret, named_like_a_secret
from tests.guardrails.dockerfile import Instruction, Stage, images
from tests.guardrails.violations import ROOT, Violation, report

NUMERIC = "65532:65532"
BUILD_TOOLS = ("build-essential", "clang", "cmake", "g++", "gcc", "gfortran", "git", "make", "pkg-config", "rustc")
INSTALLERS = ("pip", "pip3", "poetry", "uv", "conda", "mamba")
SYSTEM_INSTALLERS = ("apk", "apt", "apt-get", "dnf", "microdnf", "yum")
OTHERS = ("cap_add", "devices", "ipc", "pid", "privileged", "userns_mode")
NOT_GIVEN = ("", "false", "private")

ESCAPE = "whoever breaks into this process is root in the container, and one kernel bug away from root on the machine"
LEAK = "it stays readable for everyone who has the image or may inspect the container, and can't be taken back"
BY_FILE = "mount it as a file: `--mount=type=secret` for a build, `secrets:` with a file in compose"


def test_nothing_runs_as_root_and_no_secret_is_baked_in() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place where a process gets more rights than it needs, or a secret is left lying."""
    built, missing = images(root)
    return [
        *(finding for image in built for finding in image_violations(image)),
        *(_no_such_stage(entry) for entry in missing),
        *(finding for service in services(root) for finding in container_violations(service)),
        *secrets_come_from_files(root),
    ]


def image_violations(image: Stage) -> Iterator[Violation]:
    """Return what is wrong with one image and the stages that it stands on."""
    yield from _ends_as_a_user_without_rights(image)
    yield from _holds_no_build_tools(image)
    yield from _starts_in_exec_form(image)
    for stage in image.lineage():
        for step in stage.instructions:
            yield from _holds_no_secret(stage, step)
            yield from _copies_what_it_names(stage, step)


def container_violations(service: Service) -> Iterator[Violation]:
    """Return what is wrong with one service, in any of the Compose files."""
    yield from _runs_as_a_user_without_rights(service)
    yield from _is_locked_down(service)
    for name, entry in service.environment():
        if named_like_a_secret(name) or holds_a_secret(str(entry.value)):
            yield Violation(entry.file, entry.line, f"{service.name}: {name} in the environment", LEAK, BY_FILE)
    for block in service.all("build", "args"):
        for name, entry in block.below():
            if named_like_a_secret(name) or holds_a_secret(str(entry.value)):
                yield Violation(entry.file, entry.line, f"{service.name}: {name} as a build argument", LEAK, BY_FILE)
    for key in ("command", "entrypoint"):
        for entry in service.all(key):
            for word in (word for text in entry.texts() for word in text.split()):
                if holds_a_secret(word) or (word.startswith("--") and _is_secret_option(word)):
                    what = f"{service.name}: a secret on the command line: {word.partition('=')[0]}"
                    yield Violation(entry.file, entry.line, what, "every process on the machine can read it", BY_FILE)


def secrets_come_from_files(root: Path) -> Iterator[Violation]:
    """A secret of Compose names a file, or lies outside of Compose."""
    for document in documents(root):
        block = document.get("secrets")
        for name, entry in block.below() if block else []:
            if entry.get("file") is None and entry.get("external") is None:
                fix = "give it a `file:` below secrets/, which git ignores and `make up` fills"
                yield Violation(entry.file, entry.line, f"the secret {name} does not come from a file", LEAK, fix)


def _ends_as_a_user_without_rights(image: Stage) -> Iterator[Violation]:
    users = image.all("USER")
    if not users:
        yield Violation(image.file, image.line, f"{image.name} has no USER, so it runs as root", ESCAPE, _user())
    elif not _is_numeric_and_not_root(users[-1].text):
        what = f"{image.name} ends as USER {users[-1].text}"
        yield Violation(image.file, users[-1].line, what, ESCAPE, _user())


def _holds_no_build_tools(image: Stage) -> Iterator[Violation]:
    if not any("from" in step.options() for step in image.all("COPY")):
        yield Violation(
            image.file,
            image.line,
            f"{image.name} is built in a single stage",
            "compilers, installers and caches stay in the image: hundreds of megabytes that only help an intruder",
            "install in a separate stage and take the result over with COPY --from",
        )
    for stage in image.lineage():
        for step in stage.instructions:
            for command in step.commands() if step.name == "RUN" else []:
                tools = _installed(command)
                if tools:
                    yield Violation(
                        stage.file,
                        step.line,
                        f"{image.name} installs in its own stage: {tools}",
                        "what installs and compiles for you does so for an intruder as well",
                        "do it in the build stage, and take the result over with COPY --from",
                    )


def _installed(command: list[str]) -> str:
    """Return what a shell command installs that does not belong in an image that runs."""
    names = [posixpath.basename(word) for word in command]
    if "install" in names and not set(INSTALLERS).isdisjoint(names):
        return " ".join(command)
    if {"install", "add"} & set(names) and not set(SYSTEM_INSTALLERS).isdisjoint(names):
        return " ".join(name for name in names if name.partition("=")[0] in BUILD_TOOLS or name.endswith("-dev"))
    return ""


def _starts_in_exec_form(image: Stage) -> Iterator[Violation]:
    starts = image.all("CMD", "ENTRYPOINT")
    fix = 'write it as a list: ["python", "-m", "serving"]'
    if not starts:
        why = "what runs is then decided by the base image"
        yield Violation(image.file, image.line, f"{image.name} says nowhere what it runs", why, fix)
    for step in (*starts, *image.all("HEALTHCHECK")):
        if not step.exec_form() and step.text != "NONE":
            why = "a shell starts it and keeps SIGTERM for itself, so calls in flight are cut off when it stops"
            yield Violation(image.file, step.line, f"{step.name} in shell form", why, fix)


def _holds_no_secret(stage: Stage, step: Instruction) -> Iterator[Violation]:
    for name, value in step.pairs() if step.name in ("ARG", "ENV", "LABEL") else []:
        if named_like_a_secret(name) or holds_a_secret(value):
            yield Violation(stage.file, step.line, f"{step.name} {name} is, or holds, a secret", LEAK, BY_FILE)
    if step.name in ("RUN", "CMD", "ENTRYPOINT") and holds_a_secret(step.text):
        yield Violation(stage.file, step.line, f"a secret in {step.name}", LEAK, BY_FILE)


def _copies_what_it_names(stage: Stage, step: Instruction) -> Iterator[Violation]:
    sources = step.arguments()[:-1] if step.name in ("ADD", "COPY") else []
    for source in sources:
        if step.name == "ADD" and ("://" in source or source.startswith("git@")):
            why = "nobody checks what comes, and it may be something else tomorrow"
            fix = "copy a file that is in git, or download it in the build stage and compare its sha256"
            yield Violation(stage.file, step.line, f"ADD from {source}", why, fix)
        elif "from" not in step.options() and posixpath.normpath(source).strip("/") in (
            "",
            ".",
            "*",
            ".env",
            "secrets",
        ):
            why = "whatever lies in the folder gets into the image: .env, secrets/, the git history"
            yield Violation(stage.file, step.line, f"{step.name} {source}", why, "name the folders that it needs")


def _runs_as_a_user_without_rights(service: Service) -> Iterator[Violation]:
    if not service.always("user"):
        place = (service.entry.file, service.entry.line)
        yield Violation(*place, f"{service.name} does not say as whom it runs", ESCAPE, _user("user: "))
    for entry in service.all("user"):
        user = str(entry.value)
        if not _is_numeric_and_not_root(user):
            yield Violation(entry.file, entry.line, f"{service.name} runs as {user}", ESCAPE, _user("user: "))


def _is_locked_down(service: Service) -> Iterator[Violation]:
    bounded = "one request that goes wrong takes the memory or the processes of the whole machine"
    wanted = (
        (("read_only",), "true", "an intruder can change the code and leave tools behind"),
        (("cap_drop",), "ALL", "root's rights come in pieces, and a container is born with fourteen of them"),
        (("security_opt",), "no-new-privileges:true", "a setuid program turns any user into root"),
        (("init",), "true", "processes that end are never cleaned up, and signals get lost"),
        (("pids_limit",), "", bounded),
        (("mem_limit",), "", bounded),
    )
    for path, value, why in wanted:
        said = service.always(*path) or (service.always("deploy", "resources", "limits") if value == "" else [])
        if not said:
            place = (service.entry.file, service.entry.line)
            what = f"{service.name} does not set {path[-1]}"
            yield Violation(*place, what, why, f"set {path[-1]}{f' to {value}' if value else ''}")
        for entry in service.all(*path):
            texts = [text.lower() for text in entry.texts()]
            is_set = value.lower() in texts if value else texts[:1] not in ([""], ["0"], ["-1"])
            if not is_set:
                what = f"{service.name} sets {path[-1]} to {', '.join(texts) or 'nothing'}"
                yield Violation(entry.file, entry.line, what, why, f"set it to {value or 'a limit'}")
    for key in OTHERS:
        for entry in service.all(key):
            if [text for text in entry.texts() if text not in NOT_GIVEN]:
                what = f"{service.name} is given {key}: {', '.join(entry.texts())}"
                yield Violation(entry.file, entry.line, what, ESCAPE, f"remove {key}: serving a model needs none of it")
    for entry in service.all("volumes"):
        for _, scalar in entry.scalars():
            if "docker.sock" in str(scalar.value) or "containerd.sock" in str(scalar.value):
                what = f"{service.name} gets the container engine's socket"
                why = "who can talk to the engine can start a container that is root on the machine"
                yield Violation(scalar.file, scalar.line, what, why, "remove the mount")


def _is_numeric_and_not_root(user: str) -> bool:
    return all(part.isdecimal() and int(part) != 0 for part in user.split(":"))


def _is_secret_option(word: str) -> bool:
    name = word.partition("=")[0].removeprefix("--")
    return named_like_a_secret(name) or name == "requirepass"


def _user(before: str = "USER ") -> str:
    return f"write `{before}{NUMERIC}`: numeric, since only a number can be checked not to be root"


def _no_such_stage(entry: Entry) -> Violation:
    stage = entry.value if isinstance(entry.value, str) else "that comes last"
    what = f"builds the stage {stage}, which the Dockerfile does not have"
    why = "nothing can be said about the rights of an image that is not described"
    return Violation(entry.file, entry.line, what, why, "name a stage of the Dockerfile")
